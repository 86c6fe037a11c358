"""Tables, cards and scores are complete when they are there, and say what they were made with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from t4e_utils.tables import provenance, run, store

TABLE = pd.DataFrame({"patient_id": ["00006", "00123"], "dice": [0.5, np.nan]})


def test_a_fingerprint_changes_with_every_part_and_with_nothing_else():
    base = store.fingerprint({"a": 1, "b": [0.1]}, TABLE)
    assert base == store.fingerprint({"b": [0.1], "a": 1}, TABLE.copy())
    others = [
        store.fingerprint({"a": 2, "b": [0.1]}, TABLE),
        store.fingerprint({"a": 1, "b": [0.2]}, TABLE),
        store.fingerprint({"a": 1, "b": [0.1]}, TABLE.assign(dice=0.4)),
        store.fingerprint({"a": 1, "b": [0.1]}),
    ]
    assert len({base, *others}) == 5
    assert len(base) == 8


def test_a_fingerprint_is_the_same_in_another_process():
    code = (
        "from t4e_utils.tables.store import fingerprint; print(fingerprint({'b': 1.5, 'a': ['x']}))"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1


def test_a_table_comes_back_as_it_was_with_text_ids_and_without_leftovers(tmp_path):
    path = store.write_table(TABLE, tmp_path / "a" / "t.parquet", provenance={"seed": 3})
    pd.testing.assert_frame_equal(store.read_table(path, made_by="01_eda", columns=["dice"]), TABLE)
    assert store.provenance_of(path) == {"seed": 3}
    assert [p.name for p in path.parent.iterdir()] == ["t.parquet"]


def test_a_table_that_cannot_be_used_says_which_notebook_makes_it(tmp_path):
    path = tmp_path / "t.parquet"
    with pytest.raises(
        run.MissingInputError,
        match=r"t\.parquet is not there: run 02_seg_data with the same run_dir first",
    ):
        store.read_table(path, made_by="02_seg_data")
    store.write_table(TABLE, path)
    with pytest.raises(
        run.MissingInputError,
        match=r"has no column fold \(it has patient_id, dice\): run 02_seg_data again",
    ):
        store.read_table(path, made_by="02_seg_data", columns=["dice", "fold"])
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(
        run.MissingInputError, match=r"is damaged .*: delete it and run 02_seg_data again"
    ):
        store.read_table(path, made_by="02_seg_data")


def test_a_finished_table_is_used_and_one_made_with_other_parameters_is_neither_used_nor_lost(
    tmp_path,
):
    path = tmp_path / "t.parquet"
    assert not provenance.is_finished(path, {"seed": 1})
    assert not provenance.read_current(path, {"seed": 1})
    store.write_table(TABLE, path, provenance={"seed": 1, "planes": ("axial",)})
    assert provenance.is_finished(path, {"seed": 1, "planes": ["axial"]})
    assert provenance.read_current(path, {"seed": 1, "planes": ["axial"]})
    assert not provenance.read_current(path, {"seed": 2, "planes": ["axial"]})
    assert not provenance.is_finished(path, {"seed": 1}, overwrite=True)
    with pytest.raises(
        provenance.StaleResultError,
        match=r"seed was 1, is now 2\): set overwrite = True .* or choose another run_dir",
    ):
        provenance.is_finished(path, {"seed": 2, "planes": ["axial"]})
    pd.testing.assert_frame_equal(pd.read_parquet(path), TABLE)


def test_a_damaged_table_is_no_finished_one(tmp_path):
    path = tmp_path / "t.parquet"
    path.write_text("no table")
    with pytest.raises(
        run.MissingInputError, match=r"is damaged .*: delete it, it will be made anew"
    ):
        provenance.is_finished(path, {})


def test_a_card_is_plain_json_and_what_is_not_finite_is_null(tmp_path):
    content = {
        "auc": np.float64(0.5),
        "n": np.int64(3),
        "ci95": (float("nan"), float("inf")),
        "path": Path("a"),
        "inner": {1: True},
    }
    path = store.write_json(content, tmp_path / "a" / "card.json")
    expected = {"auc": 0.5, "n": 3, "ci95": [None, None], "path": "a", "inner": {"1": True}}
    assert store.read_json(path, made_by="05") == expected == json.loads(path.read_text())
    assert [p.name for p in path.parent.iterdir()] == ["card.json"]


def test_a_card_that_cannot_be_used_says_which_notebook_makes_it(tmp_path):
    path = tmp_path / "card.json"
    with pytest.raises(
        run.MissingInputError,
        match=r"card\.json is not there: run 03_train_seg with the same run_dir first",
    ):
        store.read_json(path, made_by="03_train_seg")
    path.write_text('{"a": ')
    with pytest.raises(
        run.MissingInputError,
        match=r"card\.json is damaged .*: delete it and run 03_train_seg again",
    ):
        store.read_json(path, made_by="03_train_seg")


def test_a_table_that_is_damaged_anywhere_is_read_or_refused(tmp_path):
    path = store.write_table(TABLE, tmp_path / "t.parquet", provenance={"seed": 3})
    whole, refused = path.read_bytes(), 0
    for place in range(0, len(whole), 8):
        content = bytearray(whole)
        content[place] ^= 0xFF
        path.write_bytes(content)
        for read in (partial(store.read_table, made_by="01"), store.provenance_of):
            try:  # any other error ends the test
                read(path)
            except run.MissingInputError:
                refused += 1
    assert refused


def test_a_card_that_is_no_text_is_damaged_and_arrays_in_a_card_become_lists(tmp_path):
    path = store.write_json(
        {"a": np.array([1.0, np.nan]), "b": pd.Series([1])}, tmp_path / "c.json"
    )
    assert store.read_json(path, made_by="03") == {"a": [1.0, None], "b": [1]}
    path.write_bytes(b"\xff\xfe{")
    with pytest.raises(run.MissingInputError, match=r"c\.json is damaged .*run 03 again"):
        store.read_json(path, made_by="03")


def test_scores_come_back_as_written_and_what_is_not_finite_is_null(tmp_path):
    path = tmp_path / "scores" / "train_cls.json"
    scores = [
        store.Score("auc", np.float64(0.7), (0.6, 0.8), 24, "patients"),
        store.Score("dice", float("nan"), (float("nan"), 0.5)),
        store.Score("p", 0.01, (None, None)),
    ]
    store.write_scores(
        path, "Three numbers", scores, notes=["Few."], summary={"auc": np.float64(0.7)}
    )
    rows = [
        {"name": "auc", "value": 0.7, "ci95": [0.6, 0.8], "n": 24, "unit": "patients"},
        {"name": "dice", "value": None, "ci95": None, "n": None, "unit": ""},
        {"name": "p", "value": 0.01, "ci95": None, "n": None, "unit": ""},
    ]
    expected = {
        "title": "Three numbers",
        "scores": rows,
        "notes": ["Few."],
        "summary": {"auc": 0.7},
    }
    assert store.read_scores(path) == expected == json.loads(path.read_text())
    store.write_scores(path, "Nothing", [])
    assert store.read_scores(path) == {"title": "Nothing", "scores": [], "notes": [], "summary": {}}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, r"auc\.json is not there: run the stage that writes auc.json with the same run_dir"),
        (
            '{"title": ',
            r"auc\.json is damaged .*: delete it and run the stage that writes auc.json again",
        ),
        (
            "[]",
            r"auc\.json is damaged \(it holds list.*: delete it and run the stage that writes auc",
        ),
        ('{"title": "", "scores": []}', r"holds no scores \('notes'\)"),
        ('{"title": "", "scores": [{"auc": 1}], "notes": [], "summary": {}}', "holds no scores"),
        ('{"title": "", "scores": 3, "notes": [], "summary": {}}', "holds no scores"),
    ],
)
def test_a_file_without_scores_is_named_with_what_to_do(tmp_path, content, sentence):
    path = tmp_path / "auc.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(run.MissingInputError, match=sentence):
        store.read_scores(path)
