"""Tables (Parquet) and cards (JSON) that are complete when they are there.

A table is written last and atomically (temporary name, then rename), and carries its provenance:
what it was made with and from, see `tables.provenance`.
"""

from __future__ import annotations

import hashlib
import json
import math
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from t4e_utils.files import atomic_write
from t4e_utils.scans.problems import one_line
from t4e_utils.tables.run import MissingInputError, project_root

PROVENANCE = b"t4e_provenance"
LONGEST_REASON = 200  # letters of what a library says of a damaged file
# What pyarrow, pandas and json raise on damaged files: of pages, the footer, and the JSON in that.
DAMAGED = (pa.ArrowException, OSError, ValueError, KeyError, TypeError, RecursionError)
TEXT, WHOLE, NUMBER, TRUTH = "text", "whole numbers", "numbers", "true or false"
TEXT_OR_NOTHING = "text, or nothing"
# What columns of these names hold in every table of a run.
KINDS = {
    **dict.fromkeys(("patient_id", "series", "path"), TEXT),
    "plane": TEXT_OR_NOTHING,  # of a series that could not be read
    **dict.fromkeys(("fold", "start", "stop", "position"), WHOLE),
    **dict.fromkeys(("label", "probability", "mean"), NUMBER),
    "is_kept": TRUTH,
}
IS_KIND = {
    WHOLE: pd.api.types.is_integer_dtype,
    NUMBER: lambda values: pd.api.types.is_any_real_numeric_dtype(values.dtype),
    TRUTH: pd.api.types.is_bool_dtype,
    TEXT: lambda values: all(isinstance(value, str) for value in values),
    TEXT_OR_NOTHING: lambda values: all(isinstance(value, str) for value in values.dropna()),
}


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
    note = json.dumps(as_stored(provenance or {}), sort_keys=True).encode()
    with atomic_write(path) as temporary:
        pq.write_table(
            arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), PROVENANCE: note}),
            temporary,
            write_page_checksum=True,  # without, a damaged page is read as other values
        )
    return path


def read_table(path: Path, *, made_by: str, columns: Iterable[str] = ()) -> pd.DataFrame:
    """Read a table that a notebook made.

    Args:
        path: the Parquet file.
        made_by: the notebook that makes it, named in the error.
        columns: columns that must be there.

    Raises:
        MissingInputError: the file is missing, damaged, lacks a column, or holds something else in
            a column of `KINDS`.
    """
    read = partial(pd.read_parquet, page_checksum_verification=True)
    table = _read(path, read, made_by, "this table")
    if missing := [column for column in columns if column not in table.columns]:
        raise MissingInputError(
            f"{shown(path)} has no column {', '.join(missing)} (it has "
            f"{', '.join(map(str, table.columns))}): run {made_by} again with overwrite = True."
        )
    for name in KINDS.keys() & set(table.columns) if len(table) else ():
        if not IS_KIND[KINDS[name]](table[name]):
            raise MissingInputError(
                f"The column {name} of {shown(path)} must hold {KINDS[name]}, not "
                f"{table[name].dtype} such as {table[name].tolist()[0]!r}: delete it and run "
                f"{made_by} again."
            )
    return table


