"""Many scans one after the other: read ahead, problems as rows, resumed, with an expected finish.

Preparation for training and prediction of test patients are the same walk over a table of scans.
Memory is bounded by one group and the few scans that are read ahead.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from t4e_utils.progress import PROGRESS_SECONDS, expected_finish
from t4e_utils.scans.problems import Problem, VolumeError
from t4e_utils.tables.inventory import files_fingerprint
from t4e_utils.tables.provenance import read_current
from t4e_utils.tables.store import write_table

TABLE = "slices.parquet"  # of a scan, in its place
N_TIMED = 3  # groups after which the expected finish is told
READ_AHEAD = 2  # scans that wait in memory, at least

Result = tuple[pd.DataFrame, Sequence[Problem]]
Work = Callable[[Sequence[Any], Sequence[Any]], Sequence[Result]]


@dataclass(frozen=True)
class Walk:
    """How a table of scans is walked through."""

    unit: str = "series"  # what a row is, for messages
    group_by: str = ""  # rows with the same value in this column are worked on together; "": alone
    group_unit: str = "series"  # what a group is, for messages
    n_readers: int = 1  # threads that read
    limit_hours: float = 0.0  # what the expected finish is compared with; 0: nothing is said
    advice: str = "take fewer views or fewer folds"  # if that is too late


@dataclass(frozen=True)
class Resume:
    """Where the result of each row is kept, so that work that was interrupted goes on."""

    place: Callable[[Any], Path]  # folder of a row's result
    provenance: Mapping[str, Any]  # what decides about a result beside the row's files
    source: str = "dicom"  # what the files are
    overwrite: bool = False  # work on every row anew
    root: Path | None = None  # of the files that a result names in its column path, if it does


def for_each(
    table: pd.DataFrame,
    read: Callable[[str], Any],
    work: Work,
    *,
    walk: Walk,
    resume: Resume | None = None,
) -> tuple[pd.DataFrame, list[Problem]]:
    """Work on every scan of a table.

    Args:
        table: one row per scan, with the column path and that of `walk.group_by`.
        read: gives what `work` wants of a path, or raises VolumeError.
        work: takes the rows (named tuples) of a group that could be read, and what was read of
            each; gives a table and problems for each of them.
        walk: groups, readers and messages.
        resume: rows whose result is there, whole, without problems and from the same files, are not
            worked on again; a group only if all of it is there.

    Returns:
        The results, one table, in the order of the rows (groups beside each other), without columns
        if there are none; and problems.
    """
    table = in_groups(table, walk.group_by)
    notes = [None] * len(table) if resume is None else _notes(table, resume, walk.group_by)
    rows = list(table.itertuples(index=False))
    known = [_known(row, note, resume) for row, note in zip(rows, notes, strict=True)]
    is_there = np.array([found is not None for found in known], bool)
    if walk.group_by and len(table):
        whole = pd.Series(is_there, index=table.index).groupby(table[walk.group_by])
        is_there = whole.transform("all").to_numpy()
    todo = [k for k, known in enumerate(is_there) if not known]
    results: dict[int, Result] = {}
    stream = _stream([rows[k] for k in todo], read, work, walk)
    for k, result in zip(todo, stream, strict=True):
        results[k] = result
        if resume is not None and not result[1]:
            write_table(result[0], resume.place(rows[k]) / TABLE, provenance=notes[k])
    for k in np.flatnonzero(is_there):
        results[int(k)] = known[k], ()
    return _joined([results[k] for k in range(len(rows))])


def _joined(results: Sequence[Result]) -> tuple[pd.DataFrame, list[Problem]]:
    tables = [found for found, _ in results if len(found.columns)]
    problems = [problem for _, own in results for problem in own]
    return (pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()), problems


def in_groups(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the rows with those of a group beside each other, groups by their first row."""
    if not column:
        return table
    return table.iloc[np.argsort(pd.factorize(table[column])[0], kind="stable")]


def _notes(table: pd.DataFrame, resume: Resume, group_by: str) -> list[dict[str, Any]]:
    """What the result of each row is made from; in a group, of the files of all of them."""
    files = pd.Series(
        [files_fingerprint(path, resume.source) for path in table["path"]],
        index=table.index,
        dtype=object,
    )
    if group_by:
        files = table[group_by].map(files.groupby(table[group_by]).agg(list))
    return [{**resume.provenance, "files": own} for own in files]


def _known(row: Any, note: Mapping[str, Any] | None, resume: Resume | None) -> pd.DataFrame | None:
    if resume is None or resume.overwrite:
        return None
    return read_current(resume.place(row) / TABLE, note, root=resume.root)


def _stream(
    rows: Sequence[Any], read: Callable[[str], Any], work: Work, walk: Walk
) -> Iterator[Result]:
    """Yield the result of each row, in order; of a group that is done no scan is kept."""
    start, done = time.perf_counter(), 0
    groups, ahead = _groups(rows, walk.group_by), _read_ahead(rows, read, walk.n_readers)
    options = {"mininterval": PROGRESS_SECONDS, "disable": not rows}
    with tqdm(total=len(rows), desc=walk.unit, **options) as progress:
        for number, group in enumerate(groups, start=1):
            yield from _results(group, [next(ahead) for _ in group], work)
            done += len(group)
            seconds = time.perf_counter() - start
            finish = expected_finish(seconds, done, len(rows))
            progress.set_postfix_str(f"finish {finish:%H:%M}", refresh=False)
            progress.update(len(group))
            if walk.limit_hours and number == N_TIMED < len(groups):
                tqdm.write(time_sentence(seconds, number, len(groups), walk))


def _groups(rows: Sequence[Any], column: str) -> list[list[Any]]:
    if not column:
        return [[row] for row in rows]
    return [list(own) for _, own in groupby(rows, key=attrgetter(column))]


def _results(rows: Sequence[Any], found: Sequence[Any], work: Work) -> Iterator[Result]:
    """Work on what was found of a group, and yield the result of each of its rows."""
    both = zip(rows, found, strict=True)
    good = [(row, value) for row, value in both if not isinstance(value, Problem)]
    made = iter(work([row for row, _ in good], [value for _, value in good]) if good else ())
    for value in found:
        yield (pd.DataFrame(), [value]) if isinstance(value, Problem) else next(made)


def _read_ahead(
    rows: Sequence[Any], read: Callable[[str], Any], n_readers: int
) -> Iterator[Any | Problem]:
    """Yield what was read of each row, or the problem that kept it from being read."""

    def attempt(path: str) -> Any:
        try:
            return read(path)
        except VolumeError as error:
            return error.as_problem()

    waiting: deque[Future] = deque()
    with ThreadPoolExecutor(max(n_readers, 1)) as reader:
        for row in rows:
            waiting.append(reader.submit(attempt, row.path))
            if len(waiting) > max(READ_AHEAD, n_readers):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def time_sentence(seconds: float, done: int, total: int, walk: Walk) -> str:
    """Say when all groups will be done, and what that is of the time allowed.

    >>> walk = Walk(group_unit="patients", limit_hours=9)
    >>> time_sentence(30, 3, 87, walk).split("; ")[1]
    'that is 0.24 of 9 hours, within the limit.'
    """
    hours = seconds / done * total / 3600
    verdict = "within the limit" if hours <= walk.limit_hours else f"too long: {walk.advice}"
    return (
        f"{done} of {total} {walk.group_unit} in {seconds:.0f} s: all are expected to be done at "
        f"{expected_finish(seconds, done, total):%H:%M}; "
        f"that is {hours:.2f} of {walk.limit_hours:g} hours, {verdict}."
    )
