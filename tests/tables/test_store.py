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

from t4e_utils.tables import run, store

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


def test_a_table_that_is_damaged_anywhere_is_read_as_it_was_or_refused(tmp_path):
    path = store.write_table(TABLE, tmp_path / "t.parquet", provenance={"seed": 3})
    whole, refused = path.read_bytes(), 0
    end_of_pages = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    for place in range(0, len(whole), 8):
        content = bytearray(whole)
        content[place] ^= 0xFF
        path.write_bytes(content)
        for read in (partial(store.read_table, made_by="01"), store.provenance_of):
            try:  # any other error ends the test
                found = read(path)
                if isinstance(found, pd.DataFrame) and place < end_of_pages:
                    pd.testing.assert_frame_equal(found, TABLE)
            except run.MissingInputError:
                refused += 1
    assert refused > len(whole) / 8


def test_a_page_with_one_wrong_bit_is_refused(tmp_path):
    numbers = pd.DataFrame({"dice": np.arange(2000) % 7 / 8.0})
    path = store.write_table(numbers, tmp_path / "t.parquet")
    content = bytearray(path.read_bytes())
    content[len(content) // 8] ^= 1
    path.write_bytes(content)
    assert store.provenance_of(path) == {}  # its end is whole
    with pytest.raises(run.MissingInputError, match=r"t\.parquet is damaged .*run 02 again"):
        store.read_table(path, made_by="02")


READERS = {
    "table": lambda path: store.read_table(path, made_by="04_cls_data"),
    "provenance": lambda path: store.provenance_of(path, "04_cls_data"),
    "card": lambda path: store.read_json(path, made_by="04_cls_data"),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("what", ["noise", "empty", "cut", "folder", "loop", "text", "no right"])
def test_whatever_is_in_the_place_of_a_result_is_one_sentence_with_its_maker(
    tmp_path, reader, what
):
    path = tmp_path / "result"
    if reader == "card":
        store.write_json({"a": 1, "b": [1, 2]}, path)
    else:
        store.write_table(TABLE, path)
    noise = np.random.default_rng(0).integers(0, 256, 4000, np.uint8).tobytes()
    contents = {"noise": noise, "empty": b"", "cut": path.read_bytes()[:-9], "text": b"PAR1 PAR1"}
    path.unlink()
    if what == "folder":
        path.mkdir()
    elif what == "loop":
        path.symlink_to(path)
    else:
        path.write_bytes(contents.get(what, b""))
    if what == "no right":
        path.chmod(0)
        if os.access(path, os.R_OK):
            pytest.skip("this user may read everything")
    with pytest.raises(
        run.MissingInputError, match=r"^\S*result .*run 04_cls_data again\.$"
    ) as found:
        READERS[reader](path)
    assert "\n" not in str(found.value)
    assert len(str(found.value)) < 500


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[1]", "it holds list, not names with values"),
        ("3", "it holds int"),
        ("null", "it holds NoneType"),
        ('{"prevalence": NaN}', "NaN is no finite number"),
        ('{"prevalence": -Infinity}', "-Infinity is no finite number"),
        ('{"prevalence": 1e999}', "1e999 is no finite number"),
        ('{"n": ' + "9" * 5000 + "}", "integer string conversion"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "recursion"),
        ('{"a": 1} {"b": 2}', "Extra data"),
    ],
    ids=lambda value: value[:30],
)
def test_a_card_that_holds_something_else_is_damaged(tmp_path, content, reason):
    path = tmp_path / "card.json"
    path.write_text(content)
    with pytest.raises(
        run.MissingInputError, match=f"card.json is damaged .*{reason}.*run 05 again"
    ):
        store.read_json(path, made_by="05")


