"""Folders of the two data sets: every patient and contrast is found under each of its names."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t4e_utils.competitions.brain_tumor.folders import find_series, find_volumes
from t4e_utils.scans.problems import Problem
from t4e_utils.tables.catalog import CatalogError, missing_series

SERIES = ("FLAIR", "T1w")
CONTRASTS = {"FLAIR": ("_flair", "-t2f"), "labels": ("_seg",)}
IDS = {"patient_id": lambda name: name[2:7], "study_id": lambda name: name[2:]}


def test_series_folders_are_listed_by_patient_with_ids_as_text(tmp_path):
    for name in ("00006/T1w", "00006/FLAIR", "00002/T1w", "00002/notes", ".cache/FLAIR"):
        (tmp_path / "train" / name).mkdir(parents=True)
    (tmp_path / "train" / "readme.txt").touch()
    found = find_series(tmp_path, split="train", series=SERIES)
    assert found[["patient_id", "split", "series"]].to_numpy().tolist() == [
        ["00002", "train", "T1w"],
        ["00006", "train", "FLAIR"],
        ["00006", "train", "T1w"],
    ]
    assert found["path"][0] == str(tmp_path / "train" / "00002" / "T1w")
    assert missing_series(found, ["00002", "00006"], series=SERIES, root=tmp_path) == [
        Problem("missing_series", str(tmp_path), "Patient 00002 has no FLAIR.")
    ]


def test_volumes_are_found_under_each_of_their_names(tmp_path):
    for name in (
        "P-00001/P-00001-t2f.nii.gz",
        "P-00002/P-00002_flair.nii",
        "P-00002/P-00002_seg.nii.gz",
        "P-00003/other_flair.nii",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_volumes(tmp_path, contrasts=CONTRASTS, **IDS)
    assert found[["patient_id", "study_id", "series"]].to_numpy().tolist() == [
        ["00001", "00001", "FLAIR"],
        ["00002", "00002", "FLAIR"],
        ["00002", "00002", "labels"],
    ]
    assert found["path"][0].endswith("P-00001-t2f.nii.gz")


def test_a_folder_without_any_volume_is_refused_with_the_name_that_was_expected(tmp_path):
    (tmp_path / "P-00001").mkdir()
    with pytest.raises(CatalogError, match=r"holds no file such as P-00001/P-00001_flair\.nii\.gz"):
        find_volumes(tmp_path, contrasts=CONTRASTS, **IDS)


def test_two_visits_are_two_studies_of_one_patient(tmp_path):
    for name in ("P-00001-100", "P-00001-101"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}-t2f.nii.gz").touch()
    found = find_volumes(tmp_path, contrasts=CONTRASTS, **IDS)
    assert found[["patient_id", "study_id"]].to_numpy().tolist() == [
        ["00001", "00001-100"],
        ["00001", "00001-101"],
    ]


def test_two_folders_of_one_study_are_refused_by_name(tmp_path):
    for name in ("P-00001", "Q-00001"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}-t2f.nii.gz").touch()
    with pytest.raises(CatalogError, match=r"P-00001 and .*Q-00001 are both of study 00001"):
        find_volumes(tmp_path, contrasts=CONTRASTS, **IDS)


def test_a_missing_or_empty_data_folder_is_refused(tmp_path):
    with pytest.raises(CatalogError, match="train is not there: give the folder of the data set"):
        find_series(tmp_path, split="train", series=SERIES)
    (tmp_path / "train").mkdir()
    with pytest.raises(
        CatalogError, match=r"train holds no {patient_id} .*: is the data set unpacked there\?"
    ):
        find_series(tmp_path, split="train", series=SERIES)


@given(
    st.sets(
        st.tuples(
            st.sampled_from(["00010", "9", "10", "b", "B", ".a"]),
            st.sampled_from(["T1w", "FLAIR", "T2w", ""]),
        ),
        min_size=1,
    )
)
@settings(max_examples=30, deadline=None)
def test_patients_come_in_the_order_of_their_names_and_series_in_the_one_given(
    tmp_path_factory, made
):
    root = tmp_path_factory.mktemp("data")
    (root / "train" / "0").mkdir(parents=True)
    for patient, name in made:
        (root / "train" / patient / name).mkdir(parents=True, exist_ok=True)
    patients = sorted(path for path in (root / "train").iterdir() if path.name[0] != ".")
    expected = [
        (patient.name, "train", name, str(patient / name))
        for patient in patients
        for name in ("T1w", "FLAIR")
        if (patient / name).is_dir()
    ]
    found = find_series(root, split="train", series=("T1w", "FLAIR"))
    assert list(found.itertuples(index=False, name=None)) == expected
    assert list(found.columns) == ["patient_id", "split", "series", "path"]


def test_a_patient_without_any_series_is_no_error(tmp_path):
    (tmp_path / "test" / "00001").mkdir(parents=True)
    assert find_series(Path(tmp_path), split="test", series=SERIES).empty
    assert isinstance(find_series(tmp_path, split="test", series=SERIES), pd.DataFrame)
