"""What a run says of its models is checked when it is read."""

import json

import numpy as np
import pandas as pd
import pytest
from tiny_models import CLASSIFIER, SEGMENTER, write_tiny_run

from t4e_utils import T4EError
from t4e_utils.competitions.brain_tumor.submission import classifier_cards
from t4e_utils.competitions.brain_tumor.trained import (
    read_out_of_fold,
    read_segmenter_card,
    read_summary,
)
from t4e_utils.learning import ModelError
from t4e_utils.prediction import PredictionError
from t4e_utils.tables.run import MissingInputError
from t4e_utils.tables.store import read_json, write_json, write_table


@pytest.fixture
def run(tmp_path):
    return write_tiny_run(tmp_path / "run")


CARD = "cls/models/FLAIR_fold0.json"
DROP = object()


def changed(path, where, value):
    """Write a JSON file with one value changed, at a place such as ("provenance", "source")."""
    content = read_json(path, made_by="a test")
    inner = content
    for name in where[:-1]:
        inner = inner[name]
    if value is DROP:
        del inner[where[-1]]
    else:
        inner[where[-1]] = value
    path.write_text(json.dumps(content))


def made(name):
    return "provenance", name


@pytest.mark.parametrize(
    ("where", "value", "sentence"),
    [
        (("series",), "T2w", "series is 'T2w', and should be 'FLAIR'"),
        (("series",), DROP, "series is missing"),
        (("control",), "none of them", "control is 'none of them'"),
        (("fold",), -1, "fold is -1"),
        (("fold",), "0", "fold is '0'"),
        (("fold",), True, "fold is True"),
        (
            ("weights",),
            "../../secret.pth",
            r"weights is '\.\./\.\./secret\.pth', and should be a path",
        ),
        (("weights",), "/etc/secret.pth", "and should be a path below the run's folder"),
        (("weights",), "a\0b.pth", "and should be a path below the run's folder"),
        (("weights",), "", "and should be a path below the run's folder"),
        (("weights",), "cls/notes.txt", "and should be a file that ends in one of"),
        (("weights",), "a" * 400 + ".pth", "and should be a file"),
        (("weights",), None, "weights is None"),
        (("trained_on",), "00001", "trained_on is '00001'"),
        (("trained_on",), [1], r"trained_on\.0 is 1"),
        (("trained_on",), DROP, "trained_on is missing"),
        (("provenance",), DROP, "provenance is missing"),
        (("provenance",), ["a"], r"provenance is \['a'\]"),
        (made("segmenter"), "../seg.safetensors", r"segmenter is '\.\./seg\.safetensors'"),
        (made("segmenter"), DROP, "segmenter is missing"),
        (made("percentiles"), [1], r"percentiles\.1 is missing"),
        (made("sequence_length"), 10**9, "sequence_length is 1000000000"),
        (made("sequence_length"), 7, r"sequence_length are \('sequence', 3, 6\), and should be"),
        (made("chunk_stride"), 0, "chunk_stride is 0"),
        (made("chunk_stride"), DROP, "chunk_stride is missing"),
        (made("source"), "tiff", "source is 'tiff'"),
        (made("mask_threshold"), float("nan"), "nan|NaN"),
        (made("segmentation_zoom"), float("inf"), "inf|Inf"),
        (made("segmentation_views"), [], r"segmentation_views is \[\]"),
        (made("segmentation_views"), ["upside down"], "segmentation_views is"),
        (made("series_weights"), {"WT": {"FLAIR": -1}}, "series_weights.WT.FLAIR is -1"),
        (made("series_weights"), {"brain": {"FLAIR": 1}}, "series_weights is {'brain'"),
        (("model",), None, "model is None"),
        (("model", "kind"), "image", r"are \('image', 3, 6\)"),
        (("model", "n_inputs"), 4, r"are \('sequence', 4, 6\)"),
        (("model", "size"), 10**9, "size is 1000000000"),
        (("model", "percentiles"), [99, 1], "should ascend"),
    ],
)
def test_a_classifiers_card_that_makes_no_sense_is_one_sentence(run, where, value, sentence):
    changed(run / CARD, where, value)
    with pytest.raises(T4EError, match=rf"FLAIR_fold0\.json.*({sentence})") as caught:
        classifier_cards(run, series=["FLAIR"])
    assert isinstance(caught.value, (ModelError, MissingInputError))
    assert "05_train_cls" in str(caught.value) or "Train the network again" in str(caught.value)