def test_a_card_without_what_is_asked_for_is_named(tmp_path):
    path = store.write_json({"a": 1}, tmp_path / "card.json")
    assert store.read_json(path, made_by="05", keys=("a",)) == {"a": 1}
    with pytest.raises(run.MissingInputError, match=r"card\.json has no prevalence: delete it and"):
        store.read_json(path, made_by="05", keys=("a", "prevalence"))


@pytest.mark.parametrize(
    ("column", "values", "sentence"),
    [
        ("patient_id", [6, 123], "patient_id .* must hold text, not int64 such as 6"),
        ("patient_id", ["6", None], "patient_id .* must hold text"),
        (
            "is_kept",
            ["True", "False"],
            "is_kept .* must hold true or false, not str such as 'True'",
        ),
        ("is_kept", [1, 0], "is_kept .* must hold true or false"),
        ("fold", [0.0, 1.0], "fold .* must hold whole numbers, not float64"),
        ("fold", [True, False], "fold .* must hold whole numbers, not bool"),
        ("label", ["0", "1"], "label .* must hold numbers"),
        ("probability", ["0.5", "nan"], "probability .* must hold numbers"),
    ],
)
def test_a_column_of_another_kind_is_refused_and_not_computed_with(
    tmp_path, column, values, sentence
):
    path = store.write_table(TABLE.assign(**{column: values}), tmp_path / "t.parquet")
    with pytest.raises(run.MissingInputError, match=f"{sentence}.*: delete it and run 02 again"):
        store.read_table(path, made_by="02")


def test_a_table_without_rows_has_columns_of_no_kind(tmp_path):
    empty = pd.DataFrame(columns=["patient_id", "path", "is_kept", "fold"])
    path = store.write_table(empty, tmp_path / "t.parquet")
    assert list(store.read_table(path, made_by="02", columns=["fold"])) == list(empty)


def test_a_table_that_another_program_saved_does_not_say_what_it_was_made_with(tmp_path):
    path = store.write_table(TABLE, tmp_path / "t.parquet", provenance={"percentiles": [0, 100]})
    assert store.provenance_of(path, "02_seg_data")["percentiles"] == [0, 100]
    pd.read_parquet(path).to_parquet(path)
    found = store.provenance_of(path, "02_seg_data")
    with pytest.raises(
        run.MissingInputError,
        match=r"t\.parquet does not say with which percentiles it was made: .* run 02_seg_data",
    ):
        found["percentiles"]
    assert found.get("percentiles") is None


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


SCORED = '{"title": "", "scores": [{%s}], "notes": [], "summary": {}}'


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
        ('{"title": 1, "scores": [], "notes": [], "summary": {}}', r"\(title is int\)"),
        ('{"title": "", "scores": [], "notes": "x", "summary": {}}', r"\(notes is str\)"),
        ('{"title": "", "scores": [], "notes": [1], "summary": {}}', r"\(a note is int\)"),
        ('{"title": "", "scores": [], "notes": [], "summary": []}', r"\(summary is list\)"),
        (SCORED % '"name": "auc", "value": "0.7"', r"\(auc is str\)"),
        (SCORED % '"name": "auc", "value": true', r"\(auc is bool\)"),
        (SCORED % f'"name": "auc", "value": 1{"0" * 400}', "int too large"),
        (SCORED % '"name": "auc", "value": 0.7, "n": [3]', r"\(n is list\)"),
        (SCORED % '"name": 3, "value": 0.7', r"\(a name or unit is int\)"),
        (SCORED % '"name": "auc", "value": 0.7, "ci95": 3', r"\(ci95 is int\)"),
        (SCORED % '"name": "auc", "value": 0.7, "ci95": [0.1]', r"\(ci95 has 1 ends\)"),
        (SCORED % '"name": "auc", "value": 0.7, "ci95": [0.1, "x"]', r"\(auc is str\)"),
    ],
)
def test_a_file_without_scores_is_named_with_what_to_do(tmp_path, content, sentence):
    path = tmp_path / "auc.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(run.MissingInputError, match=sentence):
        store.read_scores(path)
