"""From series to probabilities: alike for stored slices and scans, and no series ends the run."""

import shutil
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.small_heads import RULE, Counting, preparer, stand_in
from helpers.stand_ins import precisions_of
from tiny_models import CLASSIFIER, SEGMENTER, tiny_classifier, write_tiny_run
from tiny_models import RULE as TINY_RULE

from t4e_utils.competitions.brain_tumor.classifier import predict_held_out
from t4e_utils.competitions.brain_tumor.prediction import (
    PREDICTION_COLUMNS,
    Predictor,
    load_predictor,
    type_weights_from,
)
from t4e_utils.competitions.brain_tumor.sequences import write_sequences
from t4e_utils.competitions.brain_tumor.submission import classifier_cards
from t4e_utils.learning import ModelError, TrainingError
from t4e_utils.learning.weights import read_card, read_weights, save_state
from t4e_utils.prediction import PredictionError
from t4e_utils.prediction.ensemble import fit_weights
from t4e_utils.prediction.sequences import SequenceReading, classify_sequence

VOTES = replace(RULE, series_weights={"WT": {"FLAIR": 3, "T2w": 1}})
READING = SequenceReading(RULE.chunk_stride)
CPU = torch.device("cpu")


def predictor(classifiers, *, rule=RULE, segmenter=None, batch_size=8, views=("identity",)):
    reading = replace(READING, batch_size=batch_size, views=views)
    made = replace(preparer(rule, segmenter), batch_size=batch_size)
    return Predictor(made, classifiers, reading)


@pytest.fixture
def of_flair():
    return {"FLAIR": [tiny_classifier()]}


def test_scans_and_their_stored_slices_are_predicted_alike(series, tmp_path, of_flair):
    readable, (classifier,) = series.head(3), of_flair["FLAIR"]
    table, _ = write_sequences(
        readable, preparer(), tmp_path / "slices", root=tmp_path, provenance={}
    )
    flair = table[table["is_kept"] & (table["series"] == "FLAIR")]
    patients = ["00002", "00011", "00404"]
    stored = predict_held_out(classifier, flair, patients, READING, root=tmp_path)
    direct, problems = predictor(of_flair).predict_all(readable)
    assert direct["patient_id"].tolist() == ["00002", "00011"]
    by_patient = stored.groupby("patient_id")["probability"].mean()
    np.testing.assert_allclose(by_patient, direct["probability"], atol=1e-6)
    assert tuple(direct.columns) == PREDICTION_COLUMNS
    assert problems == []


def test_folds_and_chunks_are_averaged_and_counted(series):
    classifiers = [tiny_classifier(seed) for seed in (0, 1)]
    found, _ = predictor({"FLAIR": classifiers}).predict_all(series.head(1))
    prepared = preparer().prepare_series(*preparer().read(series["path"][0]))
    each = [classify_sequence(own, prepared.pictures, READING) for own in classifiers]
    row = found.iloc[0]
    assert row["probability"] == pytest.approx(np.mean(each), abs=1e-9)
    assert (row["n_slices"], row["n_kept"], row["n_chunks"], row["fallback"]) == (16, 3, 1, "")


def test_only_series_that_have_a_classifier_are_read(series):
    predictions, problems = predictor({}).predict_all(series)
    assert predictions.empty
    assert tuple(predictions.columns) == PREDICTION_COLUMNS
    assert problems == []
    assert predictor({"T2w": []}).wanted(series)["series"].unique().tolist() == ["T2w"]


def test_a_series_that_cannot_be_read_has_no_row_and_is_a_problem(series):
    classifier = tiny_classifier()
    both = predictor({"FLAIR": [classifier], "T2w": [classifier]})
    found, problems = both.predict_all(series)
    assert found[["patient_id", "series"]].to_numpy().tolist() == [
        ["00002", "FLAIR"],
        ["00002", "T2w"],
        ["00011", "FLAIR"],
    ]
    assert [problem.path for problem in problems] == [series["path"][3]]


def test_when_no_series_can_be_read_the_table_has_its_columns(series):
    found, problems = predictor({"T2w": [tiny_classifier()]}).predict_all(series.tail(1))
    assert (len(found), len(problems)) == (0, 1)
    assert tuple(found.columns) == PREDICTION_COLUMNS


def test_a_series_with_a_say_is_read_although_it_has_no_classifier(series):
    first = series[series["patient_id"] == "00002"]
    counting = stand_in(Counting)
    voting = predictor({"T2w": [tiny_classifier()]}, rule=VOTES, segmenter=counting)
    predictions, problems = voting.predict_all(first)
    assert (predictions["series"].tolist(), problems, counting.n_slices) == (["T2w"], [], 2 * 12)
    assert voting.time_stages(first)["classify"] > 0


