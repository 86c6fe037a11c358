"""The report of a run, from tables and executed notebooks made by hand."""

from __future__ import annotations

import base64
import json
import re
from datetime import datetime, timedelta
from itertools import product

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from t4e_utils import progress
from t4e_utils.metrics import intervals
from t4e_utils.tables import store
from t4e_utils.workflow import report

BEGIN = datetime.fromisoformat("2026-01-01T10:00:00+00:00")
EVIL = "<script>alert('x')</script>"
PNG = base64.b64encode(b"\x89PNG pixels").decode()
# Dice of five patients in two planes, with means 0.8, 0.6, 0.9, 0.8, 0.8 (WT) and 0.5, 0.1, 0.3,
# 0.3, 0.4 (ET): medians 0.8 and 0.3.
DICE = {
    "WT": [(0.9, 0.7), (0.5, 0.7), (1.0, 0.8), (0.8, 0.8), (0.9, 0.7)],
    "ET": [(0.4, 0.6), (0.0, 0.2), (0.3, 0.3), (0.2, 0.4), (0.4, 0.4)],
}
AUC = {"auc": 0.75, "ci95": [0.5, 0.9], "n": 40, "permutation_p": 0.01}


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
    """A complete run on phantoms.

    Tables whose figures are known, and executed copies side by side.
    """
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "phantoms.json").touch()
    run = tmp_path / "runs" / "a"
    problems = pd.DataFrame(
        {
            "code": ["gap", "gap", "odd"],
            "path": ["/x/1", "/x/2", "/x/3"],
            "sentence": ["A gap.", "Another gap.", "Odd."],
        }
    )
    store.write_table(
        pd.DataFrame({"a": [1]}),
        run / "eda" / "inventory.parquet",
        provenance={"rsna_dir": str(tmp_path / "data" / "rsna")},
    )
    store.write_table(problems, run / "eda" / "problems.parquet")
    rows = [
        {
            "patient_id": f"{i:05d}",
            "region": region,
            "plane": plane,
            "dice": values[plane == "axial"],
        }
        for region, plane in product(DICE, ("axial", "coronal"))
        for i, values in enumerate(DICE[region])
    ]
    store.write_table(pd.DataFrame(rows), run / "seg" / "dice.parquet")
    store.write_json(
        {
            "FLAIR": AUC,
            "mean": {**AUC, "auc": 0.8},
            "select_on": "inner",
            "control": "none",
            "prevalence": 0.5,
        },
        run / "cls" / "summary.json",
    )
    (run / "submission.csv").write_text("BraTS21ID,MGMT_value\n00002,0.25\n00013,0.5\n")
    (run / "submission_report.csv").write_text(
        "patient_id,probability,fallback\n00002,0.25,\n00013,0.5,T1w: largest tumour\n"
    )
    executed_copy(run, "01_eda", 0, 10)
    executed_copy(run, "05_train_cls_FLAIR_fold0", 10, 40)
    executed_copy(run, "05_train_cls_T1w_fold0", 20, 50)
    executed_copy(run, "05_train_cls", 3600, 3605)
    return run


def page_of(run) -> str:
    return report.write_report(run).read_text(encoding="utf-8")


def test_the_summary_has_the_figures_of_the_tables(run):
    report.write_report(run)
    found = json.loads((run / "summary.json").read_text())
    assert found["data"] == "phantoms"
    assert found["segmentation"]["wt"]["dice_median"] == pytest.approx(0.8)
    assert found["segmentation"]["et"]["dice_median"] == pytest.approx(0.3)
    assert found["segmentation"]["n"] == 5
    assert found["classification"] == {"FLAIR": AUC, "mean": {**AUC, "auc": 0.8}}
    assert found["seconds"] == {"eda": 10, "train_cls": 45, "total": 55}
    assert found["versions"]["pandas"] == pd.__version__


def test_the_interval_of_a_median_lies_around_it_and_shrinks_with_patients():
    values = np.linspace(0, 1, 9)
    low, high = intervals.median_interval(values)
    assert 0 <= low < 0.5 < high <= 1
    assert np.diff(intervals.median_interval(np.tile(values, 30)))[0] < (high - low) / 2
    assert np.isnan(intervals.median_interval(np.array([0.7, 0.8]))).all()


def test_the_page_shows_figures_with_n_and_interval_pictures_fallbacks_and_links(run):
    page = page_of(run)
    text = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    for words in (
        "0.800 median Dice 95% interval 0.600 to 0.900 n = 5 held-out patients",
        "0.800 AUC 95% interval 0.500 to 0.900 n = 40 held-out patients permutation p = 0.0100",
        "These patients are phantoms, drawn by a program.",
        "00013 T1w: largest tumour",
        "gap 2",
        "55 s in all",
        "not a medical device",
    ):
        assert words in text
    assert page.count(f'<img src="data:image/png;base64,{PNG}"') == 2
    for link in re.findall(r'href="(notebooks/[^"]+)"', page):
        assert (run / "report" / link).is_file()
    assert "notebooks/05_train_cls_T1w_fold0.html" in page


