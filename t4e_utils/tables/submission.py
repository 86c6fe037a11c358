"""A submission: exactly one usable answer for every row of the sample, written and read back.

A row is a patient, a slice or a pair of slice and class (`ID_x_epidural`). The answers are one
column (long form), several (wide form), or text such as run-length codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from t4e_utils import T4EError
from t4e_utils.files import atomic_write


class SubmissionError(T4EError):
    """The submission would not be accepted, or could not be scored."""


@dataclass(frozen=True)
class SubmissionForm:
    """What a competition wants to be given."""

    id_column: str
    value_columns: tuple[str, ...]
    kind: Literal["probability", "number", "text"] = "probability"

    @property
    def columns(self) -> list[str]:
        """All columns, in the order in which they are written."""
        return [self.id_column, *self.value_columns]


def complete(
    table: pd.DataFrame,
    sample: pd.DataFrame,
    form: SubmissionForm,
    fallback: float | str | Mapping[str, float | str],
) -> tuple[pd.DataFrame, list[str]]:
    """Return an answer for each id of the sample, in its order.

    Args:
        table: the form's columns, and any others. Ids that the sample lacks are left out.
        sample: at least the form's id column.
        form: the columns.
        fallback: the answer for ids without a row, for all value columns or by column. A NaN in a
            row that is there stays, and `validate` refuses it.

    Returns:
        The completed table, and the ids that got the fallback.

    Raises:
        SubmissionError: a column is missing, an id stands twice, or a column has no fallback.
    """
    needed = (("table of answers", table, form.columns), ("sample", sample, [form.id_column]))
    for name, given, columns in needed:
        if lacking := [column for column in columns if column not in given]:
            raise SubmissionError(
                f"The {name} has no column {', '.join(lacking)} (it has {', '.join(given)}): "
                "name the columns as in the sample submission."
            )
        _refuse_repeats(given[form.id_column], name)
    by_column = fallback if isinstance(fallback, Mapping) else dict.fromkeys(form.columns, fallback)
    if lacking := [column for column in form.value_columns if column not in by_column]:
        raise SubmissionError(
            f"There is no fallback for {', '.join(lacking)}, only for {', '.join(by_column)}: "
            "give one for each column."
        )
    answers = table.set_index(form.id_column)[list(form.value_columns)]
    ids = pd.Index(sample[form.id_column])
    missing = ids[~ids.isin(answers.index)]
    added = pd.DataFrame({name: by_column[name] for name in form.value_columns}, index=missing)
    parts = [part for part in (answers, added) if len(part)] or [answers]
    return pd.concat(parts).loc[ids].rename_axis(form.id_column).reset_index(), missing.tolist()


def validate(table: pd.DataFrame, sample: pd.DataFrame, form: SubmissionForm) -> None:
    """Check that a submission has every id of the sample once, in its order, with usable answers.

    Usable are finite numbers, from 0 to 1 for a probability; or text, which may be empty.

    Raises:
        SubmissionError: naming the first difference.
    """
    if list(table.columns) != form.columns:
        raise SubmissionError(
            f"The submission has the columns {list(table.columns)}, it must have {form.columns}."
        )
    ids, wanted = table[form.id_column].tolist(), sample[form.id_column].tolist()
    _refuse_repeats(sample[form.id_column], "sample")
    if ids != wanted:
        missing, extra = sorted({*wanted} - {*ids}, key=str), sorted({*ids} - {*wanted}, key=str)
        detail = (
            f"missing {missing[:3]}, not in the sample {extra[:3]}"
            if missing or extra
            else "the order or the number of rows differs"
        )
        raise SubmissionError(
            f"The submission has {len(ids)} rows for the {len(wanted)} of the sample: {detail}."
        )
    for column in form.value_columns:
        is_usable, wanted_kind = _usable(table[column], form.kind)
        if not is_usable.all():
            first = int(np.argmin(is_usable))
            raise SubmissionError(
                f"{form.id_column} {ids[first]} has {column} = {table[column].iloc[first]!r}, "
                f"which is no {wanted_kind}."
            )


def write_submission(
    table: pd.DataFrame,
    sample: pd.DataFrame,
    path: Path,
    form: SubmissionForm,
    *,
    report: pd.DataFrame | None = None,
    problems: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Validate and write the submission, read it back and validate that.

    Args:
        table: from `complete`, or alike.
        sample: at least the form's id column.
        path: ends in .csv or .parquet.
        form: the columns.
        report: how each answer came about; goes to `<stem>_report.csv` beside it.
        problems: all that was odd; goes to `<stem>_problems.csv` beside it.

    Returns:
        The submission as written.

    Raises:
        SubmissionError: as `validate`.
    """
    validate(table, sample, form)
    for name, beside in (("report", report), ("problems", problems)):
        if beside is not None:
            _write(beside, path.with_name(f"{path.stem}_{name}.csv"))
    _write(table, path)
    if path.suffix == ".parquet":
        written = pd.read_parquet(path)
    else:
        texts = form.columns if form.kind == "text" else [form.id_column]
        # empty text is an answer, and "NA" can be an id
        written = pd.read_csv(path, dtype=dict.fromkeys(texts, str), keep_default_na=False)
    validate(written, sample, form)
    return written


def _usable(values: pd.Series, kind: str) -> tuple[np.ndarray, str]:
    """Return which values are of a kind, (N,) bool, and the kind in words."""
    if kind == "text":
        return np.array([isinstance(value, str) for value in values], bool), "text"
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(float, na_value=np.nan)
    if kind == "number":
        return np.isfinite(numbers), "finite number"
    return (numbers >= 0) & (numbers <= 1), "probability between 0 and 1"


def _refuse_repeats(ids: pd.Series, name: str) -> None:
    if (repeated := ids[ids.duplicated()]).size:
        raise SubmissionError(f"The {name} has {repeated.iloc[0]} more than once: keep one row.")


def _write(table: pd.DataFrame, path: Path) -> None:
    with atomic_write(path) as temporary:
        if path.suffix == ".parquet":
            table.to_parquet(temporary, index=False)
        else:
            table.to_csv(temporary, index=False)
