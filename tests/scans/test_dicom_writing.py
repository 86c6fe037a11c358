"""Written series are read again, and say in DICOM terms where they lie."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from helpers.volumes import DIRECTIONS, SHAPE, full_range, volume_of, write_series

from t4e_utils import T4EError
from t4e_utils.scans.dicom_series import read_dicom_series
from t4e_utils.scans.geometry import reorient, spacing_of
from t4e_utils.scans.nifti import write_nifti
from t4e_utils.scans.problems import VolumeError


@pytest.mark.parametrize("directions", DIRECTIONS)
def test_a_dicom_series_of_any_orientation_comes_back_in_display(tmp_path, directions):
    volume = volume_of(full_range(), directions)
    back = read_dicom_series(write_series(volume, tmp_path))
    array, affine = reorient(volume.array, volume.affine, volume.plane)
    np.testing.assert_array_equal(back.array, array)
    np.testing.assert_allclose(back.affine, affine, atol=1e-5)
    np.testing.assert_allclose(back.spacing_mm, spacing_of(affine), atol=1e-6)
    assert back.meta["problems"] == ()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
def test_run_length_compression_loses_nothing(tmp_path, dtype):
    volume = volume_of(full_range(dtype, (2, 33, 47)))
    np.testing.assert_array_equal(
        read_dicom_series(write_series(volume, tmp_path, compress="rle")).array, volume.array
    )


def test_slices_of_an_odd_number_of_bytes_are_padded_and_read(tmp_path):
    volume = volume_of(full_range(np.uint8, (2, 3, 5)))
    back = read_dicom_series(write_series(volume, tmp_path))
    np.testing.assert_array_equal(back.array, volume.array)
    assert back.meta["problems"] == ()


def test_a_turned_view_is_written_as_its_copy(tmp_path):
    volume = volume_of(full_range()).to_plane("sagittal")
    back = read_dicom_series(write_series(volume, tmp_path))
    np.testing.assert_array_equal(back.array, volume.array)


def test_big_endian_arrays_are_written_right(tmp_path):
    array = full_range()
    back = read_dicom_series(write_series(volume_of(array.astype(">u2")), tmp_path))
    np.testing.assert_array_equal(back.array, array)


def test_equal_volumes_give_equal_files_and_other_names_other_identifiers(tmp_path):
    volume = volume_of(full_range())
    for name in ("a", "b"):
        write_series(volume, tmp_path / name)
        write_nifti(volume, tmp_path / f"{name}.nii.gz")
    write_series(volume, tmp_path / "c", series_description="T2w")
    write_series(volume, tmp_path / "d", uid_seed="2")
    first = {name: (tmp_path / name / "Image-1.dcm").read_bytes() for name in "abcd"}
    assert first["a"] == first["b"]
    headers = [pydicom.dcmread(tmp_path / name / "Image-1.dcm") for name in "acd"]
    assert len({header.SeriesInstanceUID for header in headers}) == 3
    assert len({header.StudyInstanceUID for header in headers}) == 1
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_written_files_say_where_they_lie_in_dicom_terms(tmp_path):
    folder = write_series(volume_of(full_range(), plane="coronal"), tmp_path)
    header = pydicom.dcmread(folder / "Image-2.dcm")
    assert header.ImageOrientationPatient == [1, 0, 0, 0, 0, -1]
    assert header.ImagePositionPatient == [12.5, -30.25 + 3.0, 7.125]
    assert header.PixelSpacing == [0.5, 0.75]
    assert (header.InstanceNumber, header.PatientID, header.SeriesDescription) == (
        2,
        "00001",
        "T1w",
    )


@pytest.mark.parametrize("dtype", [np.float32, np.int32, bool])
def test_dicom_refuses_what_it_has_no_place_for(tmp_path, dtype):
    with pytest.raises(VolumeError, match="DICOM takes uint8, uint16 or int16") as refused:
        write_series(volume_of(np.zeros(SHAPE, dtype)), tmp_path)
    assert refused.value.code == "out_of_range"


def test_dicom_refuses_rows_and_columns_that_are_not_perpendicular(tmp_path):
    volume = volume_of(full_range())
    volume.affine[:3, 1] += volume.affine[:3, 2]
    with pytest.raises(VolumeError, match="not perpendicular") as refused:
        write_series(volume, tmp_path)
    assert refused.value.code == "bad_affine"


def test_a_compression_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(T4EError, match="compress = 'jpeg' is not known"):
        write_series(volume_of(full_range()), tmp_path, compress="jpeg")
