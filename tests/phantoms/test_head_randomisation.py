"""Synthetic heads: annotated as the phantoms are, and of looks that vary more than theirs."""

from __future__ import annotations

import numpy as np
import pytest

from t4e_utils.phantoms.head_painting import paint
from t4e_utils.phantoms.head_randomisation import EYE_MM, TUMOUR_ML, make_synthetic_patient
from t4e_utils.phantoms.head_scans import make_patient

SIZE = 40
CONTRASTS = ("FLAIR", "T1w", "T1wCE", "T2w")


@pytest.fixture(scope="module")
def heads():
    return [make_synthetic_patient(seed, size=SIZE) for seed in range(24)]


def brain_of(head):
    """The brain of a head: what the phantom of the same anatomy shows."""
    values, _ = paint(head.head, head.labels.affine, head.labels.array.shape, ["T1w"])
    return values[0] > 0


def has_skull(head):
    return np.count_nonzero(head.contrasts["T1w"].array) > 1.3 * np.count_nonzero(brain_of(head))


def test_the_same_seed_draws_the_same_head_and_another_seed_another_one(heads):
    again = make_synthetic_patient(3, size=SIZE)
    for contrast in CONTRASTS:
        np.testing.assert_array_equal(
            again.contrasts[contrast].array, heads[3].contrasts[contrast].array
        )
        assert not np.array_equal(
            again.contrasts[contrast].array, heads[4].contrasts[contrast].array
        )


def test_grid_and_types_are_those_of_the_phantoms(heads):
    phantom = make_patient(0, 0, size=SIZE)
    for head in heads:
        assert set(head.contrasts) == set(CONTRASTS)
        for volume, like in (
            (head.labels, phantom.labels),
            *((head.contrasts[c], phantom.contrasts[c]) for c in CONTRASTS),
        ):
            assert (volume.array.shape, volume.array.dtype) == (like.array.shape, like.array.dtype)
            np.testing.assert_allclose(volume.affine, like.affine)


def test_the_brain_is_above_zero_and_holds_the_tumour_and_without_a_skull_the_rest_is_exactly_zero(
    heads,
):
    for head in heads:
        brain = brain_of(head)
        assert not head.labels.array[~brain].any()
        for volume in head.contrasts.values():
            assert (volume.array[brain] > 0).all()
            assert has_skull(head) or not volume.array[~brain].any()


def test_tumours_are_small_and_large_and_only_some_enhance(heads):
    voxel_ml = np.prod(heads[0].labels.spacing_mm) / 1000
    sizes = [np.count_nonzero(head.labels.array) * voxel_ml for head in heads]
    assert min(sizes) > 0.8 * TUMOUR_ML[0]  # voxels of 5.6 mm
    assert max(sizes) < 1.2 * TUMOUR_ML[1]
    assert max(sizes) > 5 * min(sizes)
    # a thick rim may leave no core
    assert all({0, 2} < set(np.unique(head.labels.array)) <= {0, 1, 2, 4} for head in heads)
    assert 0.5 < np.mean([4 in head.labels.array for head in heads]) < 0.95


def test_some_heads_have_a_skull_and_it_lies_outside_the_brain(heads):
    assert 0.2 < np.mean([has_skull(head) for head in heads]) < 0.8
    head = next(head for head in heads if has_skull(head))
    brain = brain_of(head)
    middle = head.contrasts["T1w"].array[len(brain) // 2]
    rows, columns = np.flatnonzero(middle.any(axis=1)), np.flatnonzero(middle.any(axis=0))
    inner = brain[len(brain) // 2]
    assert rows[0] < np.flatnonzero(inner.any(axis=1))[0]
    assert columns[-1] > np.flatnonzero(inner.any(axis=0))[-1]


def test_both_eyes_hold_fluid_which_is_bright_on_t2w_and_dark_on_flair(heads):
    for head in filter(has_skull, heads):
        for side in (-1, 1):
            world = head.head.pose[:, :3] @ ([side, 1, 1] * np.array(EYE_MM)) + head.head.pose[:, 3]
            eye = tuple(np.rint(np.linalg.inv(head.labels.affine) @ [*world, 1])[:3].astype(int))
            ratio = {
                name: volume.array[eye] / np.median(volume.array[brain_of(head)])
                for name, volume in head.contrasts.items()
            }
            assert ratio["FLAIR"] < 0.7 < 1.5 < ratio["T2w"]


def relative(head, contrast, label):
    """Brightness of the tumour over that of the healthy brain."""
    values, labels = head.contrasts[contrast].array, head.labels.array
    return np.median(values[labels == label]) / np.median(values[brain_of(head) & (labels == 0)])


def test_contrast_varies_more_than_among_phantoms_but_oedema_stays_bright_on_flair_and_t2w(heads):
    phantoms = [make_patient(seed, 0, size=SIZE) for seed in range(8)]
    for contrast in ("FLAIR", "T2w"):
        drawn, usual = (
            [relative(head, contrast, 2) for head in group] for group in (heads, phantoms)
        )
        assert np.ptp(np.log(drawn)) > 3 * np.ptp(np.log(usual))
        assert min(drawn) > 1
    rims = [relative(head, "T1wCE", 4) for head in heads if 4 in head.labels.array]
    assert np.quantile(rims, 0.1) > 1  # a thin one that is blurred need not stand out
    assert np.mean([relative(head, "T1w", 2) < 1 for head in heads]) > 0.9
