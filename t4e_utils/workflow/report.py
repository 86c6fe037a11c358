"""The report of a run: a page to look at, a file to compute with, and the notebooks as HTML.

`python -m t4e_utils.workflow.report RUN_DIR [--collection NAME]` writes `report/index.html`,
`report/notebooks/*.html` and `summary.json` below the run's folder. It reads score files, tables
and executed notebooks only and trains nothing. What is not there yet is named, so a run that
stopped half way has a report too.

A score file (`tables.store.write_scores`) is `scores/<stage>.json`, or `scores/<stage>_<part>.json`
where a stage has several. Its first score is the headline, which is also shown on top of the page.
"""

from __future__ import annotations

import argparse
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from t4e_utils import T4EError, __version__, printable
from t4e_utils.files import atomic_write
from t4e_utils.progress import duration
from t4e_utils.tables.run import MissingInputError, require_folder, versions
from t4e_utils.tables.store import DAMAGED, provenance_of, read_scores, read_table, write_json
from t4e_utils.workflow import PipelineError, executed
from t4e_utils.workflow.collection import open_collection
from t4e_utils.workflow.plan import Stage

TEMPLATES = Path(__file__).parent / "templates"
N_PREVIEW = 8  # rows of a submission that are shown
N_LISTED = 50  # rows of other tables that are shown
LONGEST = 40  # letters of a cell of the submission that are shown
SHARE = r"0|1|0?\.\d+|1\.0*"  # a number from 0 to 1, as text


@dataclass(frozen=True)
class Copy:
    """An executed notebook of the run."""

    path: Path
    stage: str
    is_summary: bool  # the notebook itself, not one of several that ran side by side
    title: str  # its first heading
    span: tuple[datetime, datetime] | None
    failure: str  # one sentence, "" if it ran to its end
    pictures: list[executed.Shown]
    has_page: bool = True  # it can be shown whole


def write_report(run_dir: str | Path, *, stages: Mapping[str, Stage], about: str = "") -> Path:
    """Write the report of a run and return its page.

    Args:
        run_dir: folder of the run.
        stages: of the collection, in their order; the last one writes the submission.
        about: one line for the head of the page.

    Raises:
        MissingInputError: the run's folder is not there.
    """
    run = require_folder(run_dir, what="a run", how="give the run_dir of a run, such as runs/demo")
    facts, folder = {**gather(run, stages), "about": about}, run / "report"
    facts["copies"] = [
        replace(copy, has_page=_part(facts["missing"], _write_copy, copy, folder) is not None)
        for copy in facts["copies"]
    ]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "duration": duration, "cell": cell_text}
    page = folder / "index.html"
    with atomic_write(page) as temporary:
        temporary.write_text(
            environment.get_template("report.html").render(facts),
            encoding="utf-8",
            errors="backslashreplace",  # names that are not UTF-8
        )
    write_json(summary(facts), run / "summary.json")
    return page


def _write_copy(copy: Copy, folder: Path) -> Path:
    name = copy.path.stem
    return executed.write_html(copy.path, folder / "notebooks" / f"{name}.html", title=name)


def gather(run: Path, stages: Mapping[str, Stage]) -> dict[str, Any]:
    """Collect what the page shows; what is not there is named in "missing"."""
    notebooks = {name: stage.notebook for name, stage in stages.items()}
    missing: list[str] = []
    copies = find_copies(run / "notebooks", notebooks, missing)
    has_begun = any(copy.is_summary for copy in copies)
    missing += [
        f"{path.stem} has not run yet: start the pipeline again, it goes on where it stopped."
        for path in (run / "notebooks" / f"{name}.ipynb" for name in notebooks.values())
        if has_begun and not path.exists()
    ]
    names = list(notebooks.values())
    return {
        "name": printable(run.name),
        "version": __version__,
        "made_at": datetime.now().astimezone(),
        "copies": copies,
        "parameters": {
            copy.stage: _part(missing, executed.parameters_used, copy.path) or []
            for copy in copies
            if copy.is_summary
        },
        "data": data_kind(run),
        "parts": find_scores(run / "scores", notebooks, missing),
        "submission": _part(missing, submission_facts, run, names[-1]),
        "problems": _part(missing, problems_found, run, names[0]),
        "seconds": seconds_by_stage(copies, stages),
        "versions": versions(),
        "missing": missing,
        "n_listed": N_LISTED,
        "notebooks": notebooks,
    }