@pytest.mark.parametrize("content", ["[]", "null", "3", "\xff", '{"a": 1'])
def test_a_card_that_is_no_object_is_one_sentence(run, content):
    (run / CARD).write_text(content, encoding="latin-1")
    with pytest.raises(T4EError, match=r"FLAIR_fold0\.json"):
        classifier_cards(run, series=["FLAIR"])


def segmenter_card(run, **changes):
    card = {"weights": "seg/models/fold0-a/best.safetensors", "trained_on": ["00001"]}
    card |= {"fold": 0, "provenance": {}}
    stated = json.loads((run / "seg/models/fold0-a/best.json").read_text())["model"]
    write_json({**card, "model": {**stated, **changes}}, run / "seg" / "models" / "fold0.json")


def test_the_card_of_a_segmenter_is_read(run):
    segmenter_card(run)
    card = read_segmenter_card(run, 0)
    assert card["model"]["percentiles"] == list(SEGMENTER.percentiles)
    with pytest.raises(MissingInputError, match=r"fold1\.json is not there"):
        read_segmenter_card(run, 1)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"n_outputs": 3}, "with 3 outputs, not of one of unet or unet.* that draws WT and ET"),
        ({"kind": "sequence"}, "of the kind 'sequence'"),
        ({"percentiles": [0, 200]}, r"percentiles\.1 is 200"),
    ],
)
def test_the_card_of_another_network_is_no_segmenters(run, changes, sentence):
    segmenter_card(run, **changes)
    with pytest.raises(ModelError, match=rf"fold0\.json .*{sentence}"):
        read_segmenter_card(run, 0)


def test_a_segmenters_card_that_leads_out_of_the_run_is_refused(run):
    segmenter_card(run)
    changed(run / "seg" / "models" / "fold0.json", ("weights",), "../../a.pth")
    with pytest.raises(ModelError, match=r"fold0\.json is no card of 03_train_seg \(weights is"):
        read_segmenter_card(run, 0)


@pytest.mark.parametrize("value", [None, "0.4", 1.5, -0.1, True, float("nan"), [0.4], DROP])
def test_a_prevalence_that_is_no_share_is_refused(run, value):
    changed(run / "cls" / "summary.json", ("prevalence",), value)
    with pytest.raises(MissingInputError, match=r"summary\.json .*run 05_train_cls again"):
        read_summary(run)


def test_the_prevalence_is_read(run):
    assert read_summary(run)["prevalence"] == 0.4


def out_of_fold(run, **columns):
    table = {"label": [0, 1], "fold": [0, 1], "mean": [0.3, np.nan], "FLAIR": [0.2, 0.9]}
    return write_table(pd.DataFrame({**table, **columns}), run / "cls" / "oof.parquet")


def test_out_of_fold_predictions_are_read_if_there_are_any(run):
    path = out_of_fold(run)
    assert read_out_of_fold(run, series=["FLAIR"], fit=True)["FLAIR"].tolist() == [0.2, 0.9]
    path.unlink()
    assert read_out_of_fold(run) is None


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"mean": [0.3, 1.2]}, r"mean = 1\.2, which is no probability"),
        ({"mean": [0.3, np.inf]}, "mean = inf, which is no probability"),
        ({"FLAIR": [-0.1, 0.2]}, r"FLAIR = -0\.1, which is no probability"),
        ({"label": [0, 2]}, "the label 2, which is neither 0 nor 1"),
        ({"label": [0, np.nan]}, "the label nan, which is neither 0 nor 1"),
    ],
)
def test_out_of_fold_values_that_make_no_sense_are_refused(run, columns, sentence):
    out_of_fold(run, **columns)
    with pytest.raises(PredictionError, match=rf"oof\.parquet: .*{sentence}.*run 05_train_cls"):
        read_out_of_fold(run, series=["FLAIR"], fit=True)


def test_labels_are_looked_at_only_where_weights_are_fitted(run):
    out_of_fold(run, label=[0, 2])
    assert len(read_out_of_fold(run)) == 2
    with pytest.raises(MissingInputError, match="has no column T1w"):
        read_out_of_fold(run, series=["T1w"], fit=True)


def test_the_cards_that_a_run_writes_are_taken(run):
    (card,) = classifier_cards(run, series=["T2w"])
    assert card["model"]["size"] == CLASSIFIER.size
