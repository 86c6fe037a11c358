"""Volumes are turned to planes without resampling, and say so."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.volumes import SIGNED_PERMUTATIONS, full_range, volume_of, write_series

from t4e_utils.scans.dicom_series import read_dicom_series
from t4e_utils.scans.geometry import display_affine
from t4e_utils.scans.intensity import window_to_uint8
from t4e_utils.scans.nifti import read_nifti, write_nifti
from t4e_utils.scans.problems import Problem, VolumeError
from t4e_utils.scans.volume import Grid, Volume, off_grid, require_same_grid

MM = (2.0, 1.0, 1.0)
AFFINE = display_affine("axial", MM)


def test_a_volume_turned_to_a_plane_says_so(tmp_path):
    volume = read_dicom_series(write_series(volume_of(full_range()), tmp_path))
    turned = volume.to_plane("coronal")
    assert (turned.plane, turned.meta["plane"], turned.array.shape) == (
        "coronal",
        "coronal",
        (4, 3, 5),
    )
    assert turned.spacing_mm == pytest.approx((0.5, 3.0, 0.75))
    assert volume.plane == "axial"
    np.testing.assert_array_equal(turned.to_plane("axial").array, volume.array)


def test_arrays_that_are_read_lie_in_memory_in_order(tmp_path):
    volume = volume_of(full_range(), SIGNED_PERMUTATIONS[-1])
    assert read_dicom_series(write_series(volume, tmp_path / "s")).array.flags.c_contiguous
    assert read_nifti(write_nifti(volume, tmp_path / "scan.nii")).array.flags.c_contiguous


def grid_of(affine: np.ndarray, shape: tuple[int, int, int] = (30, 200, 240)) -> Volume:
    return Volume(np.broadcast_to(np.uint8(0), shape), MM, affine)


def shifted(mm: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[1, 3] += mm
    return affine


def rotated(degrees: float) -> np.ndarray:
    angle, turn = np.deg2rad(degrees), np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return turn @ AFFINE


@pytest.mark.parametrize(
    "other",
    [AFFINE, AFFINE.astype(np.float32), shifted(0.05), rotated(0.01), AFFINE * [1, 1, 1 + 1e-5, 1]],
    ids=["equal", "single precision", "shifted", "rotated", "spacing"],
)
def test_affines_that_differ_by_rounding_are_one_place(other):
    require_same_grid(grid_of(AFFINE), grid_of(other), "scan.nii")


@pytest.mark.parametrize(
    ("other", "voxels"),
    [
        (shifted(0.5), "0.5"),
        (shifted(-40), "40"),
        (rotated(0.1), "0.41"),  # the far corner: 239 voxels of 1 mm turned by 0.1 degrees
        (AFFINE * [1, 1, 1.01, 1], "2.39"),  # 239 voxels of 1.01 mm
        (AFFINE * [-1, 1, 1, 1], "58"),  # 29 slices up and not down
        (np.diag([2.0, 1.0, 1.0, 1.0])[[2, 1, 0, 3]], "478"),  # 239 to the right and not left
    ],
    ids=["shifted", "far", "rotated", "spacing", "mirrored", "no affine"],
)
def test_a_scan_elsewhere_is_refused_by_the_farthest_corner(other, voxels):
    with pytest.raises(
        VolumeError, match=f"up to ({voxels})\\S* voxels from the place of its m"
    ) as refused:
        require_same_grid(grid_of(AFFINE), grid_of(other), "scan.nii", what="mask")
    assert refused.value.code == "place_differs"


def test_two_grids_are_told_apart_by_their_shape():
    small = grid_of(AFFINE, (4, 5, 6))
    with pytest.raises(
        VolumeError, match=r"shape is \(4, 5, 6\), that of its segmentation"
    ) as refused:
        require_same_grid(small, grid_of(AFFINE), "second.nii.gz")
    assert (refused.value.code, refused.value.path) == ("shape_differs", "second.nii.gz")


@pytest.mark.parametrize("directions", SIGNED_PERMUTATIONS)
def test_a_mask_stored_in_another_order_of_axes_lies_where_its_scan_lies(tmp_path, directions):
    volume = volume_of(full_range(np.uint8))
    scan = read_nifti(write_nifti(volume, tmp_path / "scan.nii"))
    turned = Volume(*stored_along(volume, directions))
    mask = read_nifti(write_nifti(turned, tmp_path / "mask.nii.gz"), labels=True)
    require_same_grid(scan, mask, "scan.nii")
    np.testing.assert_array_equal(mask.array, scan.array)


def stored_along(volume: Volume, directions: np.ndarray):
    """Return the same voxels at the same places, counted along other axes and backwards."""
    order = [int(axis) for axis in np.argmax(np.abs(directions), axis=0)]
    array, affine = volume.array.transpose(order), volume.affine[:, [*order, 3]].copy()
    for axis in np.flatnonzero(directions.sum(axis=0) < 0):
        array = np.flip(array, axis)
        affine[:, 3] += affine[:, axis] * (array.shape[axis] - 1)
        affine[:, axis] *= -1
    return array, volume.spacing_mm, affine


def test_what_lies_where_no_scan_lies_is_the_one_problem():
    each = [Problem("place_differs", f"{k}.nii", "It lies elsewhere.") for k in range(3)]
    found = off_grid(each, 3, "seg.nii")
    assert [(problem.code, problem.path) for problem in found] == [("place_differs", "seg.nii")]
    assert (
        "None of the 3 scans lies at the place of the segmentation (such as 0.nii)"
        in found[0].sentence
    )
    assert off_grid(each, 4, "seg.nii") == each
    assert off_grid(each[:1], 1, "seg.nii") == each[:1]
    mixed = [*each[:2], Problem("shape_differs", "2.nii", "Smaller.")]
    assert off_grid(mixed, 3, "seg.nii") == mixed
    assert off_grid([], 3, "seg.nii") == []


def test_a_grid_of_which_no_place_is_known_is_compared_by_its_shape():
    assert Grid((4, 5, 6), None).problem("scan", Grid((4, 5, 6), AFFINE), "labels") is None
    assert Grid((4, 5, 6), None).problem("scan", Grid((4, 5, 7), AFFINE), "labels") == Problem(
        "shape_differs",
        "scan",
        "The shape is (4, 5, 6), that of its labels (4, 5, 7): they must be on one grid.",
    )


def test_numpy_takes_a_volume_for_its_values():
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    volume = Volume(array, (1.0, 1.0, 1.0), np.eye(4))
    assert np.asarray(volume) is array
    copied = np.array(volume, dtype=float)
    assert copied.dtype == float
    assert not np.shares_memory(copied, array)
    np.testing.assert_array_equal(
        window_to_uint8(volume, (0, 100)), window_to_uint8(array, (0, 100))
    )