def _part(missing: list[str], collect: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return collect(*arguments)
    except (MissingInputError, PipelineError) as error:
        missing.append(str(error))
        return None


def _named(stem: str, names: Iterable[str]) -> str | None:
    """Return the name that a file has, or that its name begins with up to an underscore."""
    fits = [name for name in names if f"{stem}_".startswith(f"{name}_")]
    return max(fits, key=len, default=None)


def find_copies(folder: Path, notebooks: Mapping[str, str], missing: list[str]) -> list[Copy]:
    """Return the executed notebooks by stage, those side by side before their summary.

    Those that cannot be read are named in `missing`.
    """
    found, stages = [], {notebook: stage for stage, notebook in notebooks.items()}
    for path in sorted(folder.glob("*.ipynb")):
        name = _named(path.stem, stages)
        if name and (notebook := _part(missing, executed.read, path)) is not None:
            found.append(
                Copy(
                    path,
                    stages[name],
                    path.stem == name,
                    executed.title_of(notebook) or path.stem,
                    executed.span(notebook),
                    executed.failure(path),
                    executed.tagged_pictures(notebook),
                )
            )
    order = list(notebooks)
    return sorted(
        found, key=lambda copy: (order.index(copy.stage), copy.is_summary, copy.path.stem)
    )


def find_scores(
    folder: Path, notebooks: Mapping[str, str], missing: list[str]
) -> list[dict[str, Any]]:
    """Return the score files in the order of the stages; what is wrong is added to `missing`.

    Each has "title", "scores", "notes", "summary" and "is_share": whether all lie within 0 and 1.
    """
    order, found = [*notebooks, None], []
    stages = {path: _named(path.stem, notebooks) for path in folder.glob("*.json")}
    for path in sorted(stages, key=lambda path: (order.index(stages[path]), path)):
        if part := _part(missing, read_scores, path):
            ends = [end for row in part["scores"] for end in (row["value"], *(row["ci95"] or ()))]
            is_share = all(0 <= end <= 1 for end in ends if end is not None)
            found.append({**part, "is_share": is_share})
    if not found:
        missing.append("There are no scores yet: they appear with the notebooks that train.")
    return found


def seconds_by_stage(copies: list[Copy], stages: Iterable[str]) -> dict[str, float]:
    """Return for how long each stage ran, and all; notebooks side by side count once."""
    spans = {
        stage: [copy.span for copy in copies if copy.stage == stage and copy.span]
        for stage in stages
    }
    seconds = {stage: executed.seconds_covered(own) for stage, own in spans.items() if own}
    everything = [span for own in spans.values() for span in own]
    return {**seconds, "total": executed.seconds_covered(everything)} if seconds else {}


def data_kind(run: Path) -> str:
    """Return "phantoms" or "scans", as the tables of a run say; "unknown" where none says it.

    One table of scans is enough for "scans". A damaged table has no say.
    """
    kinds = set()
    for table in (*run.glob("*.parquet"), *run.glob("*/*.parquet")):
        with suppress(MissingInputError):
            provenance = provenance_of(table)
            kinds.add(str(provenance.get("data")) if isinstance(provenance, Mapping) else "")
    return next((kind for kind in ("scans", "phantoms") if kind in kinds), "unknown")


def submission_facts(run: Path, made_by: str) -> dict[str, Any]:
    """Return the first rows of the submission, and what rests on a fallback.

    Raises:
        MissingInputError: the submission or the report beside it is not there, or no table.
    """
    kinds = {"submission.csv": _read_text, "submission.parquet": pd.read_parquet}
    name = next((name for name in kinds if (run / name).is_file()), None)
    if name is None:
        raise MissingInputError(
            f"The submission is not there: run {made_by} with the same run_dir."
        )
    beside = run / "submission_report.csv"
    if not beside.is_file():
        raise MissingInputError(
            f"{beside.name} is not there: run {made_by} again, it writes it beside {name}."
        )
    table = _table_of(run / name, kinds[name], made_by)
    report = _table_of(beside, _read_text, made_by)
    if "fallback" not in report:
        raise MissingInputError(f"{beside.name} has no column fallback: run {made_by} again.")
    fallbacks = report[report["fallback"] != ""]
    rows = table.head(N_PREVIEW).astype(str).to_numpy().tolist()
    return {
        "file": name,
        "n": len(table),
        "columns": [str(column) for column in table.columns],
        "rows": rows,
        "is_share": table.shape[1] == 2 and all(re.fullmatch(SHARE, row[-1]) for row in rows),
        "id": report.columns[0],
        "fallbacks": fallbacks[[report.columns[0], "fallback"]].to_numpy().tolist(),
    }


def _read_text(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False)


def _table_of(path: Path, read: Callable[[Path], pd.DataFrame], made_by: str) -> pd.DataFrame:
    try:
        with warnings.catch_warnings(action="error", category=pd.errors.ParserWarning):
            return read(path)
    except (*DAMAGED, pd.errors.ParserWarning) as error:  # of pandas, pyarrow, the file system
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise MissingInputError(
            f"{path.name} cannot be read as a table ({reason}): run {made_by} again."
        ) from error


def problems_found(run: Path, made_by: str) -> list[dict[str, Any]] | None:
    """Return what is odd about the data, grouped by kind, the most frequent first.

    None if no notebook has looked.

    Raises:
        MissingInputError: the table is damaged.
    """
    path = run / "eda" / "problems.parquet"
    if not path.is_file():
        return None
    table = read_table(path, made_by=made_by, columns=("code", "path", "sentence")).astype(str)
    groups = [
        {"code": code, "rows": rows.to_dict("records")} for code, rows in table.groupby("code")
    ]
    return sorted(groups, key=lambda group: -len(group["rows"]))


def summary(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `summary.json` holds: all scores, and the summaries of the score files."""
    own = {name: value for part in facts["parts"] for name, value in part["summary"].items()}
    return {
        "data": facts["data"],
        "scores": [row for part in facts["parts"] for row in part["scores"]],
        **{name: value for name, value in own.items() if name not in ("data", "scores")},
        "seconds": facts["seconds"],
        "versions": {"t4e_utils": facts["version"], **facts["versions"]},
    }


def number(value: float | None, digits: int = 3) -> str:
    """Return a number as text, "not defined" where there is none; small ones with two digits."""
    if value is None or value != value:
        return "not defined"
    is_small = 0 < abs(value) < 10 ** (1 - digits)
    return f"{value:.2g}" if is_small else f"{value:.{digits}f}"


def cell_text(text: str) -> str:
    """Return a cell of the submission: four digits of a number, the beginning of a long text."""
    if re.fullmatch(r"-?\d+\.\d+(e[-+]?\d+)?", text):
        return number(float(text), 4)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


def main(arguments: list[str] | None = None) -> None:
    """Write the report of the run named on the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m t4e_utils.workflow.report", description="Write the report of a run."
    )
    parser.add_argument("run_dir", help="folder of the run, such as runs/demo")
    parser.add_argument("--collection", default="", help="the notebooks' collection")
    asked = parser.parse_args(arguments)
    try:
        collection = open_collection(asked.collection)
        page = write_report(asked.run_dir, stages=collection.stages, about=collection.about)
    except T4EError as error:
        raise SystemExit(str(error)) from None
    print(printable(f"The report is {page}"))


if __name__ == "__main__":
    main()
