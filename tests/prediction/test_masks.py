"""Masks land where the tissue is, whatever the way to the square and back."""

import numpy as np
import pytest
import torch
from helpers.stand_ins import BrightIsTumour, disc, precisions_of

from t4e_utils.prediction.masks import MaskReading, region_probabilities, segment_slices
from t4e_utils.prediction.tta import MASK_VIEWS

TRUTH = disc((60, 48), (33, 20), 9)
IMAGES = np.where(TRUTH, 200, 30)[None].astype(np.uint8)


def overlap(mask, truth):
    return 2 * (mask & truth).sum() / (mask.sum() + truth.sum())


def maps_of(images, **reading):
    """All probabilities (N, R, H, W) of a stand-in."""
    parts = region_probabilities(BrightIsTumour(), images, MaskReading(**reading))
    return np.concatenate([maps for _, maps in parts])


@pytest.mark.parametrize("zoom", [1.0, 1.2])
@pytest.mark.parametrize("is_stretched", [True, False])
def test_masks_land_on_the_bright_disc_whatever_the_way_to_the_square(zoom, is_stretched):
    segmenter = BrightIsTumour(96, is_stretched=is_stretched)
    masks = segment_slices(segmenter, IMAGES, MaskReading(zoom=zoom))
    assert masks.shape == (2, 1, 60, 48)
    assert overlap(masks[0, 0], TRUTH) > 0.93
    assert not masks[1].any()


def test_what_the_zoom_cuts_off_is_not_tumour():
    images = np.full((1, 60, 60), 255, np.uint8)
    masks = segment_slices(BrightIsTumour(64), images, MaskReading(zoom=1.2))
    assert masks[0, 0, 30, 30]
    assert not masks[0, 0, [0, 2, -1, -3], :].any()


def test_masks_do_not_depend_on_the_batch_size():
    images = np.random.default_rng(1).integers(0, 256, (7, 32, 32), dtype=np.uint8)
    parts = [maps_of(images, batch_size=n) for n in (1, 3, 7)]
    np.testing.assert_allclose(parts[0], parts[1], atol=1e-6)
    np.testing.assert_allclose(parts[0], parts[2], atol=1e-6)


def test_the_threshold_is_that_of_the_reading():
    images = np.full((1, 32, 32), 128, np.uint8)  # probability 0.55
    for threshold, is_tumour in ((0.5, True), (0.6, False)):
        masks = segment_slices(BrightIsTumour(), images, MaskReading(threshold))
        assert masks[0].all() == masks[0].any() == is_tumour


def test_no_slices_give_no_masks():
    none = np.zeros((0, 20, 20), np.uint8)
    assert segment_slices(BrightIsTumour(), none, MaskReading()).shape == (2, 0, 20, 20)


@pytest.mark.parametrize("views", [("rotate_10",), ("hflip", "vflip"), MASK_VIEWS])
def test_masks_of_turned_views_land_where_the_tissue_is(views):
    masks = segment_slices(BrightIsTumour(96), IMAGES, MaskReading(views=views))
    assert overlap(masks[0, 0], TRUTH) > 0.93


def test_maps_of_views_are_averaged_as_probabilities():
    images = np.random.default_rng(2).integers(0, 256, (3, 32, 32), dtype=np.uint8)
    ways = ("identity", "rotate_10"), ("identity",), ("rotate_10",)
    both, plain, turned = (maps_of(images, views=views) for views in ways)
    np.testing.assert_allclose(both, (plain + turned) / 2, atol=1e-6)


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("fp32", torch.float32), ("auto", torch.float32), ("bf16", torch.bfloat16)],
)
def test_slices_are_segmented_in_the_precision_of_the_recipe(precision, dtype):
    segmenter = BrightIsTumour(precision=precision)
    found = precisions_of(segmenter)
    segment_slices(segmenter, IMAGES, MaskReading())
    assert found == {dtype}
