"""The facts of the competition.

Who may train the segmenter, who is labelled, and what is said when data are missing.
"""

import gzip
import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from t4e_utils.competitions.brain_tumor import data as brain_tumor
from t4e_utils.competitions.brain_tumor.data import BRATS_FILES, DataFolders
from t4e_utils.tables.catalog import CatalogError
from t4e_utils.tables.run import MissingInputError

SMALL = brain_tumor.phantoms.PhantomConfig(size=32, n_brats=2, n_overlap=1, n_train=2, n_test=1)


@pytest.fixture
def folders(tmp_path):
    """Four BraTS patients (one without segmentation) and five RSNA ids, each found in another
    place.
    """
    rsna, brats = tmp_path / "rsna", tmp_path / "brats21"
    for patient in ("00001", "00002", "00003", "00009"):
        folder = brats / f"BraTS2021_{patient}"
        folder.mkdir(parents=True)
        for suffix in ("flair", "t1", "t1ce", "t2", "seg"):
            if (patient, suffix) != ("00009", "seg"):
                (folder / f"BraTS2021_{patient}_{suffix}.nii.gz").touch()
    for split, patient in (("train", "00002"), ("train", "00109"), ("test", "00007")):
        for series in brain_tumor.CONTRASTS:
            (rsna / split / patient / series).mkdir(parents=True)
    (rsna / "train" / "00005" / "FLAIR").mkdir(parents=True)
    (rsna / "train_labels.csv").write_text(
        "BraTS21ID,MGMT_value\n00002,1\n00005,0\n00006,0\n00109,1\n"
    )
    (rsna / "sample_submission.csv").write_text("BraTS21ID,MGMT_value\n00003,0.5\n00007,0.5\n")
    return DataFolders(rsna, brats, is_phantom=False)


def test_every_patient_that_the_classification_data_mention_is_left_out(folders):
    assert brain_tumor.classification_ids(folders.rsna) == {
        "00002",
        "00003",
        "00005",
        "00006",
        "00007",
        "00109",
    }
    chosen = brain_tumor.segmentation_patients(folders)
    assert chosen.ids == ["00001"]
    assert chosen.excluded == ["00002", "00003"]
    assert [problem.sentence for problem in chosen.problems] == ["Patient 00009 has no labels."]


def test_when_nobody_is_left_to_segment_the_reason_is_given(folders):
    (folders.rsna / "train" / "00001").mkdir()
    with pytest.raises(CatalogError, match="3 also stand in the classification data"):
        brain_tumor.segmentation_patients(folders)


def test_labelled_patients_have_folders_and_are_not_the_faulty_ones(folders):
    patients, series, problems = brain_tumor.training_patients(folders)
    assert patients.to_dict("list") == {"patient_id": ["00002", "00005"], "label": [1, 0]}
    assert len(series) == 5
    assert (
        sorted(problem.code for problem in problems)
        == ["label_without_folder"] + ["missing_series"] * 3
    )
    everybody, _, _ = brain_tumor.training_patients(folders, excluded=[])
    assert "00109" in set(everybody["patient_id"])


def test_the_sample_keeps_its_order_and_a_missing_test_folder_is_no_error(folders):
    assert brain_tumor.read_sample(folders.rsna)["patient_id"].tolist() == ["00003", "00007"]
    assert len(brain_tumor.test_series(folders.rsna)) == 4
    assert brain_tumor.test_series(folders.rsna / "nowhere").empty
    (folders.rsna / "empty" / "test").mkdir(parents=True)
    assert brain_tumor.test_series(folders.rsna / "empty").empty


def rewrite(path, change):
    """Save a table as another program does."""
    path.write_bytes(change(path.read_text()))