def _read(path: Path, read: Callable[[Path], Any], made_by: str, what: str = "it") -> Any:
    """Read a file of a run; what keeps it from being read becomes one sentence."""
    name = shown(path)
    anew = f"delete it and run {made_by} again" if made_by else "delete it, it will be made anew"
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise MissingInputError(f"{name} is no file: {anew}.")
        return read(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        maker = made_by or "the notebook that makes it"
        raise MissingInputError(
            f"{name} is not there: run {maker} with the same run_dir first, it makes {what}."
        ) from error
    except PermissionError as error:
        raise MissingInputError(
            f"{name} cannot be read ({error.strerror}): make it readable, or {anew}."
        ) from error
    except DAMAGED as error:
        reason = one_line(error)[:LONGEST_REASON] or type(error).__name__
        raise MissingInputError(f"{name} is damaged ({reason}): {anew}.") from error


class Provenance(dict[str, Any]):
    """What a table was made with and from; a key that it lacks becomes a sentence."""

    def __init__(self, content: Mapping[str, Any], path: Path, made_by: str):
        super().__init__(content)
        self.path, self.made_by = path, made_by

    def __missing__(self, key: str) -> Any:
        """Raise: another program has saved the table, or it is of an earlier version."""
        raise MissingInputError(
            f"{shown(self.path)} does not say with which {key} it was made: delete it and run "
            f"{self.made_by or 'the notebook that makes it'} again."
        )


def provenance_of(path: Path, made_by: str = "") -> Provenance:
    """Return what a table was made with and from.

    Args:
        path: of the table.
        made_by: the notebook that makes it, named in the error.

    Raises:
        MissingInputError: the table is missing or damaged; or it does not say what is asked for.
    """

    def read(path: Path) -> Provenance:
        note = (pq.read_schema(path).metadata or {}).get(PROVENANCE, b"{}")
        return Provenance(_plain_object(note), path, made_by)

    return _read(path, read, made_by)


def _finite(number: str) -> float:
    if not math.isfinite(float(number)):
        raise ValueError(f"{number} is no finite number")
    return float(number)


def _plain_object(text: str | bytes) -> dict[str, Any]:
    """Return names with values; every number is finite, as `write_json` writes them."""
    content = json.loads(text, parse_constant=_finite, parse_float=_finite)
    if not isinstance(content, dict):
        raise ValueError(f"it holds {type(content).__name__}, not names with values")
    return content


def write_json(content: Mapping[str, Any], path: Path) -> Path:
    """Write a JSON card atomically, readable by a person; NaN becomes null."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(_plain(content), indent=2) + "\n", encoding="utf-8")
    return path


def read_json(path: Path, *, made_by: str, keys: Iterable[str] = ()) -> dict[str, Any]:
    """Read a JSON card that a notebook made.

    Args:
        path: of the card.
        made_by: the notebook that makes it, named in the error.
        keys: what must stand in it.

    Raises:
        MissingInputError: the file is missing, damaged, no JSON object, or lacks a key.
    """
    content = _read(
        path, lambda there: _plain_object(there.read_text("utf-8")), made_by, "this file"
    )
    if missing := [key for key in keys if key not in content]:
        raise MissingInputError(
            f"{shown(path)} has no {', '.join(missing)}: delete it and run {made_by} again."
        )
    return content


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
        rows = [asdict(_checked(Score(**row))) for row in content["scores"]]
        found = {name: content[name] for name in ("title", "notes", "summary")}
        _require(found["title"], str, "title")
        _require(found["summary"], dict, "summary")
        for note in _require(found["notes"], list, "notes"):
            _require(note, str, "a note")
        return {**found, "scores": rows}
    except (KeyError, TypeError, OverflowError) as error:
        raise MissingInputError(
            f"{shown(path)} holds no scores ({error}): delete it and run {maker} again."
        ) from error


def _checked(score: Score) -> Score:
    for text in (score.name, score.unit):
        _require(text, str, "a name or unit")
    ends = [] if score.ci95 is None else _require(score.ci95, list, "ci95")
    if len(ends) not in (0, 2):
        raise TypeError(f"ci95 has {len(ends)} ends")
    for value in (*ends, *([] if score.value is None else [score.value])):
        float(_require(value, (int, float), score.name))  # a whole number can be too long for one
    if score.n is not None:
        _require(score.n, (int, float, str), "n")  # it is only shown
    return score


def _require(value: Any, kind: type | tuple[type, ...], name: str) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{name} is {type(value).__name__}")
    return value


def as_stored(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return a provenance as it comes back from a file."""
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


def shown(path: Path) -> str:
    """Return a path for a message, from the project's root if it is below that."""
    root = project_root()
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
