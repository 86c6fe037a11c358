"""Painted heads: what is bright on which contrast, and what tells the phenotype."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.heads import CONTRASTS, clean, head_points
from scipy import ndimage

from t4e_utils.phantoms import head, head_painting
from t4e_utils.phantoms.head_painting import paint
from t4e_utils.phantoms.head_scans import make_patient


def test_background_is_exactly_zero_and_the_brain_above_it_in_every_contrast(patient):
    brain = patient.contrasts["T1w"].array > 0
    values, labels = clean(patient)
    for contrast, volume in patient.contrasts.items():
        np.testing.assert_array_equal(volume.array > 0, brain)
        np.testing.assert_array_equal(values[contrast] > 0, brain)
    assert not labels[~brain].any()
    assert 0.1 < brain.mean() < 0.3


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_flipped_or_swapped_axis_is_seen(patient, axis):
    brain, labels = patient.contrasts["T2w"].array > 0, patient.labels.array
    # cut to the box first: what differs is the shape, not only where it lies
    box = brain[ndimage.find_objects(brain.astype(int))[0]]
    assert np.count_nonzero(box != np.flip(box, axis)) > 0.02 * np.count_nonzero(box)
    assert len(set(box.shape)) == 3
    assert np.count_nonzero((labels > 0) & np.flip(labels > 0, axis)) < 0.8 * np.count_nonzero(
        labels
    )


@pytest.mark.parametrize(("seed", "label"), [(11, 1), (11, 0), (4, 0)])
def test_contrasts_follow_the_real_ones(seed, label):
    patient = make_patient(seed, label, tumour_ml=140)
    values, labels = clean(patient)
    points = head_points(patient).reshape(3, -1).astype(np.float32)
    csf = (head.ventricle_distance(patient.head, points) < -2).reshape(labels.shape) & (labels == 0)
    pushed = head.pushed_aside(patient.head, points)
    grey = (
        (head_painting._nuclei_distance(pushed) < -3).reshape(labels.shape) & (labels == 0) & ~csf
    )
    brain = values["T1w"] > 0
    mean = {
        contrast: {
            "white": float(np.median(value[brain & (labels == 0)])),
            "grey": float(value[grey].mean()),
            "csf": float(value[csf].mean()),
            **{
                name: float(value[labels == label].mean())
                for name, label in (("core", 1), ("oedema", 2), ("rim", 4))
            },
        }
        for contrast, value in values.items()
    }
    assert [c for c in CONTRASTS if max(mean[c], key=mean[c].get) == "rim"] == ["T1wCE"]
    assert mean["T1wCE"]["rim"] > 1.3 * mean["T1wCE"]["white"] > mean["T1w"]["rim"]
    for contrast, is_bright in {"FLAIR": True, "T2w": True, "T1w": False, "T1wCE": False}.items():
        assert (mean[contrast]["oedema"] > 1.5 * mean[contrast]["white"]) is is_bright
        assert (mean[contrast]["oedema"] < 0.9 * mean[contrast]["white"]) is not is_bright
        assert (mean[contrast]["grey"] > mean[contrast]["white"]) is is_bright
        assert (mean[contrast]["csf"] > 2 * mean[contrast]["white"]) is (contrast == "T2w")
        assert (mean[contrast]["csf"] < 0.5 * mean[contrast]["white"]) is (contrast != "T2w")
    assert mean["T1w"]["core"] < 0.6 * mean["T1w"]["white"]


def test_painting_in_parts_equals_painting_voxel_by_voxel(patient):
    rng = np.random.default_rng(0)
    affine, shape = patient.labels.affine, (3, 300, 300)  # more than one part
    affine = affine @ np.diag([6, 0.2, 0.2, 1]) + np.outer([0, 0, 60, 0], [0, 0, 0, 1])
    values, labels = paint(patient.head, affine, shape, ["T2w"])
    assert labels.any()
    for index in [*rng.integers(0, shape, (20, 3)), *rng.permutation(np.argwhere(labels > 0))[:20]]:
        one = affine.copy()
        one[:3, 3] = affine[:3] @ [*index, 1]
        value, label = paint(patient.head, one, (1, 1, 1), ["T2w"])
        assert value[0, 0, 0, 0] == pytest.approx(values[(0, *index)], abs=1e-3)
        assert label[0, 0, 0] == labels[tuple(index)]


def neighbour_correlation(value: np.ndarray, mask: np.ndarray) -> float:
    """Correlation of neighbours inside a mask, along the columns."""
    both = mask[:, :, 1:] & mask[:, :, :-1]
    return float(np.corrcoef(value[:, :, 1:][both], value[:, :, :-1][both])[0, 1])


@pytest.mark.parametrize("seed", [1, 2])
def test_label_shows_in_grain_and_rim_at_equal_volume_and_brightness(seed):
    patients = {label: make_patient(seed, label, tumour_ml=140) for label in (0, 1)}
    (fine, thin), (coarse, thick) = (clean(patients[label]) for label in (0, 1))
    for region in ((1, 2, 4), (1, 4)):
        volumes = [np.count_nonzero(np.isin(labels, region)) for labels in (thin, thick)]
        assert volumes[0] == pytest.approx(volumes[1], rel=0.03)
        for contrast in CONTRASTS:
            means = [
                v[contrast][np.isin(labels, region)].mean()
                for v, labels in ((fine, thin), (coarse, thick))
            ]
            assert means[0] == pytest.approx(means[1], rel=0.04)
    assert np.count_nonzero(thick == 4) > 1.4 * np.count_nonzero(thin == 4)
    inner = ndimage.binary_erosion((thin == 2) & (thick == 2))
    for contrast in CONTRASTS:
        assert (
            neighbour_correlation(coarse[contrast], inner)
            > neighbour_correlation(fine[contrast], inner) + 0.3
        )
