"""From the predictions of the contrasts to one probability per patient, and what Kaggle gets."""

import shutil

import numpy as np
import pandas as pd
import pytest
from helpers.tiny_models import write_tiny_run

from t4e_utils.competitions.brain_tumor.sources import SEGMENTER
from t4e_utils.competitions.brain_tumor.submission import (
    PREVALENCE,
    assemble,
    bundled_files,
    bundled_parameters,
    classifier_cards,
    rule_of,
)
from t4e_utils.tables.provenance import StaleResultError, content_of
from t4e_utils.tables.run import MissingInputError
from t4e_utils.tables.store import read_json, read_table, write_json, write_table
from t4e_utils.tables.submission import SubmissionError

SERIES = ("FLAIR", "T1w")
SAMPLE = pd.DataFrame({"patient_id": ["00300", "00002", "00013"]})


def prediction(patient, series, probability, fallback=""):
    return {
        "patient_id": patient,
        "series": series,
        "probability": probability,
        "n_slices": 40,
        "n_kept": 12,
        "n_chunks": 1,
        "fallback": fallback,
    }


PREDICTIONS = pd.DataFrame(
    [
        prediction("00002", "FLAIR", 0.2),
        prediction("00002", "T1w", 0.8),
        prediction("00013", "T1w", 0.7, fallback="central slices"),
        prediction("99999", "T1w", 0.1),
    ]
)


def test_assemble_matches_a_hand_computed_table_in_the_order_of_the_sample():
    report = assemble(SAMPLE, PREDICTIONS, series=SERIES, prevalence=0.55)
    assert report["patient_id"].tolist() == ["00300", "00002", "00013"]
    assert report["probability"].tolist() == pytest.approx([0.55, 0.5, 0.7])
    assert report["fallback"].tolist() == [
        PREVALENCE,
        "",
        "T1w: central slices; FLAIR: no readable series",
    ]
    assert report["series_used"].tolist() == ["", "FLAIR T1w", "T1w"]
    assert report["n_kept"].tolist() == [0, 24, 12]


def test_weights_of_contrasts_are_used_and_one_without_weight_does_not_decide_alone():
    report = assemble(
        SAMPLE, PREDICTIONS, series=SERIES, prevalence=0.55, weights={"FLAIR": 3.0, "T1w": 1.0}
    )
    assert report["probability"][1] == pytest.approx(0.35)
    alone = assemble(
        SAMPLE, PREDICTIONS, series=SERIES, prevalence=0.55, weights={"FLAIR": 1.0, "T1w": 0.0}
    )
    assert alone["probability"].tolist() == pytest.approx([0.55, 0.2, 0.55])


def test_contrasts_without_a_classifier_are_left_out():
    report = assemble(SAMPLE, PREDICTIONS, series=("FLAIR",), prevalence=0.5)
    assert report["probability"].tolist() == pytest.approx([0.5, 0.2, 0.5])


def test_without_any_prediction_everybody_gets_the_prevalence():
    report = assemble(SAMPLE, PREDICTIONS.iloc[:0], series=SERIES, prevalence=0.4)
    assert report["probability"].tolist() == [0.4] * 3
    assert set(report["fallback"]) == {PREVALENCE}


@pytest.mark.parametrize("bad", [np.nan, 1.2, -0.1, np.inf])
def test_a_prediction_that_is_no_probability_is_refused(bad):
    with pytest.raises(SubmissionError, match="00002 was given"):
        assemble(SAMPLE, PREDICTIONS.assign(probability=bad), series=SERIES, prevalence=0.5)


def test_a_prevalence_and_weights_that_make_no_sense_are_refused():
    with pytest.raises(SubmissionError, match=r"prevalence = 1\.5"):
        assemble(SAMPLE, PREDICTIONS, series=SERIES, prevalence=1.5)
    with pytest.raises(SubmissionError, match="The contrast T1w has no weight"):
        assemble(SAMPLE, PREDICTIONS, series=SERIES, prevalence=0.5, weights={"FLAIR": 1.0})


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """A run that nothing is wrong with."""
    return write_tiny_run(tmp_path_factory.mktemp("whole") / "run", series=("FLAIR",))


def read_results(run):
    """Read what notebook 06 reads before it predicts, but for the weights."""
    cards = classifier_cards(run, series=["FLAIR"])
    summary = read_json(run / "cls" / "summary.json", made_by="05_train_cls")
    oof = read_table(run / "cls" / "oof.parquet", made_by="05_train_cls", columns=("mean",))
    return cards, summary, oof


