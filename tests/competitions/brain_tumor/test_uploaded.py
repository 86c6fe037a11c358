"""What of a run goes to Kaggle: what notebook 06 reads, and nothing that tells of the patients."""

import json

import numpy as np
import pandas as pd
import pytest
from tiny_models import write_tiny_run

from t4e_utils.competitions.brain_tumor.submission import classifier_cards, rule_of
from t4e_utils.competitions.brain_tumor.trained import read_out_of_fold
from t4e_utils.competitions.brain_tumor.uploaded import bundled_files, bundled_parameters
from t4e_utils.learning import ModelError
from t4e_utils.learning.weights import read_weights, save_state
from t4e_utils.prediction.ensemble import fit_weights
from t4e_utils.tables.run import MissingInputError
from t4e_utils.tables.store import read_json, write_json, write_table
from t4e_utils.tables.submission import SubmissionError


@pytest.fixture
def run(tmp_path):
    return write_tiny_run(tmp_path / "run", folds=(0, 1))


def test_without_contrasts_those_of_the_run_are_bundled(run, tmp_path):
    assert bundled_parameters(run, {"folds": [0]}) == {"folds": [0], "mri_types": ["FLAIR", "T2w"]}
    assert bundled_parameters(run, {"mri_types": ["T2w"]}) == {"mri_types": ["T2w"]}
    with pytest.raises(SubmissionError, match="holds no classifier to upload"):
        bundled_parameters(tmp_path / "none", {})


def test_weights_of_contrasts_are_fitted_before_the_labels_stay_behind(run):
    values = np.random.default_rng(0).uniform(0.1, 0.9, (3, 24))
    table = pd.DataFrame({"label": np.arange(24) % 2, "fold": 0, "mean": values[2]})
    table = table.assign(FLAIR=values[0], T2w=values[1])
    write_table(table, run / "cls" / "oof.parquet")
    given = bundled_parameters(run, {"fit_type_weights": True})
    expected = fit_weights(table, series=["FLAIR", "T2w"])
    assert given["type_weights"] == [expected["FLAIR"], expected["T2w"]]
    assert given["fit_type_weights"] is False


def test_the_files_of_a_bundle_are_those_of_the_given_contrasts_and_folds(run):
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
    assert [path for path in files if files[path] is None] == [
        "seg/models/fold0-a/best.safetensors",
        "cls/models/T2w_fold1-b/best.safetensors",
    ]
    (run / "cls" / "oof.parquet").unlink()
    assert "cls/oof.parquet" not in bundled_files(run, {"mri_types": ["T2w"]})
    with pytest.raises(MissingInputError, match="There is no classifier for T1w"):
        bundled_files(run, {"mri_types": ["T1w"]})


def test_what_the_notebook_reads_of_the_cards_is_unchanged(run, tmp_path):
    files = bundled_files(run, {"mri_types": ["FLAIR", "T2w"]})
    for path, content in files.items():
        if path.endswith(".json"):
            write_json(content, tmp_path / "there" / path)
    before, after = (
        classifier_cards(folder, series=["FLAIR", "T2w"]) for folder in (run, tmp_path / "there")
    )
    assert rule_of(after) == rule_of(before)
    assert [card["weights"] for card in after] == [card["weights"] for card in before]
    assert after[0]["model"] == before[0]["model"]
    assert files["cls/summary.json"] == {"prevalence": 0.4}


def test_no_label_no_path_and_no_score_of_this_machine_is_among_them(run):
    for path in (run / "cls" / "models").glob("*_fold*.json"):
        card = read_json(path, made_by="a test")
        private = {"rsna_dir": "/home/alice/rsna", "fold_table": "/home/alice/folds.csv"}
        card["provenance"] |= {**private, "excluded_patients": ["00777"]}
        write_json({**card, "held_out": ["00888"], "host": "alice-laptop"}, path)
    best = run / "seg" / "models" / "fold0-a" / "best.json"
    card = read_json(best, made_by="a test")
    write_json({**card, "starts_from": "/home/alice/start.pth"}, best)
    summary = {"prevalence": 0.4, "FLAIR": {"auc": 0.7}, "from": "/home/alice"}
    write_json(summary, run / "cls" / "summary.json")
    files = bundled_files(run, {"mri_types": ["FLAIR", "T2w"]})
    text = json.dumps({path: str(content) for path, content in files.items()})
    assert not [word for word in ("alice", "00777", "00888", "99992", "auc") if word in text]
    table = files["cls/oof.parquet"]
    assert (list(table.columns), table["mean"].tolist()) == (["mean"], [0.3, 0.6])


def test_out_of_fold_means_come_in_an_order_that_says_nothing(run, tmp_path):
    table = pd.DataFrame({"mean": [0.9, np.nan, 0.1], "label": [1, 1, 0]})
    write_table(table, run / "cls" / "oof.parquet")
    made = bundled_files(run, {"mri_types": ["T2w"]})["cls/oof.parquet"]
    assert made["mean"].tolist() == [0.1, 0.9]
    write_table(made, tmp_path / "there" / "cls" / "oof.parquet")
    assert read_out_of_fold(tmp_path / "there")["mean"].tolist() == [0.1, 0.9]


def test_weights_that_could_not_predict_are_not_uploaded(run):
    path = run / "cls" / "models" / "T2w_fold1-b" / "best.safetensors"
    state = read_weights(path)
    state["clf_head.bias"] = state["clf_head.bias"] * np.nan
    save_state(state, path, read_json(path.with_suffix(".json"), made_by="a test"))
    with pytest.raises(ModelError, match=r"T2w_fold1-b.*clf_head\.bias has 1 values that are not"):
        bundled_files(run, {"mri_types": ["T2w"]})
