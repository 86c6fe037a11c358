"""The report of a run, from score files, tables and executed notebooks made by hand."""

from __future__ import annotations

import base64
import json
import re
import shutil
from datetime import datetime, timedelta
from html.parser import HTMLParser

import nbformat
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from t4e_utils.tables import store
from t4e_utils.tables.store import Score, write_scores
from t4e_utils.workflow import report
from t4e_utils.workflow.plan import Stage

# a collection that is none of ours; the name of one stage begins with that of another
STAGES = {
    "look": Stage("01_look"),
    "train": Stage("02_train"),
    "train_more": Stage("03_train_more"),
    "submit": Stage("04_submit"),
}
BEGIN = datetime.fromisoformat("2026-01-01T10:00:00+00:00")
EVIL = "<script>alert('x')</script>"
PNG = base64.b64encode(b"\x89PNG pixels").decode()
LOSS = [
    Score("log_loss", 1.25, (1.0, 1.5), 40, "nats"),
    Score("constant_log_loss", float("nan"), None, 40, "nats"),
]
AUC = [
    Score("auc", 0.75, (0.5, 0.9), 40, "AUC"),
    Score("rule_auc", 0.5, (float("nan"),) * 2, None),
    Score("p", 0.0005),
]


def executed_copy(
    run, name: str, begin: int, end: int, *, words: str = "What this shows.", output=None
) -> None:
    """An executed copy that ran from one second to another after ten o'clock."""
    times = {
        key: (BEGIN + timedelta(seconds=value)).isoformat()
        for key, value in (("start_time", begin), ("end_time", end))
    }
    cells = [
        new_markdown_cell(f"# {name}"),
        new_code_cell('run_dir: str = "runs/a"  # where', metadata={"tags": ["parameters"]}),
        new_markdown_cell(words),
        new_code_cell(
            "draw()",
            metadata={"tags": ["report"]},
            outputs=[output or new_output("display_data", data={"image/png": PNG})],
        ),
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {
        "kernelspec": kernel,
        "papermill": {**times, "parameters": {"run_dir": f"runs/{words[:40]}"}},
    }
    (run / "notebooks").mkdir(parents=True, exist_ok=True)
    nbformat.write(
        new_notebook(cells=cells, metadata=metadata), run / "notebooks" / f"{name}.ipynb"
    )


@pytest.fixture
def run(tmp_path):
    """A complete run on phantoms: known scores, and executed copies side by side."""
    run = tmp_path / "runs" / "a"
    problems = pd.DataFrame(
        {
            "code": ["gap", "gap", "odd"],
            "path": ["/x/1", "/x/2", "/x/3"],
            "sentence": ["A gap.", "Another gap.", "Odd."],
        }
    )
    store.write_table(problems, run / "eda" / "problems.parquet", provenance={"data": "phantoms"})
    write_scores(run / "scores" / "train_more.json", "Ranking", AUC, summary={"chosen_by": "tune"})
    write_scores(
        run / "scores" / "train_b.json",
        "Losses",
        LOSS,
        notes=["A note."],
        summary={"losses": {"n": 40}},
    )
    (run / "submission.csv").write_text("id,p\n00002,0.25\n00013,0.5\n")
    (run / "submission_report.csv").write_text(
        "id,probability,fallback\n00002,0.25,\n00013,0.5,largest tumour\n"
    )
    executed_copy(run, "01_look", 0, 10)
    executed_copy(run, "02_train", 10, 12)
    executed_copy(run, "03_train_more_fold0", 10, 40)
    executed_copy(run, "03_train_more_fold1", 20, 50)
    executed_copy(run, "03_train_more", 3600, 3605)
    executed_copy(run, "04_submit", 3605, 3606)
    return run


@pytest.fixture
def quick(run):
    """The run without its executed copies, whose pages take most of the time."""
    shutil.rmtree(run / "notebooks")
    return run


def page_of(run) -> str:
    page = report.write_report(run, stages=STAGES, about="Some challenge")
    return page.read_text(encoding="utf-8")


def text_of(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def test_the_summary_has_all_scores_in_the_order_of_the_stages_and_what_the_files_add(run):
    page_of(run)
    found = json.loads((run / "summary.json").read_text())
    rows = found["scores"]
    assert [row["name"] for row in rows] == [
        "log_loss",
        "constant_log_loss",
        "auc",
        "rule_auc",
        "p",
    ]
    assert rows[0] == {
        "name": "log_loss",
        "value": 1.25,
        "ci95": [1.0, 1.5],
        "n": 40,
        "unit": "nats",
    }
    assert rows[1]["value"] is None
    assert (found["data"], found["losses"], found["chosen_by"]) == ("phantoms", {"n": 40}, "tune")
    assert found["seconds"] == {"look": 10, "train": 2, "train_more": 45, "submit": 1, "total": 56}
    assert found["versions"]["pandas"] == pd.__version__


def test_a_summary_cannot_take_the_place_of_what_every_report_has(run):
    write_scores(run / "scores" / "train.json", "T", [], summary={"scores": 1, "data": 2, "a": 3})
    page_of(run)
    found = json.loads((run / "summary.json").read_text())
    assert (len(found["scores"]), found["data"], found["a"]) == (5, "phantoms", 3)


def test_the_page_shows_every_score_with_interval_n_and_unit_and_the_first_ones_on_top(run):
    page = page_of(run)
    text = text_of(page)
    for words in (
        "Some challenge",
        "Losses nats 1.250 log_loss 95% interval 1.000 to 1.500 n = 40",
        "Ranking AUC 0.750 auc 95% interval 0.500 to 0.900 n = 40",
        "A note. Score Value 95% interval n Unit log_loss 1.250 1.000 to 1.500 40 nats "
        "constant_log_loss not defined not defined 40 nats",
        "Score 0 0.5 1 Value 95% interval n Unit auc 0.750 0.500 to 0.900 40 AUC "
        "rule_auc 0.500 not defined p 0.0005 not defined",
        "These patients are phantoms, drawn by a program.",
        "00013 largest tumour",
        "1 prediction rests on a fallback",
        "gap 2",
        "56 s in all",
        "not a medical device",
    ):
        assert words in text
    assert "This run is not complete" not in text
    assert page.count(f'<img src="data:image/png;base64,{PNG}"') == 4
    for link in re.findall(r'href="(notebooks/[^"]+)"', page):
        assert (run / "report" / link).is_file()
    assert "notebooks/03_train_more_fold1.html" in page


def test_every_tag_of_the_page_is_closed_where_it_should_be(run):
    still_open = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag, attributes):
            if tag not in ("meta", "img", "br"):
                still_open.append(tag)

        def handle_endtag(self, tag):
            assert still_open.pop() == tag

    Tags().feed(page_of(run))
    assert not still_open


def test_nothing_on_the_page_comes_from_elsewhere_or_runs(run):
    page = page_of(run)
    assert "<script" not in page
    assert not re.findall(r'(?:src|href)="(?!data:|#|notebooks/)', page)


def test_what_files_say_is_shown_as_text_and_never_runs(run):
    table = pd.DataFrame(
        {"code": [f"c{EVIL}"], "path": [f"/x/{EVIL}"], "sentence": [f"Patient {EVIL} is odd."]}
    )
    store.write_table(table, run / "eda" / "problems.parquet")
    (run / "submission.csv").write_text(f'id,{EVIL}\n"{EVIL}",0.25\n')
    (run / "submission_report.csv").write_text(f'{EVIL},fallback\n"{EVIL}","{EVIL}"\n')
    write_scores(
        run / "scores" / "train.json", EVIL, [Score(EVIL, 0.5, n=EVIL, unit=EVIL)], notes=[EVIL]
    )
    executed_copy(
        run,
        "02_train",
        0,
        1,
        words=EVIL,
        output=new_output("display_data", data={"text/html": EVIL, "image/svg+xml": EVIL}),
    )
    page = page_of(run)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 14
    assert "<script" not in (run / "report" / "notebooks" / "02_train.html").read_text()


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ("submission.csv", "The submission is not there: run 04_submit with the same run_dir."),
        ("submission_report.csv", "submission_report.csv is not there: run 04_submit again"),
        ("notebooks/02_train.ipynb", "02_train has not run yet: start the pipeline again"),
        ("scores/*.json", "There are no scores yet"),
    ],
)
def test_a_run_without_one_part_has_a_report_that_names_it(run, missing, sentence):
    for path in run.glob(missing):
        path.unlink()
    page = page_of(run)
    assert "This run is not complete" in page
    assert sentence in page


