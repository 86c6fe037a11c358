"""What a result was made with and from, and whether it still would be.

The provenance of a table (`store.write_table`) holds the parameters it was made with and, under
`MADE_FROM`, a few digits for each thing it was made from:

    a table of the user   `store.fingerprint` of what was read from it, so that another name, other
                          delimiters and columns that nobody uses change nothing
    weights               `content_of`, every byte
    scans                 `state_of`: names, sizes and times of change, as make and rsync look at
                          files. Reading hundreds of gigabytes to find a changed byte would take
                          longer than many a stage; so a data set that was copied without its times
                          counts as changed (`cp -a` and `rsync -a` keep them).
    an earlier stage      its table's provenance, which becomes part of that of the next
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd

from t4e_utils import T4EError
from t4e_utils.files import open_file
from t4e_utils.tables.run import MissingInputError
from t4e_utils.tables.store import as_stored, fingerprint, provenance_of, read_table, shown

MADE_FROM = "made_from"
N_LOOKING = 16  # threads: on a network disk each look is a wait


class StaleResultError(T4EError):
    """A finished result was made with other parameters, or from other data, than the present."""


def is_finished(
    path: Path, provenance: Mapping[str, Any], *, overwrite: bool = False, root: Path | None = None
) -> bool:
    """Return whether the table is there and was made with these parameters from the same data.

    Of a table that does not say what it was made from, as those of earlier versions, that is not
    known: it counts as finished, and a sentence is printed.

    Args:
        path: of the table.
        provenance: as for `write_table`; without `MADE_FROM` only parameters are compared.
        overwrite: nothing counts as finished.
        root: where the files lie that the table names in its column path; None: it names none.

    Raises:
        StaleResultError: it is there, but was made otherwise, and `overwrite` is off.
        MissingInputError: it is damaged, or something else is in its place.
    """
    if not os.path.exists(path) or (overwrite and path.is_file()):
        return False
    before, now = provenance_of(path), as_stored(provenance)
    if now and not before:
        raise StaleResultError(
            f"{shown(path)} does not say what it was made with, as if another program had saved "
            "it: set overwrite = True to make it anew, or choose another run_dir."
        )
    if changes := _changes(before, now):
        raise StaleResultError(
            f"{shown(path)} was made {'; '.join(changes)}: set overwrite = True to make it anew, "
            "or choose another run_dir."
        )
    if unknown := stated_sources(now).keys() - stated_sources(before).keys():
        print(
            f"{shown(path)} does not say what it was made from, so it is not known whether "
            f"this has changed since: {', '.join(sorted(unknown))}."
        )
    if gone := _files_gone(path, root):
        print(f"{gone} files that {shown(path)} names are gone or empty: they are made again.")
    return not gone


def are_finished(paths: Iterable[Path], provenance: Mapping[str, Any], **options: Any) -> bool:
    """Return whether all of several tables are finished; arguments as `is_finished`."""
    return all([is_finished(path, provenance, **options) for path in paths])


def read_current(
    path: Path, provenance: Mapping[str, Any], *, root: Path | None = None
) -> pd.DataFrame | None:
    """Return the table if it is there, whole, and made with these parameters from the same data.

    None otherwise. For what may be made anew without asking.

    Args:
        path: of the table.
        provenance: as for `write_table`.
        root: as for `is_finished`.

    Raises:
        MissingInputError: something else than a file is in its place.
    """
    try:
        if _changes(provenance_of(path), as_stored(provenance)) or _files_gone(path, root):
            return None
        return read_table(path, made_by="")
    except MissingInputError:
        if os.path.exists(path) and not path.is_file():
            raise
        return None


def require_current(
    path: Path, provenance: Mapping[str, Any], table: Path, *, made_by: str
) -> None:
    """Check that a result was made from a table as it is now.

    A table that is gone or damaged says nothing: the result does without it.

    Args:
        path: of the result, for the message.
        provenance: of the result; what it has in common with that of the table is compared.
        table: that it was made from.
        made_by: the notebook that makes the result from the table.

    Raises:
        StaleResultError: the table was made anew, with other parameters or from other data.
    """
    try:
        before, now = as_stored(provenance), provenance_of(table)
    except MissingInputError:
        return
    shared = before.keys() & now.keys()
    before, now = ({name: own[name] for name in shared} for own in (before, now))
    if changes := _changes(before, now):
        raise StaleResultError(
            f"{shown(path)} was made before {shown(table)} was made anew "
            f"({'; '.join(changes)}): run {made_by} again."
        )


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say in which parameters and sources two provenances differ; [] if in none.

    A source that only one of them names is none of the differences.
    """
    names = sorted({*before, *now} - {MADE_FROM})
    old, new = stated_sources(before), stated_sources(now)
    different = "; ".join(
        f"{name} was {before.get(name)!r}, is now {now.get(name)!r}"
        for name in names
        if before.get(name) != now.get(name)
    )
    changed = [name for name in sorted(old.keys() & new.keys()) if old[name] != new[name]]
    said = [f"with other parameters ({different})"] if different else []
    return said + [f"from other data ({', '.join(changed)} changed since)"] * bool(changed)


def stated_sources(provenance: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a provenance says of its sources; nothing if it says that in no usable way."""
    found = provenance.get(MADE_FROM)
    return found if isinstance(found, Mapping) else {}


def _files_gone(table: Path, root: Path | None) -> int:
    """Return how many of the files that a table names are not there, or empty."""
    if root is None:
        return 0
    found = read_table(table, made_by="")
    named = {path for path in found.get("path", ()) if path}
    folders = sorted({os.path.dirname(path) for path in named})
    with ThreadPoolExecutor(N_LOOKING) as pool:
        states = list(pool.map(lambda folder: _state(os.path.join(root, folder), root), folders))
    there = {
        os.path.join(folder, name)
        for folder, (_, files) in zip(folders, states, strict=True)
        for name, (size, _) in files
        if size
    }
    return len(named - there)


def content_of(path: str | os.PathLike) -> str:
    """Return eight hexadecimal digits that change when a byte of the file does.

    "" if it cannot be read: whoever reads it says why.
    """
    try:
        with open_file(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:8]
    except OSError:
        return ""


def state_of(paths: Iterable[str | os.PathLike], root: str | os.PathLike) -> str:
    """Return eight hexadecimal digits for many files or folders of files, such as series.

    They change when a file was added, removed, renamed or written. Hidden files and folders inside
    do not count, as they are not read. The order of the paths, and where the root lies, do not
    count either.

    Args:
        paths: of files, and of folders with files.
        root: that the paths are seen from.
    """
    with ThreadPoolExecutor(N_LOOKING) as pool:
        return fingerprint(sorted(pool.map(lambda path: _state(os.fspath(path), root), paths)))


def _state(path: str, root: str | os.PathLike) -> list[Any]:
    name = os.path.relpath(path, root)
    try:
        if not os.path.isdir(path):
            return [name, _size_and_time(os.stat(path))]
        with os.scandir(path) as entries:
            files = [entry for entry in entries if entry.name[0] != "." and entry.is_file()]
        return [name, sorted([entry.name, _size_and_time(entry.stat())] for entry in files)]
    except OSError:  # reading says what is wrong
        return [name, []]


def _size_and_time(status: os.stat_result) -> list[int]:
    return [status.st_size, status.st_mtime_ns]