SAVED = {
    "zeros lost": lambda text: re.sub("(?m)^0+", "", text).encode(),
    "with decimals": lambda text: re.sub(r"(?m)^0+(\d+),", r"\1.0,", text).encode(),
    "in a spreadsheet": lambda text: re.sub("(?m)^0+", "", text).replace(",", ";").encode("utf-16"),
    "as text, in gzip": lambda text: gzip.compress(re.sub(r"(?m)^(\d+)", r'="\1"', text).encode()),
}


@pytest.mark.parametrize("change", SAVED.values(), ids=SAVED)
def test_nobody_is_taken_for_another_when_the_tables_were_saved_anew(folders, change):
    expected = brain_tumor.classification_ids(folders.rsna)
    patients, series, _ = brain_tumor.training_patients(folders)
    for name in ("train_labels.csv", "sample_submission.csv"):
        rewrite(folders.rsna / name, change)
    assert brain_tumor.classification_ids(folders.rsna) == expected
    assert brain_tumor.segmentation_patients(folders).ids == ["00001"]
    again, series_again, _ = brain_tumor.training_patients(folders)
    pd.testing.assert_frame_equal(again, patients)
    pd.testing.assert_frame_equal(series_again, series)


def test_tables_alone_leave_patients_out_also_in_gzip(folders):
    shutil.rmtree(folders.rsna / "train")
    shutil.rmtree(folders.rsna / "test")
    labels = folders.rsna / "train_labels.csv"
    (folders.rsna / "train_labels.csv.gz").write_bytes(
        gzip.compress(b"MGMT_value,BraTS21ID\n1,1\n")
    )
    labels.unlink()
    (folders.rsna / "sample_submission.csv").write_text("BraTS21ID,MGMT_value\n3.0,0.5\n")
    assert brain_tumor.classification_ids(folders.rsna) == {"00001", "00003"}
    assert brain_tumor.segmentation_patients(folders).ids == ["00002"]


def test_ids_of_other_forms_are_brought_to_five_digits_or_refused(folders):
    labels = folders.rsna / "train_labels.csv"
    labels.write_text("BraTS21ID,MGMT_value\nBraTS2021_00001,1\n00012-1,0\n１３,1\n")
    assert brain_tumor.classification_ids(folders.rsna) > {"00001", "00012", "00013"}
    for wrong in ("NA", "patient 6", "123456"):
        labels.write_text(f"BraTS21ID,MGMT_value\n00001,1\n{wrong},1\n")
        with pytest.raises(CatalogError, match=f"names the patient '{wrong}': .* five digits such"):
            brain_tumor.classification_ids(folders.rsna)


def test_a_data_set_that_names_nobody_or_cannot_be_read_is_refused(folders, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CatalogError, match="empty names no patient, so it cannot be seen who is"):
        brain_tumor.classification_ids(tmp_path / "empty")
    (folders.rsna / "train_labels.csv").unlink()
    (folders.rsna / "train_labels.csv").symlink_to(tmp_path / "nowhere")
    with pytest.raises(CatalogError, match=r"is a link to .*nowhere, which is not there"):
        brain_tumor.classification_ids(folders.rsna)


def test_patients_are_excluded_however_their_ids_are_spelled(folders):
    everybody, _, _ = brain_tumor.training_patients(folders, excluded=[])
    fewer, series, _ = brain_tumor.training_patients(folders, excluded=["2", "109.0"])
    assert everybody["patient_id"].tolist() == ["00002", "00005", "00109"]
    assert fewer["patient_id"].tolist() == ["00005"] == series["patient_id"].unique().tolist()


@pytest.mark.parametrize(
    ("name", "patient"),
    [("BraTS2021_00006", "00006"), ("BraTS-GLI-00006-000", "00006"), ("00006", "00006")],
)
def test_the_id_is_the_five_digits_of_the_folder_name(name, patient):
    assert brain_tumor.brats_patient_id(name) == patient


@pytest.mark.parametrize(
    ("name", "study"),
    [("BraTS-GLI-00006-101", "00006-101"), ("BraTS2021_00006", "00006"), ("00006", "00006")],
)
def test_a_study_is_the_patient_and_the_visit(name, study):
    assert brain_tumor.brats_study_id(name) == study


