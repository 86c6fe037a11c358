"""A folder of DICOM files: what is read, what is left out, and what the headers say."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.dicom_series import array_of, codes, deflated, edit, setting, without, written

from t4e_utils.scans.dicom_series import read_dicom_series
from t4e_utils.scans.problems import VolumeError
from t4e_utils.scans.reading import series_header


@pytest.mark.parametrize(
    ("damage", "code", "sentence"),
    [
        (lambda path: b"no DICOM file, but long enough to be one " * 20, "no_pixels", "no image"),
        (lambda path: b"", "no_pixels", "The file is no image"),
        (lambda path: path.read_bytes()[:-7], "truncated", "The file has 41 of 48 bytes of pixels"),
        (lambda path: path.read_bytes()[:500], "no_pixels", "The file is no image"),
        (lambda path: deflated(path)[:-20], "damaged", "The file cannot be read"),
    ],
)
def test_one_unreadable_file_is_reported_and_the_others_are_read(tmp_path, damage, code, sentence):
    array = array_of()
    folder = written(tmp_path / "s", array)
    path = folder / "Image-5.dcm"
    path.write_bytes(damage(path))
    volume = read_dicom_series(folder)
    np.testing.assert_array_equal(volume.array, array[:4])
    assert [code] == [c for c in codes(volume) if c != "warning"]
    assert volume.meta["n_files"] == 5
    with pytest.raises(VolumeError, match=sentence) as refused:
        read_dicom_series(path)
    assert refused.value.code == code


def test_what_the_reader_warns_about_becomes_a_problem(tmp_path):
    array = array_of()
    folder = written(tmp_path / "s", array)
    edit(
        folder,
        lambda dataset, i: setattr(dataset, "PixelData", dataset.PixelData + bytes(10)),
        only=(2,),
    )
    volume = read_dicom_series(folder)
    np.testing.assert_array_equal(volume.array, array)
    assert codes(volume) == ["warning"]
    assert "excess padding" in volume.meta["problems"][0].sentence


def test_a_header_says_what_reading_says(tmp_path):
    folder = written(tmp_path / "s", array_of((9, 4, 6)), plane="coronal")
    assert series_header(folder) == {
        "n_files": 9,
        "n_slices": 9,
        "plane": "coronal",
        "rows": 4,
        "columns": 6,
        "spacing_slice_mm": pytest.approx(3.0),
        "spacing_row_mm": pytest.approx(0.5),
        "spacing_column_mm": pytest.approx(0.75),
        "modality": "MR",
        "transfer_syntax": "Explicit VR Little Endian",
        "bits_stored": 16,
        "problems": (),
    }


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda folder: (folder / "Image-4.dcm").unlink(), "gap"),
        (lambda folder: (folder / "Image-4.dcm").write_bytes(b"no image"), "no_pixels"),
        (
            lambda folder: edit(folder, setting(SeriesInstanceUID="1.2.3"), only=(8,)),
            "mixed_series",
        ),
        (lambda folder: edit(folder, without("ImagePositionPatient"), only=(2,)), "missing_values"),
    ],
)
def test_headers_show_the_problems_that_reading_shows(tmp_path, damage, code):
    folder = written(tmp_path / "s", array_of((9, 4, 6)))
    damage(folder)
    header, volume = series_header(folder), read_dicom_series(folder)
    assert header["problems"] == volume.meta["problems"]
    assert code in codes(volume)
    assert header["spacing_slice_mm"] == volume.spacing_mm[0]


def test_a_header_of_no_image_is_refused(tmp_path):
    (tmp_path / "1").write_bytes(b"no image")
    (tmp_path / "2").write_bytes(b"no image either")
    with pytest.raises(VolumeError, match="None of the 2 files") as refused:
        series_header(tmp_path)
    assert refused.value.code == "no_pixels"


def test_a_header_without_geometry_leaves_it_open(tmp_path):
    folder = written(tmp_path / "s", array_of((2, 4, 6)))
    edit(folder, without("ImageOrientationPatient", "PixelSpacing"))
    header = series_header(folder)
    assert (header["plane"], header["spacing_slice_mm"], header["rows"]) == (None, None, 4)
