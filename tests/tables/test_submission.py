"""Every id of the sample gets exactly one usable answer, whatever the form."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t4e_utils.tables.submission import (
    SubmissionError,
    SubmissionForm,
    complete,
    validate,
    write_submission,
)

ONE = SubmissionForm("BraTS21ID", ("MGMT_value",))
LONG = SubmissionForm("ID", ("Label",))
WIDE = SubmissionForm("uid", ("left", "right", "present"))
TEXT = SubmissionForm("id", ("rle",), kind="text")
NUMBER = SubmissionForm("id", ("mm",), kind="number")
SAMPLE = pd.DataFrame({"BraTS21ID": ["00300", "00002", "00013"], "MGMT_value": 0.5})


def answers(form: SubmissionForm, ids, *columns) -> pd.DataFrame:
    return pd.DataFrame(dict(zip(form.columns, (list(ids), *columns), strict=True)))


def test_answers_are_put_in_the_order_of_the_sample_and_gaps_are_filled_and_named():
    table = answers(ONE, ["00013", "99999", "00300"], [0.7, 0.1, 0.2]).assign(note="x")
    done, missing = complete(table, SAMPLE, ONE, 0.55)
    expected = answers(ONE, SAMPLE["BraTS21ID"], [0.2, 0.55, 0.7])
    pd.testing.assert_frame_equal(done, expected)
    assert missing == ["00002"]
    validate(done, SAMPLE, ONE)


def test_every_form_can_be_completed():
    sample = pd.DataFrame({"ID": [f"ID_{k}_{c}" for k in "ab" for c in ("any", "epidural")]})
    done, missing = complete(answers(LONG, ["ID_b_any"], [1]), sample, LONG, 0)
    assert done["Label"].tolist() == [0, 0, 1, 0]
    assert missing == ["ID_a_any", "ID_a_epidural", "ID_b_epidural"]

    sample = pd.DataFrame({"uid": ["1.2", "1.3"]})
    table = answers(WIDE, ["1.3"], [0.1], [0.2], [0.3])
    done, missing = complete(table, sample, WIDE, {"left": 0.5, "right": 0.4, "present": 1})
    assert done.to_numpy().tolist() == [["1.2", 0.5, 0.4, 1.0], ["1.3", 0.1, 0.2, 0.3]]

    sample = pd.DataFrame({"id": ["k_0000", "k_0001"]})
    done, missing = complete(answers(TEXT, ["k_0001"], ["1 3"]), sample, TEXT, "")
    assert done["rle"].tolist() == ["", "1 3"]
    validate(done, sample, TEXT)

    for form, value in ((TEXT, ""), (NUMBER, -1.5)):
        done, missing = complete(answers(form, [], []), sample, form, value)
        assert done.iloc[:, 1].tolist() == [value] * 2
        assert missing == sample["id"].tolist()
        validate(done, sample, form)
        done, missing = complete(done, sample, form, value)
        assert missing == []


@given(
    there=st.lists(st.tuples(st.integers(0, 9), st.floats(0, 1)), unique_by=lambda pair: pair[0]),
    wanted=st.lists(st.integers(0, 9), min_size=1, unique=True),
)
@settings(max_examples=60, deadline=None)
def test_completing_is_a_look_up_for_each_id(there, wanted):
    sample = pd.DataFrame({"id": [str(i) for i in wanted]})
    form = SubmissionForm("id", ("p",))
    table = answers(form, [str(i) for i, _ in there], [value for _, value in there])
    done, missing = complete(table, sample, form, 0.25)
    assert done["p"].tolist() == [dict(there).get(i, 0.25) for i in wanted]
    assert missing == [str(i) for i in wanted if i not in dict(there)]
    validate(done, sample, form)


@pytest.mark.parametrize(
    ("table", "sample", "fallback", "sentence"),
    [
        (answers(ONE, ["1"], [0.1]), SAMPLE, 0.5, r"table of answers has no column ID, Label \(it"),
        (answers(LONG, ["1"], [0.1]), SAMPLE, 0.5, "sample has no column ID .*: name the columns"),
        (
            answers(LONG, "11", [0, 1]),
            answers(LONG, "1", [0]),
            0,
            "table of answers has 1 more than",
        ),
        (
            answers(LONG, "1", [0]),
            answers(LONG, "11", [0, 1]),
            0,
            "The sample has 1 more than once",
        ),
        (answers(LONG, "1", [0]), answers(LONG, "1", [0]), {"a": 1}, "no fallback for Label, only"),
    ],
)
def test_what_cannot_be_completed_is_refused(table, sample, fallback, sentence):
    with pytest.raises(SubmissionError, match=sentence):
        complete(table, sample, LONG, fallback)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.iloc[:2], r"has 2 rows for the 3 of the sample: missing \['00013'\], not in"),
        (lambda t: t.assign(BraTS21ID=["00300", "00002", "13"]), r"not in the sample \['13'\]"),
        (lambda t: t.iloc[::-1], "the order or the number of rows differs"),
        (lambda t: t.iloc[[0, 1, 2, 2]], "the order or the number of rows differs"),
        (lambda t: t.rename(columns={"MGMT_value": "p"}), r"it must have \['BraTS21ID', 'MGMT"),
        (lambda t: t.assign(note=1), "it must have"),
        (
            lambda t: t.assign(MGMT_value=[0.1, np.nan, 0.2]),
            "BraTS21ID 00002 has MGMT_value = .*nan",
        ),
        (
            lambda t: t.assign(MGMT_value=[0.1, 0.2, 1.01]),
            "which is no probability between 0 and 1",
        ),
        (lambda t: t.assign(MGMT_value=[-0.1, 0.2, 1]), "no probability"),
        (lambda t: t.assign(MGMT_value=[np.inf, 0.2, 1]), "no probability"),
        (lambda t: t.assign(MGMT_value=["a", 0.2, 1]), "has MGMT_value = 'a', which is no prob"),
    ],
)
def test_a_submission_that_would_be_refused_is_refused(change, sentence):
    table = answers(ONE, SAMPLE["BraTS21ID"], [0.1, 0.2, 0.3])
    validate(table, SAMPLE, ONE)
    with pytest.raises(SubmissionError, match=sentence):
        validate(change(table), SAMPLE, ONE)


def test_numbers_and_text_have_rules_of_their_own():
    sample = pd.DataFrame({"id": ["a", "b"]})
    validate(answers(NUMBER, "ab", [-3, 1e9]), sample, NUMBER)
    with pytest.raises(SubmissionError, match=r"id b has mm = .*inf.*, which is no finite number"):
        validate(answers(NUMBER, "ab", [1, np.inf]), sample, NUMBER)
    for nothing in (np.nan, None, 3):
        with pytest.raises(SubmissionError, match=r"id b has rle = .*, which is no text"):
            validate(answers(TEXT, "ab", ["", nothing]).astype(object), sample, TEXT)
    with pytest.raises(SubmissionError, match="The sample has a more than once"):
        validate(answers(TEXT, "aa", ["", ""]), pd.DataFrame({"id": ["a", "a"]}), TEXT)
    with pytest.raises(SubmissionError, match=r"1.3 has right = .*2.*, which is no probability"):
        validate(
            answers(WIDE, ["1.2", "1.3"], [0, 0], [0, 2], [0, 3]),
            pd.DataFrame({"uid": ["1.2", "1.3"]}),
            WIDE,
        )


def test_the_submission_is_written_with_ids_as_text_and_reads_back_the_same(tmp_path):
    table = answers(ONE, SAMPLE["BraTS21ID"], [0.55, 0.5, 0.7])
    report = table.assign(fallback=["prevalence", "", ""])
    problems = pd.DataFrame([("00002", "gap, wide")], columns=["patient_id", "sentence"])
    beside = {"report": report, "problems": problems}
    written = write_submission(table, SAMPLE, tmp_path / "submission.csv", ONE, **beside)
    assert (tmp_path / "submission.csv").read_text().splitlines()[:2] == [
        "BraTS21ID,MGMT_value",
        "00300,0.55",
    ]
    pd.testing.assert_frame_equal(written, table)
    again = pd.read_csv(tmp_path / "submission_report.csv", dtype={"BraTS21ID": str})
    assert again["fallback"].fillna("").tolist() == report["fallback"].tolist()
    again = pd.read_csv(tmp_path / "submission_problems.csv", dtype=str)
    pd.testing.assert_frame_equal(again, problems)
    names = ["submission.csv", "submission_problems.csv", "submission_report.csv"]
    assert sorted(os.listdir(tmp_path)) == names


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_every_form_is_written_and_read_back_the_same(tmp_path, suffix):
    tables = {
        LONG: answers(LONG, ["NA", "ID_x_any"], [0.25, 0.0]),
        WIDE: answers(WIDE, ["1.20", "1.3"], [0.1, 1.0], [0.0, 0.5], [0.5, 0.75]),
        TEXT: answers(TEXT, ["k_0000", "001", "c"], ["", "1 3 10 5", "NA"]),
        NUMBER: answers(NUMBER, ["a", "b"], [-1.5, 2.0]),
    }
    for form, table in tables.items():
        path = tmp_path / f"submission.{suffix}"
        pd.testing.assert_frame_equal(write_submission(table, table, path, form), table)
    assert os.listdir(tmp_path) == [path.name]


def test_a_submission_that_is_refused_is_not_written(tmp_path):
    table = answers(ONE, SAMPLE["BraTS21ID"], [0.5, 0.5, np.nan])
    with pytest.raises(SubmissionError, match="no probability"):
        write_submission(table, SAMPLE, tmp_path / "submission.csv", ONE, report=table)
    assert not os.listdir(tmp_path)