@pytest.mark.parametrize(
    ("damaged", "sentence"),
    [
        (
            "scores/train_b.json",
            r"train_b\.json is damaged .* run the stage that writes train_b\.json",
        ),
        ("eda/problems.parquet", r"problems\.parquet is damaged .* run 01_look again"),
        ("submission_report.csv", "submission_report.csv has no column fallback: run 04_submit"),
    ],
)
def test_a_damaged_file_is_named_and_the_rest_is_shown(run, damaged, sentence):
    (run / damaged).write_text("no table")
    text = text_of(page_of(run))
    assert re.search(sentence, text)
    assert "auc 0.750" in text


def test_a_card_that_holds_no_scores_is_named(run):
    store.write_json({"auc": 0.5}, run / "scores" / "other.json")
    assert "other.json holds no scores" in page_of(run)


def test_an_empty_run_has_a_report_too(tmp_path):
    page = page_of(tmp_path)
    assert page.count("not there yet") == 2
    assert "Not looked for yet." in page
    found = json.loads((tmp_path / "summary.json").read_text())
    assert (found["data"], found["scores"], found["seconds"]) == ("unknown", [], {})


def test_a_failed_notebook_is_named(run):
    copy = run / "notebooks" / "03_train_more.ipynb"
    notebook = nbformat.read(copy, as_version=4)
    notebook.cells[-1].update(
        execution_count=2, outputs=[new_output("error", ename="E", evalue="boom", traceback=[])]
    )
    notebook.cells[-1].metadata["papermill"] = {
        "duration": 1.0,
        "exception": True,
        "start_time": "t",
    }
    nbformat.write(notebook, copy)
    page = page_of(run)
    assert "03_train_more stopped in cell In [2]" in page
    assert "E: boom." in page