def test_a_patient_that_the_classification_data_know_is_left_out_with_all_visits(folders):
    for study in ("00006-000", "00006-101", "00008-100"):
        folder = folders.brats.parent / "brats23" / f"BraTS-GLI-{study}"
        folder.mkdir(parents=True)
        for suffix in ("t2f", "seg"):
            (folder / f"BraTS-GLI-{study}-{suffix}.nii.gz").touch()
    chosen = brain_tumor.segmentation_patients(replace(folders, brats=folder.parent))
    assert (chosen.ids, chosen.excluded) == (["00008"], ["00006"])
    assert chosen.files["study_id"].unique().tolist() == ["00008-100"]
    assert chosen.convention == "BraTS 2024"


def test_a_volume_that_one_of_two_visits_lacks_is_named_with_the_visit(folders):
    files = pd.DataFrame(
        [("00006", f"00006-{visit}", series) for visit in (100, 101) for series in BRATS_FILES],
        columns=["patient_id", "study_id", "series"],
    ).drop(index=8)
    problems = brain_tumor.missing_volumes(files, root=folders.brats)
    assert [problem.sentence for problem in problems] == ["Patient 00006-101 has no T2w."]


@pytest.mark.parametrize("copies", [("flair", "t1"), ("t1ce",)])
def test_who_is_in_the_classification_data_under_another_id_is_left_out_too(tmp_path, copies):
    """Also if only one contrast shows it, since the others are damaged or were made anew."""
    brain_tumor.phantoms.write_phantoms(tmp_path, SMALL, n_jobs=1)
    folders = brain_tumor.open_data(tmp_path / "rsna", tmp_path / "brats21")
    before = brain_tumor.segmentation_patients(folders)
    known, other = before.excluded[0], before.ids[0]
    for name in copies:
        copied = folders.brats / f"BraTS2021_{known}" / f"BraTS2021_{known}_{name}.nii.gz"
        place = folders.brats / f"BraTS2021_{other}" / f"BraTS2021_{other}_{name}.nii.gz"
        place.write_bytes(copied.read_bytes())
    chosen = brain_tumor.segmentation_patients(folders)
    assert chosen.excluded == sorted({*before.excluded, other})
    assert chosen.ids == [patient for patient in before.ids if patient != other]
    assert [problem.code for problem in chosen.problems] == ["same_images"] * len(copies)


@pytest.mark.parametrize("name", ["BraTS_123456", "patient_6", "BraTS2021_００００６", ""])
def test_a_folder_name_without_an_id_is_refused(name):
    with pytest.raises(CatalogError, match="no five-digit patient id"):
        brain_tumor.brats_patient_id(name)


def test_the_teams_fold_table_has_ids_without_zeros(tmp_path):
    path = tmp_path / "folds.csv"
    path.write_text("BraTS21ID,MGMT_value,fold\n2,1,4.0\n5,0,0.0\n7,1,\n")
    assert brain_tumor.read_fold_table(path, pd.Series(["00005", "00002"])) == [0, 4]
    with pytest.raises(CatalogError, match="no fold for 2 patients, such as 00006"):
        brain_tumor.read_fold_table(path, pd.Series(["00006", "00007"]))


def test_folders_that_are_not_there_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingInputError, match="nowhere"):
        brain_tumor.open_data("nowhere", "data/phantoms/brats21")


def test_the_phantoms_are_drawn_where_nothing_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(brain_tumor.phantoms, "PhantomConfig", lambda: SMALL)
    folders = brain_tumor.open_data("data/phantoms/rsna", "data/phantoms/brats21")
    assert folders.is_phantom
    assert len(brain_tumor.read_sample(folders.rsna)) == SMALL.n_test
    assert np.isin(brain_tumor.training_patients(folders)[0]["label"], [0, 1]).all()
