"""Tables (Parquet) and cards (JSON) that are complete when they are there.

A table is written last and atomically (temporary name, then rename), and carries the parameters it
was made with.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from t4e_utils import T4EError
from t4e_utils.files import atomic_write
from t4e_utils.tables.run import MissingInputError, project_root

PROVENANCE = b"t4e_provenance"
# What pyarrow and pandas raise on damaged files: of its pages, its footer, and the JSON in that.
DAMAGED = (pa.ArrowException, OSError, ValueError, KeyError)


class StaleResultError(T4EError):
    """A finished result was made with other parameters than the present ones."""


def fingerprint(*parts: Any) -> str:
    """Return eight hexadecimal digits that change when a part does.

    Args:
        parts: JSON-like values or tables.
    """
    digest = hashlib.sha256()
    for part in parts:
        text = (
            part.to_csv(index=False)
            if isinstance(part, pd.DataFrame)
            else json.dumps(part, sort_keys=True, default=str)
        )
        digest.update(text.encode())
    return digest.hexdigest()[:8]


def write_table(
    table: pd.DataFrame, path: Path, *, provenance: Mapping[str, Any] | None = None
) -> Path:
    """Write a Parquet table atomically: if the file is there, it is complete.

    Args:
        table: its index is not written.
        path: its folder is made.
        provenance: what the table was made with, JSON-like; kept in the file.
    """
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    note = json.dumps(_as_stored(provenance or {}), sort_keys=True).encode()
    with atomic_write(path) as temporary:
        pq.write_table(
            arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), PROVENANCE: note}),
            temporary,
        )
    return path


def read_table(path: Path, *, made_by: str, columns: Iterable[str] = ()) -> pd.DataFrame:
    """Read a table that a notebook made.

    Args:
        path: the Parquet file.
        made_by: the notebook that makes it, named in the error.
        columns: columns that must be there.

    Raises:
        MissingInputError: the file is missing, damaged, or lacks a column.
    """
    if not path.is_file():
        raise MissingInputError(
            f"{_shown(path)} is not there: run {made_by} with the same run_dir first, it makes "
            "this table."
        )
    try:
        table = pd.read_parquet(path)
    except DAMAGED as error:
        raise MissingInputError(
            f"{_shown(path)} cannot be read ({error}): delete it and run {made_by} again."
        ) from error
    if missing := [column for column in columns if column not in table.columns]:
        raise MissingInputError(
            f"{_shown(path)} has no column {', '.join(missing)} (it has "
            f"{', '.join(table.columns)}): run {made_by} again with overwrite = True."
        )
    return table


def is_finished(path: Path, provenance: Mapping[str, Any], *, overwrite: bool = False) -> bool:
    """Return whether the table is there and was made with these parameters.

    Raises:
        StaleResultError: it is there, but was made with other parameters and `overwrite` is off.
    """
    if overwrite or not path.is_file():
        return False
    before, now = provenance_of(path), _as_stored(provenance)
    changed = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    if changed:
        differences = "; ".join(
            f"{name} was {before.get(name)!r}, is now {now.get(name)!r}" for name in changed
        )
        raise StaleResultError(
            f"{_shown(path)} was made with other parameters ({differences}): set overwrite = "
            "True to make it anew, or choose another run_dir."
        )
    return True


def is_current(path: Path, provenance: Mapping[str, Any]) -> bool:
    """Return whether the table is there and was made with these parameters.

    For what may be made anew without asking.
    """
    return path.is_file() and provenance_of(path) == _as_stored(provenance)


def provenance_of(path: Path) -> dict[str, Any]:
    """Return the parameters that a table was made with.

    Raises:
        MissingInputError: the file is damaged.
    """
    try:
        return json.loads((pq.read_schema(path).metadata or {}).get(PROVENANCE, b"{}"))
    except DAMAGED as error:
        raise MissingInputError(
            f"{_shown(path)} is damaged ({error}): delete it, it will be made anew."
        ) from error


def write_json(content: Mapping[str, Any], path: Path) -> Path:
    """Write a JSON card atomically, readable by a person; NaN becomes null."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(_plain(content), indent=2) + "\n", encoding="utf-8")
    return path


def read_json(path: Path, *, made_by: str) -> dict[str, Any]:
    """Read a JSON card that a notebook made.

    Raises:
        MissingInputError: the file is missing or damaged.
    """
    if not path.is_file():
        raise MissingInputError(
            f"{_shown(path)} is not there: run {made_by} with the same run_dir first, it makes "
            "this file."
        )
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # no JSON, or no text at all
        raise MissingInputError(
            f"{_shown(path)} is damaged ({error}): delete it and run {made_by} again."
        ) from error


@dataclass(frozen=True)
class Score:
    """One number that a stage gives, and how sure it is."""

    name: str
    value: float | None  # None: it could not be computed
    ci95: Sequence[float] | None = None  # lower and upper end of the 95 % interval
    n: int | None = None  # how many patients (or what `unit` and the notes say) stand behind it
    unit: str = ""


def write_scores(
    path: Path,
    title: str,
    scores: Iterable[Score],
    *,
    notes: Iterable[str] = (),
    summary: Mapping[str, Any] | None = None,
) -> Path:
    """Write the scores of a stage for the report, atomically.

    Args:
        path: below `scores` in the run folder, named like the stage.
        title: heading above the scores.
        scores: a value that is not finite becomes null, an interval with such an end too.
        notes: sentences below the scores.
        summary: keys that the run's summary.json takes as they are.
    """
    rows = _plain([asdict(score) for score in scores])
    for row in rows:
        row["ci95"] = None if None in (row["ci95"] or ()) else row["ci95"]
    content = {"title": title, "scores": rows, "notes": list(notes), "summary": summary or {}}
    return write_json(content, path)


def read_scores(path: Path) -> dict[str, Any]:
    """Read what `write_scores` wrote.

    Returns:
        title; scores, dicts with the fields of `Score`; notes; summary.

    Raises:
        MissingInputError: the file is missing, damaged, or holds something else.
    """
    maker = f"the stage that writes {path.name}"
    content = read_json(path, made_by=maker)
    try:
        rows = [asdict(_score(**row)) for row in content["scores"]]
        title, notes, summary = str(content["title"]), content["notes"], dict(content["summary"])
        notes = [str(note) for note in ([notes] if isinstance(notes, str) else notes)]
        return {"title": title, "notes": notes, "summary": summary, "scores": rows}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise MissingInputError(
            f"{_shown(path)} holds no scores ({error}): delete it and run {maker} again."
        ) from error


def _score(name: Any, value: Any, ci95: Any = None, n: Any = None, unit: Any = "") -> Score:
    """Return a score as it is written: numbers are finite or missing, an interval is whole."""
    value = None if value is None else float(value)
    ends = [float("nan") if end is None else float(end) for end in ci95 or ()]
    if len(ends) not in (0, 2):
        raise ValueError(f"ci95 = {ci95!r} has {len(ends)} ends")
    is_interval = bool(ends) and all(map(math.isfinite, ends))
    value = value if value is not None and math.isfinite(value) else None
    return Score(str(name), value, ends if is_interval else None, n, str(unit))


def _as_stored(provenance: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(provenance, default=str))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # a number, array or column of numpy, torch or pandas
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _shown(path: Path) -> str:
    root = project_root()
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