def test_predictions_do_not_depend_on_batch_size_workers_or_the_order_of_patients(series, of_flair):
    first = predictor(of_flair).predict_all(series)[0].set_index("patient_id")["probability"]
    assert first.nunique() == 2
    for table, batch_size, n_readers in (
        (series, 1, 1),
        (series[::-1], 7, 3),
        (series.sample(frac=1, random_state=5), 2, 4),
    ):
        other, _ = predictor(of_flair, batch_size=batch_size).predict_all(
            table, n_readers=n_readers
        )
        other = other.set_index("patient_id")["probability"]
        np.testing.assert_allclose(first, other[first.index], atol=1e-4)


def test_the_expected_finish_is_said_in_patients(series, of_flair, capsys):
    many = pd.concat([series.head(1).assign(patient_id=f"{k:05d}") for k in range(5)])
    found, _ = predictor(of_flair).predict_all(many, limit_hours=9)
    assert len(found) == 5
    said = capsys.readouterr().out
    assert said.count("3 of 5 patients in") == 1
    assert "of 9 hours, within the limit" in said
    predictor(of_flair).predict_all(many, limit_hours=1e-9)
    assert "too long: take a larger segmentation_stride" in capsys.readouterr().out


def test_stages_are_timed_apart_and_add_up_to_no_more_than_the_whole(series, of_flair):
    timed = predictor({**of_flair, "T2w": []})
    begin = time.perf_counter()
    one = series[(series["series"] == "FLAIR") & (series["patient_id"] == "00002")]
    seconds = timed.time_stages(one)
    whole = time.perf_counter() - begin
    assert list(seconds) == ["read and window", "segment and filter", "classify"]
    assert min(seconds.values()) > 0
    assert sum(seconds.values()) <= whole
    nothing = timed.time_stages(series.tail(1))  # damaged
    assert nothing["read and window"] == 0
    assert sum(nothing.values()) == pytest.approx(0, abs=0.05)


def test_the_story_of_a_patient_is_what_is_predicted_of_him(series, of_flair):
    own = series[series["patient_id"] == "00011"]  # T2w is damaged
    both = predictor({**of_flair, "T2w": of_flair["FLAIR"]})
    prepared, said = both.story(own)
    expected, _ = both.predict_all(own)
    assert list(prepared) == ["FLAIR"]
    assert prepared["FLAIR"].kept.tolist() == [8, 9]
    pd.testing.assert_frame_equal(said, expected)


def test_the_story_shows_series_that_only_have_a_say_and_an_empty_one_of_nothing(series, of_flair):
    voting = predictor(of_flair, rule=VOTES)
    prepared, said = voting.story(series.head(2))
    assert (list(prepared), said["series"].tolist()) == (["FLAIR", "T2w"], ["FLAIR"])
    for unreadable in (series.tail(1), series[:0]):
        prepared, said = voting.story(unreadable)
        assert (prepared, len(said)) == ({}, 0)
        assert tuple(said.columns) == PREDICTION_COLUMNS


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_tiny_run(tmp_path_factory.mktemp("run"), folds=(0, 1))


def load(run, rule=TINY_RULE, **options):
    cards = classifier_cards(run, series=["FLAIR", "T2w"])
    options = {"device": CPU, "views": ["identity", "hflip"], "batch_size": 3, **options}
    return load_predictor(run, cards, rule, **options)


def test_a_predictor_is_loaded_from_the_cards_of_a_run(run):
    loaded = load(run)
    assert list(loaded.classifiers) == ["FLAIR", "T2w"]
    assert [len(own) for own in loaded.classifiers.values()] == [2, 2]
    networks = [network for own in loaded.classifiers.values() for network in own]
    assert {network.recipe.size for network in networks} == {CLASSIFIER.size}
    assert not any(network.training for network in [*networks, loaded.preparer.segmenter])
    segmenter = loaded.preparer.segmenter.recipe
    assert (segmenter.percentiles, segmenter.n_outputs) == (SEGMENTER.percentiles, 2)
    assert loaded.reading == SequenceReading(2, ("identity", "hflip"), 3)
    assert (loaded.preparer.rule, loaded.preparer.batch_size) == (TINY_RULE, 3)


@pytest.mark.parametrize(
    ("precision", "dtype"), [("", torch.float32), ("bf16", torch.bfloat16), ("fp32", torch.float32)]
)
def test_all_networks_predict_in_the_precision_of_their_cards_or_in_the_one_given(
    run, series, precision, dtype
):
    loaded = load(run, replace(TINY_RULE, min_brain_fraction=0.01), precision=precision)
    found = precisions_of(loaded.preparer.segmenter)
    found_too = precisions_of(loaded.classifiers["FLAIR"][1].backbone)
    loaded.predict_all(series.head(2))
    assert found == found_too == {dtype}


def test_a_precision_that_the_device_does_not_have_is_refused(run, series):
    with pytest.raises(TrainingError, match="fp16' needs a GPU"):
        load(run, precision="fp16").predict_all(series.head(1))