@pytest.mark.parametrize(
    ("kinds", "kind"),
    [
        ((), "unknown"),
        (({},), "unknown"),
        (({"data": "phantoms"}, {}), "phantoms"),
        (({"data": "phantoms"}, {"data": "scans"}), "scans"),
    ],
)
def test_one_table_of_scans_is_enough_for_scans(tmp_path, kinds, kind):
    for k, provenance in enumerate(kinds):
        path = tmp_path / f"stage{k}" / "table.parquet"
        store.write_table(pd.DataFrame({"a": [1]}), path, provenance=provenance)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "table.parquet").write_text("no table")
    assert report.data_kind(tmp_path) == kind
    page = re.sub(r"<style.*?</style>", "", page_of(tmp_path), flags=re.DOTALL)
    assert ("phantoms" in page) == (kind == "phantoms")


def test_a_wide_submission_in_another_format_is_shown_without_bars(run):
    (run / "submission.csv").unlink()
    wide = pd.DataFrame(
        {"uid": ["1.2.826.0"] * 20, "a": [0.123456] * 20, "b": ["1 5 9 " * 20] * 20}
    )
    wide.to_parquet(run / "submission.parquet")
    page = page_of(run)
    assert page.count("<td>1.2.826.0</td><td>0.1235</td><td>1 5 9 1 5 9") == report.N_PREVIEW
    assert "1 5 9 " * 20 not in page
    assert "First rows of <code>submission.parquet</code>" in page


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "not defined"),
        (float("nan"), "not defined"),
        (0.75, "0.750"),
        (-0.25, "-0.250"),
        (0.0005, "0.0005"),
        (0, "0.000"),
        (1234.5, "1234.500"),
    ],
)
def test_numbers_keep_what_can_be_told_apart(value, words):
    assert report.number(value) == words


def test_a_missing_run_or_collection_is_one_sentence(tmp_path, capsys):
    with pytest.raises(SystemExit, match=r"nowhere \(a run\) is not there"):
        report.main([str(tmp_path / "nowhere")])
    with pytest.raises(
        SystemExit, match="There is no collection 'hearts': give one of brain_tumor"
    ):
        report.main([str(tmp_path), "--collection", "hearts"])
    report.main([str(tmp_path), "--collection", "brain_tumor"])
    assert capsys.readouterr().out == f"The report is {tmp_path / 'report' / 'index.html'}\n"
    assert "brain tumour challenge 2021" in (tmp_path / "report" / "index.html").read_text()


def with_scores(run, **changes) -> str:
    """The page of a run with a score file in which some values are others."""
    row = {"name": "a", "value": 0.5, "ci95": [0.25, 0.75], "n": 3, "unit": ""}
    content = {"title": "Other", "notes": [], "summary": {}, "scores": [row]}
    row |= {key: value for key, value in changes.items() if key in row}
    content |= {key: value for key, value in changes.items() if key in content}
    (run / "scores" / "other.json").write_text(json.dumps(content))
    page = text_of(page_of(run))
    assert json.loads((run / "summary.json").read_text())["scores"]
    assert "auc 0.750" in page  # the rest is shown
    return page


@pytest.mark.parametrize(
    "changes",
    [
        {"value": "abc"},
        {"value": [1]},
        {"value": 10**400},
        {"ci95": [1]},
        {"ci95": [1, 2, 3]},
        {"ci95": "ab"},
        {"ci95": 3},
        {"ci95": [None, 1]},
        {"scores": {"a": 1}},
        {"scores": [1]},
        {"scores": None},
        {"notes": 1},
        {"notes": "One note."},
        {"summary": [1]},
        {"summary": None},
    ],
)
def test_scores_of_wrong_types_are_named_and_the_rest_is_shown(quick, changes):
    assert "other.json holds no scores (" in with_scores(quick, **changes)