def test_nothing_on_the_page_comes_from_elsewhere_or_runs(run):
    page = page_of(run)
    assert "<script" not in page
    assert not re.findall(r'(?:src|href)="(?!data:|#|notebooks/)', page)


def test_what_files_say_is_shown_as_text_and_never_runs(run):
    table = pd.DataFrame(
        {"code": [f"c{EVIL}"], "path": [f"/x/{EVIL}"], "sentence": [f"Patient {EVIL} is odd."]}
    )
    store.write_table(table, run / "eda" / "problems.parquet")
    (run / "submission.csv").write_text(f'BraTS21ID,MGMT_value\n"{EVIL}",0.25\n')
    (run / "submission_report.csv").write_text(f'patient_id,fallback\n"{EVIL}","{EVIL}"\n')
    store.write_json(
        {f"T{EVIL}": AUC, "mean": AUC, "select_on": EVIL, "control": EVIL},
        run / "cls" / "summary.json",
    )
    executed_copy(
        run,
        "02_seg_data",
        0,
        1,
        words=EVIL,
        output=new_output("display_data", data={"text/html": EVIL, "image/svg+xml": EVIL}),
    )
    page = page_of(run)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 10
    assert "<script" not in (run / "report" / "notebooks" / "02_seg_data.html").read_text()


@pytest.mark.parametrize(
    "missing",
    [
        "eda/problems.parquet",
        "seg/dice.parquet",
        "cls/summary.json",
        "submission.csv",
        "submission_report.csv",
    ],
)
def test_a_run_without_one_part_has_a_report_that_names_it(run, missing):
    (run / missing).unlink()
    page = page_of(run)
    assert "This run is not complete" in page
    assert f"{missing.split('/')[-1]} is not there" in page


def test_an_empty_run_has_a_report_too(tmp_path):
    page = page_of(tmp_path)
    assert page.count("not there yet") == 4
    assert json.loads((tmp_path / "summary.json").read_text())["data"] == "unknown"


def test_a_damaged_table_is_named_and_a_failed_notebook_too(run):
    (run / "seg" / "dice.parquet").write_text("no table")
    copy = run / "notebooks" / "05_train_cls.ipynb"
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
    assert "dice.parquet cannot be read" in page
    assert "05_train_cls stopped in cell In [2]" in page
    assert "E: boom." in page


def test_an_auc_that_is_not_defined_is_null_and_said_so(run):
    nothing = {
        "auc": float("nan"),
        "ci95": [float("nan")] * 2,
        "n": 12,
        "permutation_p": float("nan"),
    }
    store.write_json(
        {"FLAIR": nothing, "mean": nothing, "select_on": "inner"}, run / "cls" / "summary.json"
    )
    assert "not defined" in page_of(run)
    assert json.loads((run / "summary.json").read_text())["classification"]["mean"]["auc"] is None


def test_a_handful_of_patients_has_neither_auc_nor_interval_on_the_page(run):
    store.write_table(
        pd.DataFrame({"patient_id": ["00001"], "region": "WT", "dice": [0.4]}),
        run / "seg" / "dice.parquet",
    )
    store.write_json(
        {"FLAIR": {**AUC, "n": 2}, "mean": {**AUC, "n": 2}, "select_on": "inner"},
        run / "cls" / "summary.json",
    )
    text = " ".join(re.sub(r"<[^>]+>", " ", page_of(run)).split())
    assert "0.400 median Dice no interval n = 1 held-out patient, whole volumes" in text
    assert "no AUC 2 held-out patients are too few for one" in text
    assert "0.750" not in text
    assert json.loads((run / "summary.json").read_text())["segmentation"]["wt"]["ci95"] == [
        None,
        None,
    ]


def test_scans_and_held_out_patients_that_chose_are_said_so(run, tmp_path):
    (tmp_path / "data" / "phantoms.json").unlink()
    store.write_json(
        {"FLAIR": AUC, "mean": AUC, "select_on": "outer", "control": "masks only"},
        run / "cls" / "summary.json",
    )
    page = page_of(run)
    assert "With 40 patients the AUC of this run is no evidence of anything." in page
    assert "The held-out patients chose the checkpoints" in page
    assert "This is a control run" in page
    assert "phantoms" not in re.sub(r"<style.*?</style>", "", page, flags=re.DOTALL)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "not recorded"), (41.6, "42 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")],
)
def test_durations_are_written_as_people_say_them(seconds, words):
    assert progress.duration(seconds) == words


def test_a_missing_run_is_one_sentence(tmp_path, capsys):
    with pytest.raises(SystemExit, match=r"nowhere \(a run\) is not there"):
        report.main([str(tmp_path / "nowhere")])
    report.main([str(tmp_path)])
    assert capsys.readouterr().out == f"The report is {tmp_path / 'report' / 'index.html'}\n"
