"""Networks over slices: the fast path equals the plain one, and masks land where the tissue is."""

import numpy as np
import pytest
import torch
from helpers.stand_ins import BrightIsTumour, disc

from t4e_utils.learning.devices import autocast
from t4e_utils.learning.networks import build_classifier, load_network, normalise
from t4e_utils.learning.plan import TrainingError
from t4e_utils.learning.weights import save_weights
from t4e_utils.prediction.influence import occlusion_influence
from t4e_utils.prediction.masks import region_probabilities, segment_slices
from t4e_utils.prediction.sequences import (
    chunk_probabilities,
    classify_sequence,
    embed_slices,
    view_of,
)
from t4e_utils.prediction.tta import MASK_VIEWS, VIEWS, turn, undo_view
from t4e_utils.sampling.chunks import chunk_bounds


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(0)
    return build_classifier("test_nfnet", lstm_hidden=8, sequence_length=6).eval()


@pytest.fixture(scope="module")
def pictures():
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (40, 36, 3), dtype=np.uint8) for _ in range(14)]


@pytest.mark.parametrize("zoom", [1.0, 1.2])
@pytest.mark.parametrize("is_stretched", [True, False])
def test_masks_land_on_the_bright_disc_whatever_the_way_to_the_square(zoom, is_stretched):
    truth = disc((60, 48), (33, 20), 9)
    images = np.where(truth, 200, 30)[None].astype(np.uint8)
    masks = segment_slices(
        BrightIsTumour().eval(), images, size=96, is_stretched=is_stretched, zoom=zoom
    )
    overlap = 2 * (masks[0, 0] & truth).sum() / (masks[0, 0].sum() + truth.sum())
    assert masks.shape == (2, 1, 60, 48)
    assert overlap > 0.93
    assert not masks[1].any()


def test_what_the_zoom_cuts_off_is_not_tumour():
    images = np.full((1, 60, 60), 255, np.uint8)
    masks = segment_slices(BrightIsTumour().eval(), images, size=64, zoom=1.2)
    assert masks[0, 0, 30, 30]
    assert not masks[0, 0, [0, 2, -1, -3], :].any()


def test_masks_do_not_depend_on_the_batch_size():
    images = np.random.default_rng(1).integers(0, 256, (7, 32, 32), dtype=np.uint8)
    parts = [
        np.concatenate(
            [
                maps
                for _, maps in region_probabilities(
                    BrightIsTumour().eval(), images, size=32, batch_size=b
                )
            ]
        )
        for b in (1, 3, 7)
    ]
    np.testing.assert_allclose(parts[0], parts[1], atol=1e-6)
    np.testing.assert_allclose(parts[0], parts[2], atol=1e-6)


def test_no_slices_give_no_masks():
    assert segment_slices(
        BrightIsTumour().eval(), np.zeros((0, 20, 20), np.uint8), size=32
    ).shape == (2, 0, 20, 20)


@pytest.mark.parametrize("n", [1, 5, 6, 7, 14])
def test_windows_over_embeddings_equal_the_plain_computation_chunk_by_chunk(
    classifier, pictures, n
):
    squares = view_of(pictures[:n], 32)
    fast = chunk_probabilities(classifier, embed_slices(classifier, squares), length=6, stride=2)
    slow = []
    for start, stop in chunk_bounds(n, length=6, stride=2):
        chunk = np.zeros((1, 6, 3, 32, 32), np.uint8)
        chunk[0, : stop - start] = squares[start:stop]
        with torch.no_grad():
            slow.append(float(classifier(normalise(torch.from_numpy(chunk))).sigmoid()))
    np.testing.assert_allclose(fast, slow, atol=1e-5)


def test_predictions_do_not_depend_on_the_batch_size(classifier, pictures):
    one, other = (
        classify_sequence(classifier, pictures, size=32, length=6, stride=2, batch_size=b)
        for b in (1, 16)
    )
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_views_are_averaged_as_probabilities(classifier, pictures):
    options = {"size": 32, "length": 6, "stride": 2}
    both = classify_sequence(classifier, pictures, views=("identity", "hflip"), **options)
    single = [
        classify_sequence(classifier, pictures, views=(view,), **options)
        for view in ("identity", "hflip")
    ]
    np.testing.assert_allclose(both, np.mean(single, axis=0), atol=1e-12)
    assert not np.allclose(single[0], single[1], atol=1e-7)


