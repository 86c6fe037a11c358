"""The files of a series, in the order of their numbers."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from helpers.dicom_series import array_of, codes, written
from PIL import Image

from t4e_utils.scans.dicom_series import read_dicom_series
from t4e_utils.scans.folders import files_of, last_number
from t4e_utils.scans.problems import VolumeError
from t4e_utils.scans.reading import read_series, series_header

ROOT = Path(__file__).parents[2]


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


def test_links_that_lead_nowhere_are_slices_that_are_missing_and_are_reported(tmp_path):
    folder = written(tmp_path / "s", array_of())
    (folder / "Image-8.dcm").symlink_to("../objects/1234")
    (folder / "Image-9.dcm").symlink_to("Image-9.dcm")
    (folder / "up").symlink_to("..")
    os.mkfifo(folder / "pipe.dcm")
    assert [path.name for path in files_of(folder)][-2:] == ["Image-8.dcm", "Image-9.dcm"]
    volume = read_dicom_series(folder)
    assert volume.array.shape == array_of().shape
    assert [(one.code, Path(one.path).name) for one in volume.meta["problems"]] == [
        ("damaged", "Image-8.dcm"),
        ("damaged", "Image-9.dcm"),
    ]


def test_pictures_that_cannot_be_opened_cost_themselves(tmp_path):
    for k in (1, 2):
        Image.fromarray(np.full((8, 8), 80 * k, np.uint8)).save(tmp_path / f"Image-{k}.jpg")
    (tmp_path / "Image-3.jpg").symlink_to("Image-3.jpg")
    (tmp_path / "Image-4.jpg").symlink_to("../objects/1234")
    volume = read_series(tmp_path, source="jpg")
    assert volume.array[:, 0, 0].tolist() == [80, 160]
    assert {(one.code, Path(one.path).name) for one in volume.meta["problems"]} == {
        ("damaged", "Image-3.jpg"),
        ("damaged", "Image-4.jpg"),
    }


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("self", "Too many levels of symbolic links"),
        ("file.txt/x", "Not a directory"),
        ("x" * 300, "File name too long"),
        ("a\0b", "embedded null byte"),
        ("caf\udce9", "No such file or directory"),
    ],
)
def test_a_path_that_is_no_place_is_a_sentence(tmp_path, name, reason):
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "file.txt").write_text("x")
    with pytest.raises(
        VolumeError, match=rf"no such folder to read \({reason}\): correct"
    ) as found:
        files_of(f"{tmp_path}/{name}")
    str(found.value).encode()  # it can be printed


CLOSED = """
import os, sys
from t4e_utils.scans.folders import files_of
from t4e_utils.scans.problems import VolumeError
from t4e_utils.tables.catalog import CatalogError, find_scans
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
for read in (files_of, lambda path: find_scans(path, "{image}.dcm")):
    try:
        read(sys.argv[1])
    except (VolumeError, CatalogError) as error:
        print(error)
"""


def test_a_folder_that_a_user_may_not_enter_is_a_sentence():
    with tempfile.TemporaryDirectory(dir="/tmp") as place:  # pytest's own folders are root's alone
        os.chmod(place, 0o755)
        closed = Path(place, "closed")
        closed.mkdir(mode=0o000)
        command = [sys.executable, "-c", CLOSED, closed]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines() == [
        f"{closed}: There is no such folder to read (Permission denied): correct the path.",
        f"The folder {closed} cannot be listed (Permission denied): make it readable.",
    ], done.stderr