def test_weights_are_given_fitted_or_equal():
    labels = np.arange(24) % 2
    noise = np.random.default_rng(0).uniform(-0.2, 0.2, (2, 24))
    columns = {"FLAIR": 0.5 + noise[0], "T1w": 0.3 + 0.4 * labels + noise[1]}
    table, names = pd.DataFrame({"label": labels, **columns}), ("FLAIR", "T1w")
    assert type_weights_from(names, [], table, fit=False) is None
    assert type_weights_from(names, [1, 2], None, fit=False) == {"FLAIR": 1, "T1w": 2}
    fitted = type_weights_from(names, [], table, fit=True)
    assert fitted == fit_weights(table, series=names)


@pytest.mark.parametrize(
    ("numbers", "fit", "sentence"),
    [
        ([1, 2], False, r"type_weights = \[1, 2\] are 2 numbers for the 3 types"),
        ([1, 2, 3], True, "choose one of the two"),
        ([], True, "no out-of-fold predictions to fit weights on"),
        ([1, -1, 1], False, "are no weights: give finite numbers of 0 or more"),
        ([0, 0, 0], False, "are no weights"),
        ([1, float("nan"), 1], False, "are no weights"),
        ([1, float("inf"), 1], False, "are no weights"),
        ([1, "2", 1], False, "are no weights"),
    ],
)
def test_weights_that_cannot_be_had_are_refused(numbers, fit, sentence):
    with pytest.raises(PredictionError, match=sentence):
        type_weights_from(("FLAIR", "T1w", "T2w"), numbers, None, fit=fit)


def changed(run, folder, weights, name, value):
    """A copy of a run in which the tensor of this name in a network is multiplied by a value."""
    shutil.copytree(run, folder)
    path = next(folder.glob(weights))
    state = read_weights(path)
    name = next(own for own in state if own.endswith(name))
    save_state({**state, name: state[name] * value}, path, read_card(path))
    return folder


SEGMENTER_FILE = "seg/models/*/*.safetensors"
CLASSIFIER_FILE = "cls/models/T2w*1-b/*.safetensors"


@pytest.mark.parametrize(
    ("weights", "name"), [(SEGMENTER_FILE, "segmentation_head.0.bias"), (CLASSIFIER_FILE, "bias")]
)
def test_a_network_with_a_value_that_is_not_finite_is_not_loaded(run, tmp_path, weights, name):
    broken = changed(run, tmp_path / "run", weights, name, np.nan)
    with pytest.raises(ModelError, match=r"best\.safetensors cannot be used: .* not finite"):
        load(broken)


def test_a_network_that_says_nothing_finite_is_found_out_before_any_patient(run, tmp_path):
    load(run).rehearse()
    # a variance below 0 is a finite weight, and its root is not
    broken = load(changed(run, tmp_path / "run", SEGMENTER_FILE, "running_var", -1))
    with pytest.raises(PredictionError, match=r"best\.safetensors \(segmenter\) says nan"):
        broken.rehearse()
    broken = load(run)
    broken.classifiers["T2w"][1].clf_head.bias.data.fill_(np.inf)
    broken.classifiers["T2w"][1].clf_head.weight.data.fill_(-np.inf)
    with pytest.raises(PredictionError, match=r"best\.safetensors \(T2w\) says nan of a plain"):
        broken.rehearse()


def test_a_network_that_is_not_the_one_of_its_card_is_refused(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    for card in (tmp_path / "run" / "cls" / "models").glob("*.json"):
        card.write_text(card.read_text().replace('"size": 32', '"size": 64'))
    with pytest.raises(ModelError, match=r"is not the network .* its size is 32, not 64"):
        load(tmp_path / "run")
    for card in (tmp_path / "run" / "cls" / "models").glob("*.json"):
        stated = card.read_text().replace('"size": 64', '"size": 32').replace("0.5,", "0.25,")
        card.write_text(stated)
    with pytest.raises(ModelError, match=r"its percentiles is \(0\.5, 99\.5\), not \(0\.25"):
        load(tmp_path / "run")


def test_a_classifier_in_the_place_of_the_segmenter_is_refused(run):
    cards = classifier_cards(run, series=["FLAIR"])
    cards[0]["provenance"]["segmenter"] = cards[0]["weights"]
    options = {"device": CPU, "views": ["identity"], "batch_size": 3}
    with pytest.raises(ModelError, match="of the kind 'sequence' with 1 outputs, not of one of"):
        load_predictor(run, cards, TINY_RULE, **options)


def test_a_series_of_which_nothing_finite_is_said_costs_its_row(series, of_flair):
    broken = tiny_classifier()
    with torch.no_grad():
        broken.clf_head.bias.fill_(np.nan)
    both = predictor({**of_flair, "T2w": [broken]})
    found, problems = both.predict_all(series.head(2))
    assert found["series"].tolist() == ["FLAIR"]
    assert [(p.code, p.path) for p in problems] == [("no_prediction", series["path"][1])]
    assert "nothing finite" in problems[0].sentence