def test_views_turn_the_picture_as_their_names_say(pictures):
    plain = view_of(pictures[:1], 40)
    np.testing.assert_array_equal(view_of(pictures[:1], 40, view="hflip"), plain[..., ::-1])
    np.testing.assert_array_equal(view_of(pictures[:1], 40, view="vflip"), plain[..., ::-1, :])
    wide = np.zeros((40, 40, 3), np.uint8)
    wide[disc((40, 40), (19.5, 19.5), 10)] = 255
    grown = view_of([wide], 40, view="zoom_1.2") > 127
    assert grown[0, 0].sum() / (wide[..., 0] > 127).sum() == pytest.approx(1.44, rel=0.05)
    assert all(view_of(pictures[:2], 32, view=view).shape == (2, 3, 32, 32) for view in VIEWS)


def test_a_rotation_turns_counter_clockwise_about_the_centre():
    square = np.zeros((1, 41, 41), np.uint8)
    square[0, 18:23, 35:40] = 255
    row, column = (
        np.average(axis, weights=turn(square, "rotate_10")[0]) for axis in np.indices((41, 41))
    )
    angle = np.radians(10)
    assert (row, column) == pytest.approx(
        (20 - 17 * np.sin(angle), 20 + 17 * np.cos(angle)), abs=0.15
    )


@pytest.mark.parametrize("view", MASK_VIEWS)
def test_turned_back_a_mask_is_where_it_was(view):
    truth = disc((64, 64), (24, 38), 11)[None]
    back = undo_view(turn(truth.astype(np.float32), view), view) > 0.5
    assert 2 * (back & truth).sum() / (back.sum() + truth.sum()) > 0.98


@pytest.mark.parametrize("views", [("rotate_10",), ("hflip", "vflip"), MASK_VIEWS])
def test_masks_of_turned_views_land_where_the_tissue_is(views):
    truth = disc((60, 48), (33, 20), 9)
    images = np.where(truth, 200, 30)[None].astype(np.uint8)
    masks = segment_slices(BrightIsTumour().eval(), images, size=96, views=views)
    assert 2 * (masks[0, 0] & truth).sum() / (masks[0, 0].sum() + truth.sum()) > 0.93


def test_maps_of_views_are_averaged_as_probabilities():
    images = np.random.default_rng(2).integers(0, 256, (3, 32, 32), dtype=np.uint8)
    both, plain, turned = (
        np.concatenate(
            [
                maps
                for _, maps in region_probabilities(
                    BrightIsTumour().eval(), images, size=32, views=views
                )
            ]
        )
        for views in (("identity", "rotate_10"), ("identity",), ("rotate_10",))
    )
    np.testing.assert_allclose(both, (plain + turned) / 2, atol=1e-6)


def test_half_precision_is_near_and_the_lstm_stays_in_full(classifier, pictures):
    options = {"size": 32, "length": 6, "stride": 2}
    full = classify_sequence(classifier, pictures, **options)
    with autocast(torch.device("cpu"), "bf16"):
        assert embed_slices(classifier, view_of(pictures[:2], 32)).dtype == torch.bfloat16
        half = classify_sequence(classifier, pictures, **options)
    np.testing.assert_allclose(half, full, atol=0.02)
    with autocast(torch.device("cpu"), "auto"):
        np.testing.assert_array_equal(classify_sequence(classifier, pictures, **options), full)
    with pytest.raises(TrainingError, match="fp16' needs a GPU"):
        autocast(torch.device("cpu"), "fp16")


def test_a_saved_network_is_loaded_for_inference(tmp_path, classifier, pictures):
    save_weights(classifier, tmp_path / "best.safetensors", {})
    loaded = load_network(tmp_path / "best.safetensors")
    assert not loaded.training
    options = {"size": 32, "length": 6, "stride": 2}
    np.testing.assert_array_equal(
        classify_sequence(loaded, pictures, **options),
        classify_sequence(classifier, pictures, **options),
    )


@pytest.mark.parametrize("n", [4, 9])
def test_the_influence_of_a_slice_is_what_a_black_picture_in_its_place_takes_away(
    classifier, pictures, n
):
    options = {"size": 32, "length": 6, "stride": 2, "views": ("identity", "hflip")}
    whole = classify_sequence(classifier, pictures[:n], **options).mean()
    slow = []
    for k in range(n):
        without = [
            np.zeros_like(picture) if place == k else picture
            for place, picture in enumerate(pictures[:n])
        ]
        slow.append(whole - classify_sequence(classifier, without, **options).mean())
    found = occlusion_influence(classifier, pictures[:n], **options)
    np.testing.assert_allclose(found, slow, atol=1e-6)
    assert np.ptp(found) > 1e-4