@pytest.mark.parametrize(
    "changes", [{"value": float("nan")}, {"value": float("inf")}, {"ci95": [float("-inf"), 1]}]
)
def test_scores_that_are_no_numbers_are_named_and_the_rest_is_shown(quick, changes):
    assert "other.json is damaged (" in with_scores(quick, **changes)


@pytest.mark.parametrize("content", [b"", b"NaN", b"[]", b"\xff\xfe", b"[" * 100_000], ids=range(5))
def test_a_score_file_that_is_no_card_is_named(quick, content):
    (quick / "scores" / "other.json").write_bytes(content)
    text = text_of(page_of(quick))
    assert re.search(r"other\.json (is damaged|holds no scores) \(.+\): delete it and run", text)
    assert "auc 0.750" in text


@pytest.mark.parametrize("name", ["submission.csv", "submission_report.csv"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"\xff\xfe\x00\x00",
        b"id,fallback\n1,2\n1,2,3\n",
        b"id,fallback\n1,a,\n2,b,\n",
        b'id,fallback\n"1,2\n',
        "id,fallback\n1,é\n".encode("latin-1"),
        "id,fallback\n1,2\n".encode("utf-16"),
        b"\x1f\x8b\x08\x00",
    ],
    ids=range(9),
)
def test_a_submission_that_is_no_table_is_named_and_the_rest_is_shown(quick, name, content):
    (quick / name).write_bytes(content)
    text = text_of(page_of(quick))
    assert re.search(rf"{name} cannot be read as a table \(.+\): run 04_submit again", text)
    assert "auc 0.750" in text


def test_numbers_of_a_submission_that_are_none_are_shown_as_they_are(quick):
    (quick / "submission.csv").write_text("id,p\n1,1e999\n2,nan\n3,\n")
    text = text_of(page_of(quick))
    assert "1 1e999 2 nan 3" in text


def damage(run, name: str, change) -> None:
    path = run / "notebooks" / f"{name}.ipynb"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_run_that_was_killed_or_still_goes_on_has_a_report(run):
    for path in (run / "notebooks").glob("0[234]*"):
        path.unlink()
    running = {"start_time": BEGIN.isoformat(), "end_time": None, "duration": None}
    damage(run, "01_look", lambda content: content["metadata"]["papermill"].update(running))
    text = text_of(page_of(run))
    assert "not recorded in all" in text
    assert "04_submit has not run yet" in text
    assert json.loads((run / "summary.json").read_text())["seconds"] == {}


@pytest.mark.parametrize("content", ["", '{"cells": [', "[]", "null"])
def test_an_executed_copy_that_is_cut_is_named_and_the_others_are_shown(run, content):
    (run / "notebooks" / "03_train_more.ipynb").write_text(content)
    page = page_of(run)
    assert re.search(r"03_train_more\.ipynb is no complete notebook", text_of(page))
    assert "03_train_more has not run yet" not in page
    assert "notebooks/03_train_more_fold1.html" in page
    assert page.count("<img src=") == 3


def test_a_copy_that_cannot_be_shown_whole_is_named_and_not_linked(run):
    def change(content):
        content["cells"].append(new_markdown_cell("![a](attachment:b.png)"))
        content["metadata"]["kernelspec"]["language"] = "fortran"
        content["metadata"]["kernelspec"]["name"] = "z"

    damage(run, "02_train", change)
    page = page_of(run)
    text = text_of(page)
    assert "02_train.ipynb cannot be shown (missing attachment: b.png): open it in" in text
    assert "02_train.ipynb does not say its parameters" in text
    assert "notebooks/02_train.html" not in page


def test_problems_of_any_type_are_shown_as_text(quick):
    table = pd.DataFrame({"code": [1, None], "path": [2.5, None], "sentence": [True, None]})
    store.write_table(table, quick / "eda" / "problems.parquet", provenance={"data": ["phantoms"]})
    assert "Data problems" in text_of(page_of(quick))
    for note in (b"[1]", b"null", b'"phantoms"'):
        arrow = pa.Table.from_pandas(table).replace_schema_metadata({store.PROVENANCE: note})
        pq.write_table(arrow, quick / "eda" / "problems.parquet")
        assert report.data_kind(quick) == "unknown"


def test_a_run_with_an_odd_name_shows_it_as_text(quick):
    odd = quick.with_name("<b>\x1b[2J $x$")
    quick.rename(odd)
    page = page_of(odd)
    assert r"<h1>&lt;b&gt;\x1b[2J $x$" in page