@pytest.mark.parametrize("name", ["models/FLAIR_fold0.json", "summary.json", "oof.parquet"])
@pytest.mark.parametrize("damage", ["noise", "empty", "cut", "folder", "gone"])
def test_each_damaged_result_is_named_with_the_notebook_that_makes_it_anew(
    whole_run, tmp_path, name, damage
):
    run = shutil.copytree(whole_run, tmp_path / "run")
    cards, summary, oof = read_results(run)
    assert (cards[0]["fold"], summary["prevalence"], len(oof)) == (0, 0.4, 2)
    path = run / "cls" / name
    whole = path.read_bytes()
    path.unlink()
    noise = np.random.default_rng(0).integers(0, 256, 3000, np.uint8).tobytes()
    if damage == "folder":
        path.mkdir()
    elif damage != "gone":
        path.write_bytes({"noise": noise, "empty": b"", "cut": whole[: len(whole) // 2]}[damage])
    is_left = [one for one in run.rglob("*") if one != path]
    with pytest.raises(
        MissingInputError, match=rf"({path.name}|no classifier for FLAIR) .*run 05_train_cls"
    ) as found:
        read_results(run)
    assert "\n" not in str(found.value)
    assert [one for one in run.rglob("*") if one != path] == is_left


def say_what_they_are_made_from(run, **sources):
    cards = {path: read_json(path, made_by="") for path in (run / "cls" / "models").glob("*.json")}
    for path, card in cards.items():
        card["provenance"]["made_from"] = sources
        write_json(card, path)
    return card["provenance"]


def test_classifiers_are_refused_when_their_slices_were_made_anew(tmp_path):
    run = write_tiny_run(tmp_path, series=("FLAIR",))
    made = say_what_they_are_made_from(run, labels="aa")
    slices = run / "cls" / "slices.parquet"
    write_table(pd.DataFrame({"path": ["a"]}), slices, provenance=made)
    assert len(classifier_cards(run, series=["FLAIR"])) == 1
    anew = {**made, "made_from": {"labels": "bb"}}
    write_table(pd.DataFrame({"path": ["a"]}), slices, provenance=anew)
    with pytest.raises(StaleResultError, match=r"FLAIR_fold0\.json was made before .*run 05_train"):
        classifier_cards(run, series=["FLAIR"])


def test_classifiers_are_refused_when_another_segmenter_is_in_the_place_of_theirs(tmp_path):
    run = write_tiny_run(tmp_path, series=("FLAIR",))
    weights = run / "seg/models/fold0-a/best.safetensors"
    say_what_they_are_made_from(run, **{SEGMENTER: content_of(weights)})
    assert len(classifier_cards(run, series=["FLAIR"])) == 1
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(
        StaleResultError,
        match=r"best\.safetensors has changed since .*FLAIR_fold0\.json was trained on its masks: "
        "run 04_cls_data and 05_train_cls again",
    ):
        classifier_cards(run, series=["FLAIR"])


def test_classifiers_of_other_labels_are_not_averaged_although_one_does_not_say_of_which(tmp_path):
    cards = classifier_cards(write_tiny_run(tmp_path), series=["FLAIR", "T2w"])
    rule_of(cards)
    for k in (0, 1):
        said = [{**card, "provenance": dict(card["provenance"])} for card in cards]
        said[k]["provenance"]["made_from"] = {"train_labels.csv": "aa"}
        said[1 - k]["provenance"]["made_from"] = {"train_labels.csv": "bb"}
        with pytest.raises(SubmissionError, match="The classifiers differ in made_from"):
            rule_of(said)
        del said[1 - k]["provenance"]["made_from"]
        with pytest.raises(SubmissionError, match="The classifiers differ in made_from"):
            rule_of(said)


def test_without_contrasts_those_of_the_run_are_bundled(tmp_path):
    run = write_tiny_run(tmp_path / "run")
    assert bundled_parameters(run, {"folds": [0]}) == {"folds": [0], "mri_types": ["FLAIR", "T2w"]}
    assert bundled_parameters(run, {"mri_types": ["T2w"]}) == {"mri_types": ["T2w"]}
    with pytest.raises(SubmissionError, match="holds no classifier to upload"):
        bundled_parameters(tmp_path, {})


def test_the_files_of_a_bundle_are_those_of_the_given_contrasts_and_folds(tmp_path):
    run = write_tiny_run(tmp_path / "run", folds=(0, 1))
    files = bundled_files(run, {"mri_types": ["T2w"], "folds": [1]})
    assert set(files) == {
        "seg/models/fold0-a/best.safetensors",
        "seg/models/fold0-a/best.json",
        "cls/models/T2w_fold1-b/best.safetensors",
        "cls/models/T2w_fold1-b/best.json",
        "cls/models/T2w_fold1.json",
        "cls/summary.json",
        "cls/oof.parquet",
    }
    (run / "cls" / "oof.parquet").unlink()
    assert set(bundled_files(run, {"mri_types": ["T2w"]})) > set(files) - {"cls/oof.parquet"}
    with pytest.raises(MissingInputError, match="There is no classifier for T1w"):
        bundled_files(run, {"mri_types": ["T1w"]})
