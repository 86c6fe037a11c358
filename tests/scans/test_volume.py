"""Volumes are turned to planes without resampling, and say so."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.volumes import SIGNED_PERMUTATIONS, full_range, volume_of, write_series

from t4e_utils.scans.dicom_series import read_dicom_series
from t4e_utils.scans.nifti import read_nifti, write_nifti


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
