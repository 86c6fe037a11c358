"""Pictures are of the first study that can be read: what is damaged or elsewhere is passed over."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from t4e_utils.competitions.brain_tumor import annotated, phantoms
from t4e_utils.competitions.brain_tumor import data as brain_tumor
from t4e_utils.tables.catalog import CatalogError

SMALL = phantoms.PhantomConfig(size=32, n_brats=2, n_overlap=0, n_train=2, n_test=1)
SAID = {"convention": "BraTS 2021"}


@pytest.fixture
def files(tmp_path):
    """Two patients drawn as BraTS has them, of whom one is no image at all but for T2w."""
    phantoms.write_phantoms(tmp_path, SMALL, n_jobs=1)
    files = brain_tumor.brats_files(tmp_path / "brats21")
    first = files["study_id"] == files["study_id"].min()
    damage(files[first & (files["series"] != "T2w")])
    return files


def damage(files):
    for path in files["path"]:
        Path(path).write_bytes(b"no image at all")


def test_a_study_is_read_without_what_is_damaged(files):
    first, second = sorted(files["study_id"].unique())
    contrasts, labels = annotated.read_annotated_study(files, first, **SAID)
    assert (list(contrasts), labels) == (["T2w"], None)
    contrasts, labels = annotated.read_annotated_study(files, second, **SAID)
    assert list(contrasts) == list(brain_tumor.CONTRASTS)
    assert set(np.unique(labels.array)) <= {0, 1, 2, 4}


def test_a_contrast_off_the_grid_of_the_labels_is_not_shown_with_them(files):
    second = files["study_id"].max()
    path = files[(files["study_id"] == second) & (files["series"] == "FLAIR")]["path"].iloc[0]
    nib.save(nib.Nifti1Image(np.ones((4, 5, 6), np.int16), np.eye(4)), path)
    contrasts, labels = annotated.read_annotated_study(files, second, **SAID)
    assert list(contrasts) == ["T1w", "T1wCE", "T2w"]
    assert labels is not None


@pytest.mark.parametrize("start", [0, 1, 2])
def test_the_first_study_is_one_that_can_be_read(files, start):
    study, contrasts, labels = annotated.first_annotated(files, start=start, **SAID)
    assert (study, len(contrasts)) == (files["study_id"].max(), 4)
    assert labels.array.any()


def test_when_no_study_can_be_read_one_is_named(files):
    damage(files)
    sentence = rf"None of 2 annotated patients can be read \(such as {files['study_id'].min()}\)"
    with pytest.raises(CatalogError, match=sentence):
        annotated.first_annotated(files, **SAID)


def test_a_picture_needs_no_readable_study(files):
    assert annotated.example_study(files, **SAID)[0] == files["study_id"].max()
    damage(files[files["series"] == "labels"])
    study, contrasts, labels = annotated.example_study(files, **SAID)
    assert (study, list(contrasts), labels) == (files["study_id"].min(), ["T2w"], None)
    damage(files)
    assert annotated.example_study(files, **SAID)[1:] == ({}, None)


def test_the_slice_with_most_tumour_is_of_a_scan_that_can_still_be_read(files):
    first, second = sorted(files["study_id"].unique())
    kept = pd.DataFrame(
        [(first, "FLAIR", 90), (second, "T1w", 50), (second, "T2w", 70), (second, "FLAIR", 60)],
        columns=["study_id", "series", "wt_area"],
    )
    row, volume, labels = annotated.largest_slice(kept, files, first=first, **SAID)
    assert (row.name, row["series"]) == (2, "T2w")
    assert volume.array.shape == labels.array.shape
    own = files[files["study_id"] == second]
    damage(own[own["series"] == "T2w"])
    assert annotated.largest_slice(kept, files, first=first, **SAID)[0].name == 3
    damage(own)
    with pytest.raises(CatalogError, match="None of 2 studies with stored slices can be"):
        annotated.largest_slice(kept, files, **SAID)
    with pytest.raises(CatalogError, match="No slice was stored, since none shows more"):
        annotated.largest_slice(kept[:0], files, **SAID)


def test_slices_of_a_study_that_is_no_longer_cut_are_deleted(tmp_path):
    for study in ("00001-100", "00001-101", "00002"):
        (tmp_path / study).mkdir()
        (tmp_path / study / "FLAIR_axial_000.png").touch()
    found = pd.DataFrame({"study_id": ["00001-101", "00002", "00002"]})
    (tmp_path / "note.txt").touch()
    annotated.drop_others(found, tmp_path)
    annotated.drop_others(found, tmp_path / "nothing cut")
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["00001-101", "00002", "note.txt"]


def test_what_was_refused_has_no_file_in_the_table_of_patients():
    files = pd.DataFrame(
        [
            (patient, f"{patient}-{visit}", series, f"{patient} {visit} {series}")
            for patient, visit in (("00001", 100), ("00001", 101), ("00002", 100))
            for series in ("FLAIR", "T2w", "labels")
        ],
        columns=["patient_id", "study_id", "series", "path"],
    )
    cut = [("00001-100", "FLAIR"), ("00001-100", "T2w"), ("00001-101", "T2w")]
    found = annotated.files_of_cut(pd.DataFrame(cut * 2, columns=["study_id", "series"]), files)
    assert found.columns.tolist() == ["patient_id", "study_id", "FLAIR", "T2w", "labels"]
    assert found.fillna("").to_numpy().tolist() == [
        ["00001", "00001-100", "00001 100 FLAIR", "00001 100 T2w", "00001 100 labels"],
        ["00001", "00001-101", "", "00001 101 T2w", "00001 101 labels"],
    ]
