"""The files of a series, in the order of their numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.dicom_series import array_of, codes, written

from t4e_utils.scans.dicom_series import read_dicom_series
from t4e_utils.scans.folders import files_of, last_number
from t4e_utils.scans.problems import VolumeError
from t4e_utils.scans.reading import series_header


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_a_folder_with_nothing_in_it_is_refused(tmp_path, name):
    (tmp_path / "empty").mkdir()
    for read in (read_dicom_series, series_header):
        with pytest.raises(VolumeError, match="correct the path") as refused:
            read(tmp_path / name)
        assert refused.value.code == "no_files"


def test_hidden_files_and_folders_are_passed_over(tmp_path):
    folder = written(tmp_path / "s", array_of())
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "more").mkdir()
    volume = read_dicom_series(folder)
    assert codes(volume) == []
    assert volume.meta["n_files"] == 5


def test_files_come_in_the_order_of_the_numbers_in_their_names(tmp_path):
    for name in ("IM10.dcm", "IM9.dcm", "IM9a.DCM", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in files_of(tmp_path, (".dcm",))] == [
        "IM9.dcm",
        "IM9a.DCM",
        "IM10.dcm",
    ]
    with pytest.raises(VolumeError, match=r"has no \.jpg/\.jpeg files: correct the path"):
        files_of(tmp_path, (".jpg", ".jpeg"))


@pytest.mark.parametrize(
    ("name", "number"), [("Image-12.dcm", 12), ("s3_0007.dcm", 7), ("a.12", None), ("IM", None)]
)
def test_the_number_of_a_file_is_the_last_one_before_its_suffix(name, number):
    assert last_number(Path(name)) == number
