"""The score files of the T4E collection, from tables whose scores are known."""

from itertools import product

import numpy as np
import pandas as pd
import pytest

from t4e_utils.competitions.brain_tumor.report import classification_scores, segmentation_scores
from t4e_utils.tables.store import Score, read_json, write_scores

# Dice of five patients in two planes, with means 0.8, 0.6, 0.9, 0.8, 0.8 (WT) and 0.5, 0.1, 0.3,
# 0.3, 0.4 (ET): medians 0.8 and 0.3.
DICE = {
    "WT": [(0.9, 0.7), (0.5, 0.7), (1.0, 0.8), (0.8, 0.8), (0.9, 0.7)],
    "ET": [(0.4, 0.6), (0.0, 0.2), (0.3, 0.3), (0.2, 0.4), (0.4, 0.4)],
}
ROWS = pd.DataFrame(
    [
        {"patient_id": f"{i:05d}", "region": region, "dice": values[plane]}
        for region, plane in product(DICE, (0, 1))
        for i, values in enumerate(DICE[region])
    ]
)
AUC = {"auc": 0.75, "ci95": [0.5, 0.9], "n": 60, "n_positive": 30, "permutation_p": 0.01}
AUCS = {"FLAIR": AUC, "mean": {**AUC, "auc": 0.8, "ci95": [0.6, 0.9]}}
NOTHING = {**AUC, "auc": float("nan"), "ci95": [float("nan")] * 2}


def scores_of(auc, *, select_on="inner", control="none", data="scans"):
    return classification_scores(auc, select_on=select_on, control=control, data=data)


def notes_of(auc, **options):
    return " ".join(scores_of(auc, **options)["notes"])


def test_the_dice_is_the_median_over_patients_of_their_means_with_the_headline_first():
    found = segmentation_scores(ROWS)
    assert [(score.name, score.n, score.unit) for score in found["scores"]] == [
        ("wt_dice", 5, "median Dice"),
        ("et_dice", 5, "median Dice"),
    ]
    assert [score.value for score in found["scores"]] == pytest.approx([0.8, 0.3])
    assert found["scores"][0].ci95 == pytest.approx([0.6, 0.9])
    summary = found["summary"]["segmentation"]
    assert (summary["n"], summary["wt"]["worst"], summary["et"]["dice_median"]) == pytest.approx(
        (5, 0.6, 0.3)
    )


def test_a_handful_of_patients_has_no_interval_and_no_auc():
    one = segmentation_scores(ROWS[(ROWS["patient_id"] == "00000") & (ROWS["region"] == "WT")])
    (score,) = one["scores"]
    assert score.value == 0.8
    assert np.isnan(score.ci95).all()
    few = scores_of({name: {**auc, "n": 2} for name, auc in AUCS.items()})
    assert {(score.value, score.ci95, score.n) for score in few["scores"]} == {(None, None, 2)}
    assert "2 held-out patients are too few for an AUC." in few["notes"]
    assert few["summary"]["classification"]["mean"]["auc"] == 0.8


def test_the_auc_of_the_mean_stands_first_and_the_summary_is_what_was_given():
    found = scores_of(AUCS)
    assert found["scores"] == [
        Score("auc", 0.8, [0.6, 0.9], 60, "AUC"),
        Score("flair_auc", 0.75, [0.5, 0.9], 60, "AUC"),
    ]
    assert found["summary"] == {"classification": AUCS, "select_on": "inner"}
    assert "(permutation p): FLAIR 0.0100, mean 0.0100." in " ".join(found["notes"])


def test_an_auc_that_is_not_defined_is_null_in_the_file(tmp_path):
    path = tmp_path / "scores" / "train_cls.json"
    write_scores(path, **scores_of({"FLAIR": NOTHING, "mean": NOTHING}))
    found = read_json(path, made_by="05_train_cls")
    assert [(row["value"], row["ci95"]) for row in found["scores"]] == [(None, None)] * 2
    assert found["summary"]["classification"]["mean"]["auc"] is None


def test_held_out_patients_that_chose_and_controls_are_said_so():
    words = notes_of(AUCS, select_on="outer", control="masks only")
    assert 'chose the checkpoints (select_on = "outer")' in words
    assert "This is a control run (masks only)" in words
    assert not {"chose", "control"} & set(notes_of(AUCS).split())


@pytest.mark.parametrize(
    ("mean", "sentence"),
    [
        ({"n": 40}, "With 40 patients the AUC of this run is no evidence of anything."),
        ({"ci95": [0.4, 0.8]}, "The interval of this run includes 0.5: chance."),
    ],
)
def test_how_much_an_auc_of_scans_can_say(mean, sentence):
    changed = {"FLAIR": AUC, "mean": {**AUCS["mean"], **mean}}
    assert sentence in notes_of(changed)
    assert sentence not in notes_of(AUCS)
    assert "the best private score of the challenge was 0.622" in notes_of(AUCS)
    on_phantoms = notes_of(changed, data="phantoms")
    assert sentence not in on_phantoms
    assert "challenge" not in on_phantoms
