"""Held-out patients are segmented by the segmenter that did not learn from them, once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.stand_ins import BrightIsTumour

from t4e_utils.competitions.brain_tumor.held_out import HeldOut
from t4e_utils.competitions.brain_tumor.report import segmentation_scores
from t4e_utils.prediction.evaluation import patient_dice
from t4e_utils.prediction.masks import MaskReading
from t4e_utils.scans.geometry import display_affine
from t4e_utils.scans.nifti import write_nifti
from t4e_utils.scans.volume import Volume
from t4e_utils.tables.folds import LeakError

SPACING = (2.0, 1.0, 1.0)


class Recording(BrightIsTumour):
    """Says how many slices it has seen."""

    n_slices = 0

    def forward(self, images):
        self.n_slices += len(images)
        return super().forward(images)


def write(path, values):
    write_nifti(Volume(values, SPACING, display_affine("axial", SPACING)), path)
    return str(path)


@pytest.fixture
def held_out(tmp_path):
    """Three patients of two folds; the tumour of 00002 is darker than the threshold in part."""
    rows = []
    for k in range(3):
        labels = np.zeros((12, 30, 28), np.uint8)
        labels[3:9, 8:20, 5:15] = 2
        labels[5:8, 12:16, 7:11] = 4
        array = np.full(labels.shape, 60, np.int16)
        array[labels == 2], array[labels == 4] = 180, 250
        array[3 : 3 + k, 8:20, 5:15] = 70
        files = {name: write(tmp_path / f"{k}_{name}.nii.gz", array) for name in ("FLAIR", "T2w")}
        labels = write(tmp_path / f"{k}_labels.nii.gz", labels)
        ids = {"patient_id": f"0000{k}", "study_id": f"0000{k}-100"}
        rows.append({**ids, "fold": k % 2, "labels": labels, **files})
    patients = pd.DataFrame(rows).reindex(columns=[*rows[0], "T1w", "T1wCE"])
    by_fold = patients.groupby("fold")["patient_id"].agg(list)
    cards = {
        fold: {"weights": f"w{fold}", "select_on": "inner", "trained_on": by_fold[1 - fold]}
        for fold in (0, 1)
    }
    networks = {fold: Recording(percentiles=(0, 100)) for fold in cards}
    return HeldOut(tmp_path, patients, cards, networks, MaskReading())


def test_each_patient_is_scored_by_its_own_fold_and_what_is_finished_is_read(held_out):
    table, problems = held_out.score(["axial"], most=0)
    assert not problems
    assert dict(table.groupby("patient_id")["fold"].first()) == {
        patient: fold for patient, fold in held_out.patients[["patient_id", "fold"]].to_numpy()
    }
    dice = patient_dice(table).set_index(["patient_id", "region"])["dice"]
    assert dice["00000", "WT"] == pytest.approx(1, abs=0.06)  # 30 pixels go through 32 and back
    assert dice["00000", "WT"] > dice["00001", "WT"] > dice["00002", "WT"]
    seen = [network.n_slices for network in held_out.networks.values()]
    assert seen == [2 * 2 * 12, 1 * 2 * 12]  # patients, contrasts, slices
    again, _ = held_out.score(["axial"], most=0)
    pd.testing.assert_frame_equal(again, table)
    assert [network.n_slices for network in held_out.networks.values()] == seen
    few, _ = held_out.score(["axial"], most=1)
    assert sorted(set(few["patient_id"])) == ["00000", "00001"]


@pytest.mark.parametrize("what", ["weights", "a volume", "labels", "the table"])
def test_whoever_is_scored_from_other_weights_or_volumes_is_scored_again(held_out, what):
    table, _ = held_out.score(["axial"], most=0)
    first = held_out.patients.iloc[0]
    if what == "weights":
        (held_out.run / "w0").write_bytes(b"trained again, in the same place")
    elif what == "the table":
        (held_out.run / "seg" / "dice_fold0.parquet").write_bytes(b"noise")
    else:
        path = Path(first["FLAIR" if what == "a volume" else "labels"])
        path.write_bytes(path.read_bytes())  # as another volume of the same size would be
    seen = [network.n_slices for network in held_out.networks.values()]
    again, _ = held_out.score(["axial"], most=0)
    pd.testing.assert_frame_equal(again, table)
    more = [network.n_slices for network in held_out.networks.values()]
    assert more == [2 * seen[0], seen[1]]  # fold 0 alone


def test_a_patient_that_trained_the_segmenter_is_not_scored(held_out):
    cards = {0: {**held_out.cards[0], "trained_on": ["00001", "00002"]}}
    with pytest.raises(LeakError, match="00002"):
        replace(held_out, cards=cards).score(["axial"], most=0)
    outer = {0: {**cards[0], "select_on": "outer"}}
    assert len(replace(held_out, cards=outer).score(["axial"], most=0)[0])


def test_cases_are_the_best_the_median_and_the_worst_in_a_contrast_that_can_be_read(held_out):
    by_patient = patient_dice(held_out.score(["axial"], most=0)[0])
    rows = held_out.patients.set_index("patient_id")
    Path(rows.loc["00002", "FLAIR"]).write_bytes(b"no volume")
    pictures = [picture for picture, _ in held_out.cases(by_patient)]
    titles = [picture.title for picture in pictures]
    places = zip(
        ("best", "median", "worst"),
        ("00000-100 FLAIR", "00001-100 FLAIR", "00002-100 T2w"),
        strict=True,
    )
    for title, (place, which) in zip(titles, places, strict=True):
        assert title.startswith(f"{place}, Dice 0.")
        assert which in title
    assert all(picture.regions == ("WT", "ET") for picture in pictures)
    assert all(picture.masks[0].sum() == 12 * 10 for picture in pictures)


def test_the_viewer_gets_truth_and_prediction_on_the_volume_s_grid(held_out):
    row = next(held_out.patients.assign(path="").itertuples())
    cut = held_out.cut("00000-100", "FLAIR", "axial")
    volume = Volume(cut.image, SPACING, cut.affine)
    truth, predicted = held_out.truth(row, volume), held_out.prediction(row, volume)
    assert truth.shape == predicted.shape == (2, 12, 30, 28)
    assert truth[0].sum() == 6 * 12 * 10
    assert (truth[0] & predicted[0]).sum() / truth[0].sum() > 0.85
    elsewhere = Volume(cut.image[1:], SPACING, cut.affine)
    assert held_out.truth(row, elsewhere) is None


def test_the_weakest_study_is_the_first_that_can_be_read(held_out):
    dice, _ = held_out.score(["axial"], most=0)
    rows = held_out.patients.set_index("study_id")
    worst = ("00002-100", "FLAIR")
    study, series, cuts = held_out.weakest(dice, ["axial", "coronal"])
    assert ((study, series), [cut.plane for cut in cuts]) == (worst, ["axial", "coronal"])
    Path(rows.loc[worst]).write_bytes(b"no volume")
    assert held_out.weakest(dice, ["axial"])[:2] == ("00002-100", "T2w")
    Path(rows.loc["00002-100", "labels"]).write_bytes(b"no volume")
    assert held_out.weakest(dice, ["axial"])[0] == "00001-100"
    assert held_out.weakest(dice[:0], ["axial"]) == ("", "", [])


def test_when_no_held_out_patient_can_be_read_the_scores_are_empty(held_out):
    for path in held_out.patients["labels"]:
        Path(path).write_bytes(b"no volume")
    dice, problems = held_out.score(["axial"], most=0)
    assert (len(dice), len(problems)) == (0, 3)
    by_patient = patient_dice(dice)
    assert held_out.cases(by_patient) == []
    assert held_out.browsed(dice).empty
    assert by_patient.nsmallest(3, "dice").empty
    assert segmentation_scores(dice)["scores"] == []
    assert segmentation_scores(dice)["summary"] == {"segmentation": {"n": 0}}


def test_two_visits_are_scored_with_their_own_labels_and_count_as_one_patient(held_out):
    first, second = held_out.patients.iloc[0], held_out.patients.iloc[2]
    later = second.to_dict() | {"patient_id": "00000", "study_id": "00000-101", "fold": 0}
    patients = pd.concat([first.to_frame().T, pd.DataFrame([later])], ignore_index=True)
    both = replace(held_out, patients=patients, cards={0: held_out.cards[0]})
    dice, problems = both.score(["axial"], most=1)
    assert not problems
    by_study = dice[dice["region"] == "WT"].groupby("study_id")["dice"].mean()
    assert by_study["00000-100"] > by_study["00000-101"] + 0.05
    whole = patient_dice(dice).set_index(["patient_id", "region"])["dice"]
    assert whole["00000", "WT"] == pytest.approx(by_study.mean())
    browsed = both.browsed(dice)
    assert not browsed.duplicated(["patient_id", "series"]).any()
    assert set(browsed["patient_id"]) == {"00000-100", "00000-101"}
    assert "00000-100 FLAIR" in both.cases(patient_dice(dice))[0][0].title


def test_labels_of_2024_are_scored_without_the_cavity(held_out, tmp_path):
    labels = np.zeros((12, 30, 28), np.uint8)
    labels[3:9, 8:20, 5:15] = 2
    labels[5:8, 12:16, 7:11] = 3
    labels[10:11] = 4
    patients = held_out.patients[:1].assign(labels=write(tmp_path / "new.nii.gz", labels))
    late = replace(held_out, patients=patients, convention="BraTS 2024")
    cut = late.cut("00000-100", "FLAIR", "axial")
    assert cut.truth.sum(axis=(1, 2, 3)).tolist() == [6 * 12 * 10, 3 * 4 * 4]
    truth = late.truth(patients.iloc[0], Volume(cut.image, SPACING, cut.affine))
    np.testing.assert_array_equal(truth, cut.truth)
    early, problems = replace(late, convention="BraTS 2021").score(["axial"], most=0)
    assert (len(early), problems[0].code) == (0, "unknown_labels")
