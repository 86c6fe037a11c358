"""The report of a run.

One HTML page to look at, one JSON file to compute with, and the executed notebooks as HTML.

`python -m t4e_utils.workflow.report RUN_DIR` writes `report/index.html`, `report/notebooks/*.html` and
`summary.json` below the run's folder. It reads tables and executed notebooks only and trains
nothing; what is not there yet is named, so a run that stopped half way has a report too.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from t4e_utils import T4EError, __version__
from t4e_utils.files import atomic_write
from t4e_utils.metrics.intervals import median_interval
from t4e_utils.progress import duration
from t4e_utils.tables.run import MissingInputError, require_folder, resolve, versions
from t4e_utils.tables.store import provenance_of, read_json, read_table, write_json
from t4e_utils.workflow import executed
from t4e_utils.workflow.plan import NOTEBOOKS

TEMPLATES = Path(__file__).parent / "templates"
REGIONS = {"WT": "whole tumour", "ET": "enhancing tumour"}
# where phantoms are by default, and what lies beside them anywhere
DEFAULT_RSNA, PHANTOM_CARD = "data/phantoms/rsna", "phantoms.json"
N_PREVIEW = 8  # rows of a table that are shown at once
FEW = 50  # patients below which an AUC of scans says next to nothing
# patients below which an interval of a median, or an AUC, is no figure at all
TOO_FEW = 10


@dataclass(frozen=True)
class Copy:
    """An executed notebook of the run."""

    path: Path
    stage: str  # a key of `pipeline.NOTEBOOKS`
    title: str  # its first heading
    span: tuple[datetime, datetime] | None
    failure: str  # one sentence, "" if it ran to its end
    pictures: list[executed.Shown]

    @property
    def seconds(self) -> float | None:
        """How long it ran."""
        return None if self.span is None else (self.span[1] - self.span[0]).total_seconds()

    @property
    def is_summary(self) -> bool:
        """Whether it is the notebook itself, not one of several run side by side."""
        return self.path.stem == NOTEBOOKS[self.stage]


def write_report(run_dir: str | Path) -> Path:
    """Write the report of a run and return its page.

    Raises:
        MissingInputError: the run's folder is not there.
    """
    run = require_folder(run_dir, what="a run", how="give the run_dir of a run, such as runs/demo")
    facts = gather(run)
    folder = run / "report"
    for copy in facts["copies"]:
        executed.write_html(
            copy.path, folder / "notebooks" / f"{copy.path.stem}.html", title=copy.path.stem
        )
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"figure": figure, "duration": duration}
    page = folder / "index.html"
    with atomic_write(page) as temporary:
        temporary.write_text(
            environment.get_template("report.html").render(facts), encoding="utf-8"
        )
    write_json(summary(facts), run / "summary.json")
    return page


def gather(run: Path) -> dict[str, Any]:
    """Collect what the page shows; a part that is missing is None and named in "missing"."""
    missing: list[str] = []
    copies = find_copies(run / "notebooks")
    return {
        "name": run.name,
        "version": __version__,
        "made_at": datetime.now().astimezone(),
        "copies": copies,
        "parameters": {
            copy.stage: executed.parameters_used(copy.path) for copy in copies if copy.is_summary
        },
        "data": data_kind(run),
        "segmentation": _part(missing, segmentation_figures, run),
        "classification": _part(missing, classification_figures, run),
        "submission": _part(missing, submission_facts, run),
        "problems": _part(missing, problems_found, run),
        "seconds": seconds_by_stage(copies),
        "versions": versions(),
        "missing": missing,
        "regions": REGIONS,
        "few": FEW,
        "too_few": TOO_FEW,
        "n_preview": N_PREVIEW,
        "notebooks": NOTEBOOKS,
    }


def _part(missing: list[str], collect: Any, run: Path) -> Any:
    try:
        return collect(run)
    except MissingInputError as error:
        missing.append(str(error))
        return None


def find_copies(folder: Path) -> list[Copy]:
    """Return the executed notebooks in the order of the stages, the side-by-side ones of a stage
    before its summary.
    """
    found = []
    for path in folder.glob("*.ipynb"):
        stage = next(
            (
                stage
                for stage, name in NOTEBOOKS.items()
                if path.stem == name or path.stem.startswith(f"{name}_")
            ),
            None,
        )
        if stage:
            notebook = executed.read(path)
            title = executed.title_of(notebook) or path.stem
            found.append(
                Copy(
                    path,
                    stage,
                    title,
                    executed.span(notebook),
                    executed.failure(path),
                    executed.tagged_pictures(notebook),
                )
            )
    order = list(NOTEBOOKS)
    return sorted(
        found, key=lambda copy: (order.index(copy.stage), copy.is_summary, copy.path.stem)
    )


def seconds_by_stage(copies: list[Copy]) -> dict[str, float]:
    """Return for how long each stage ran, and all; notebooks side by side count once."""
    spans = {
        stage: [copy.span for copy in copies if copy.stage == stage and copy.span]
        for stage in NOTEBOOKS
    }
    seconds = {stage: executed.seconds_covered(own) for stage, own in spans.items() if own}
    return (
        {
            **seconds,
            "total": executed.seconds_covered([span for own in spans.values() for span in own]),
        }
        if seconds
        else {}
    )


def data_kind(run: Path) -> str:
    """Return "phantoms" if the data that the run read hold drawn patients, "scans" if not,
    "unknown" before any table is there.
    """
    for table in (run / "eda" / "inventory.parquet", run / "seg" / "patients.parquet"):
        if table.is_file() and (folder := provenance_of(table).get("rsna_dir")):
            is_phantom = folder == DEFAULT_RSNA or (resolve(folder).parent / PHANTOM_CARD).is_file()
            return "phantoms" if is_phantom else "scans"
    return "unknown"


def segmentation_figures(run: Path) -> dict[str, Any]:
    """Return the median Dice of each region over patients (mean over planes and contrasts), with
    interval and n.
    """
    table = read_table(
        run / "seg" / "dice.parquet",
        made_by=NOTEBOOKS["train_seg"],
        columns=("patient_id", "region", "dice"),
    )
    by_patient = table.groupby(["region", "patient_id"])["dice"].mean()
    figures = {}
    for region in (name for name in REGIONS if name in by_patient.index):
        values = by_patient[region].to_numpy(float)
        figures[region.lower()] = {
            "dice_median": float(np.median(values)),
            "ci95": median_interval(values),
            "worst": float(values.min()),
        }
    return {**figures, "n": int(table["patient_id"].nunique())}


def classification_figures(run: Path) -> dict[str, Any]:
    """Return the AUC of each MRI type and of their mean as the training notebook wrote it, and
    how checkpoints were chosen.
    """
    card = read_json(run / "cls" / "summary.json", made_by=NOTEBOOKS["train_cls"])
    return {
        "auc": {
            name: value
            for name, value in card.items()
            if isinstance(value, dict) and "auc" in value
        },
        "select_on": card.get("select_on", "inner"),
        "control": card.get("control", "none"),
    }


def submission_facts(run: Path) -> dict[str, Any]:
    """Return the submission, and whose prediction rests on a fallback."""
    path = run / "submission.csv"
    if not path.is_file():
        raise MissingInputError(
            f"{path.name} is not there: run {NOTEBOOKS['submission']} with the same run_dir."
        )
    table = pd.read_csv(path, dtype=str)
    beside = path.with_name("submission_report.csv")
    if not beside.is_file():
        raise MissingInputError(
            f"{beside.name} is not there: run {NOTEBOOKS['submission']} again, it writes it "
            f"beside {path.name}."
        )
    report = pd.read_csv(beside, dtype=str, keep_default_na=False)
    return {
        "n": len(table),
        "columns": list(table.columns),
        "rows": table.to_numpy().tolist(),
        "fallbacks": report[report["fallback"] != ""].to_dict("records"),
    }


def problems_found(run: Path) -> list[dict[str, Any]]:
    """Return what is odd about the data, grouped by kind, the most frequent first."""
    table = read_table(
        run / "eda" / "problems.parquet",
        made_by=NOTEBOOKS["eda"],
        columns=("code", "path", "sentence"),
    )
    groups = [
        {"code": code, "rows": rows.to_dict("records")} for code, rows in table.groupby("code")
    ]
    return sorted(groups, key=lambda group: -len(group["rows"]))


def summary(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures for `summary.json`; what is not there yet is left out."""
    parts = {
        "segmentation": facts["segmentation"],
        "classification": facts["classification"] and facts["classification"]["auc"],
    }
    return {
        "data": facts["data"],
        **{name: part for name, part in parts.items() if part is not None},
        "select_on": facts["classification"] and facts["classification"]["select_on"],
        "seconds": facts["seconds"],
        "versions": {"t4e_utils": facts["version"], **facts["versions"]},
    }


def figure(value: float | None, digits: int = 3) -> str:
    """Return a number as text, "not defined" where there is none."""
    return "not defined" if value is None or value != value else f"{value:.{digits}f}"


def main(arguments: list[str] | None = None) -> None:
    """Write the report of the run named on the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m t4e_utils.workflow.report", description="Write the report of a run."
    )
    parser.add_argument("run_dir", help="folder of the run, such as runs/demo")
    try:
        page = write_report(parser.parse_args(arguments).run_dir)
    except T4EError as error:
        raise SystemExit(str(error)) from None
    print(f"The report is {page}")


if __name__ == "__main__":
    main()
