"""From the predictions of the contrasts to one probability per patient, and what Kaggle gets."""

import shutil

import numpy as np
import pandas as pd
import pytest
from tiny_models import write_tiny_run

from t4e_utils.competitions.brain_tumor.sources import SEGMENTER
from t4e_utils.competitions.brain_tumor.submission import (
    PREVALENCE,
    assemble,
    classifier_cards,
    patients_to_predict,
    problems_by_series,
    rule_of,
)
from t4e_utils.scans.problems import Problem
from t4e_utils.tables import CatalogError
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


def test_each_problem_goes_to_its_series_and_codes_to_the_report_of_its_patient():
    series = pd.DataFrame(
        [("00002", "FLAIR", "/t/00002/FLAIR"), ("00002", "T1w", "/t/00002/T1w")]
        + [("00013", "T1w", "/t/00013/T1w"), ("00013", "T1wCE", "/t/00013/T1wCE")],
        columns=["patient_id", "series", "path"],
    )
    problems = [
        Problem("gap", "/t/00013/T1w", "A gap."),
        Problem("truncated", "/t/00002/T1w/Image-3.dcm", "Too short."),
        Problem("truncated", "/t/00002/T1w/Image-4.dcm", "Too short too."),
        Problem("blank", "/t/00002/T1w", "One value."),
        Problem("mixed_sizes", "/t/00013/T1wCE/x/1.dcm", "Two sizes."),
        Problem("id_spelling", "/t/sample.csv", "Zeros."),
    ]
    found = problems_by_series(SAMPLE, series, problems, names=SERIES)
    assert found[["patient_id", "series", "code"]].to_numpy().tolist() == [
        ["", "", "id_spelling"],
        ["00300", "FLAIR", "missing_series"],
        ["00300", "T1w", "missing_series"],
        ["00002", "T1w", "truncated"],
        ["00002", "T1w", "truncated"],
        ["00002", "T1w", "blank"],
        ["00013", "T1w", "gap"],
        ["00013", "T1wCE", "mixed_sizes"],
        ["00013", "FLAIR", "missing_series"],
    ]
    assert found["sentence"].tolist()[:2] == ["Zeros.", "Patient 00300 has no FLAIR."]
    report = assemble(SAMPLE, PREDICTIONS, series=SERIES, prevalence=0.5, problems=found)
    assert report["problems"].tolist() == [
        "FLAIR: missing_series; T1w: missing_series",
        "T1w: blank truncated",
        "FLAIR: missing_series; T1w: gap; T1wCE: mixed_sizes",
    ]


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


def test_a_report_without_problems_has_an_empty_column():
    report = assemble(SAMPLE, PREDICTIONS, series=SERIES, prevalence=0.5)
    assert report["problems"].tolist() == ["", "", ""]
    found = problems_by_series(SAMPLE, pd.DataFrame(columns=["path"]), [], names=())
    assert found.columns.tolist() == ["patient_id", "series", "code", "path", "sentence"]
    assert found.empty


@pytest.fixture
def rsna(tmp_path):
    """A test set of three folders, one of them without a series, and a sample without zeros."""
    for place in ("00002/FLAIR", "00002/T1w", "00013/T2w", "00300", "00400/FLAIR"):
        (tmp_path / "test" / place).mkdir(parents=True)
    (tmp_path / "sample_submission.csv").write_text("BraTS21ID,MGMT_value\n300,0\n13,0\n2,0\n7,0\n")
    return tmp_path


def test_series_are_those_of_the_sample_in_its_spelling(rsna):
    sample, series, problems = patients_to_predict(rsna)
    assert sample["patient_id"].tolist() == ["300", "13", "2", "7"]
    assert series[["patient_id", "series"]].to_numpy().tolist() == [
        ["2", "FLAIR"],
        ["2", "T1w"],
        ["13", "T2w"],
    ]
    assert series["path"].tolist()[0] == str(rsna / "test" / "00002" / "FLAIR")
    assert [problem.code for problem in problems] == ["id_spelling"]
    assert problems[0].sentence.startswith("3 of 4 ids are spelled otherwise")


@pytest.mark.parametrize("is_empty", [True, False])
def test_an_empty_test_folder_and_none_are_the_same_problem(rsna, is_empty):
    shutil.rmtree(rsna / "test")
    if is_empty:
        (rsna / "test").mkdir()
    sample, series, problems = patients_to_predict(rsna)
    assert (len(sample), len(series)) == (4, 0)
    [problem] = problems
    assert (problem.code, problem.path) == ("no_files", str(rsna / "test"))
    assert problem.sentence == (
        "There is no folder of a test patient, so all 4 get the fallback: is the test set unpacked?"
    )
    found = problems_by_series(sample, series, problems, names=SERIES)
    report = assemble(sample, PREDICTIONS, series=SERIES, prevalence=0.4, problems=found)
    assert report["probability"].tolist() == [0.4] * 4
    assert set(report["problems"]) == {"FLAIR: missing_series; T1w: missing_series"}


def test_a_sample_of_other_patients_than_the_folders_is_refused(rsna):
    (rsna / "sample_submission.csv").write_text("BraTS21ID,MGMT_value\n00001,0.5\n00008,0.5\n")
    with pytest.raises(
        CatalogError,
        match=r"None of the 2 patients of .*, such as 00001, has a folder .*, which holds 00002",
    ):
        patients_to_predict(rsna)
