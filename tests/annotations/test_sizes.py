"""Sizes are voxels times their volume; labels that cannot be read are problems."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from t4e_utils.annotations.sizes import measure_regions
from t4e_utils.scans.geometry import display_affine
from t4e_utils.scans.nifti import read_nifti, write_nifti
from t4e_utils.scans.volume import Volume

REGIONS = {"Lesion": (1, 2), "core": (2,)}
SPACING = (2.0, 0.5, 0.75)


def saved(path, array):
    return str(write_nifti(Volume(array, SPACING, display_affine("axial", SPACING)), path))


@pytest.fixture
def files(tmp_path):
    """Both labels, none, labels of another convention, a missing file, and a scan."""
    labels = np.zeros((3, 6, 9, 8), np.uint8)
    labels[0, 1:4, 2:7, 3:5] = 1
    labels[0, 2, 3, 3:5] = 2
    labels[2, 2, 3, 4] = 3
    rows = [
        (name, "labels", saved(tmp_path / f"{name}.nii.gz", array))
        for name, array in zip("abc", labels, strict=True)
    ]
    rows.append(("d", "labels", "nowhere.nii.gz"))
    rows.append(("a", "scan", "not read.nii.gz"))
    return pd.DataFrame(rows, columns=["patient_id", "series", "path"])


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_sizes_are_voxels_times_their_volume_whatever_the_number_of_processes(files, n_jobs):
    sizes, problems = measure_regions(files, REGIONS, n_jobs=n_jobs)
    assert sizes.to_dict("list") == {
        "patient_id": ["a", "b"],
        "lesion_ml": [pytest.approx(30 * 0.75 / 1000), 0.0],
        "core_ml": [pytest.approx(2 * 0.75 / 1000), 0.0],
    }
    assert [problem.code for problem in problems] == ["unknown_labels", "no_files"]
    assert "[3]" in problems[0].sentence
    assert problems[1].path == "nowhere.nii.gz"


def halved(path):
    volume = read_nifti(path, labels=True)
    return replace(volume, array=volume.array // 2)


def test_labels_can_be_converted_when_they_are_read(files):
    sizes, problems = measure_regions(files, REGIONS, n_jobs=1, read=halved)
    assert sizes["patient_id"].tolist() == ["a", "b", "c"]
    assert sizes["lesion_ml"].tolist() == pytest.approx([2 * 0.75 / 1000, 0, 0.75 / 1000])
    assert [problem.code for problem in problems] == ["no_files"]


def test_without_annotations_the_table_is_empty_and_has_its_columns(files):
    sizes, problems = measure_regions(files[files["series"] == "scan"], REGIONS, n_jobs=1)
    assert list(sizes.columns) == ["patient_id", "lesion_ml", "core_ml"]
    assert (len(sizes), problems) == (0, [])
