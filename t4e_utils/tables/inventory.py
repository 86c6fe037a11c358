"""What the headers of many series say, kept from call to call."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from t4e_utils.progress import parallel
from t4e_utils.scans.nifti import nifti_header
from t4e_utils.scans.problems import Problem, VolumeError
from t4e_utils.scans.reading import series_header
from t4e_utils.scans.volume import Grid, off_grid
from t4e_utils.tables.catalog import study_columns
from t4e_utils.tables.provenance import read_current
from t4e_utils.tables.store import write_table

READER = 2  # grows when reading the same files gives other facts
HEADER_FACTS = (
    "n_files",
    "n_slices",
    "plane",
    "rows",
    "columns",
    "spacing_slice_mm",
    "spacing_row_mm",
    "spacing_column_mm",
    "affine",  # of NIfTI files only
    "transfer_syntax",
    "bits_stored",
    "modality",
)


def take_inventory(
    table: pd.DataFrame, *, source: str = "dicom", n_jobs: int, cache: Path | None = None
) -> tuple[pd.DataFrame, list[Problem]]:
    """Add header facts to a catalogue of series.

    Number of files, plane, matrix, spacing, transfer syntax.

    Args:
        table: column path, and any others, as from `catalog.find_scans`.
        source: "dicom", "jpg" or "nifti".
        n_jobs: processes.
        cache: Parquet file that keeps what was found from call to call. A series is read again if
            a file was added, removed, renamed or written since (by size and time of change). So is
            every series if `READER` has grown, and if the file is damaged.

    Returns:
        The table with the columns `HEADER_FACTS`, empty for series that cannot be read, and all
        problems that headers show.

    Raises:
        MissingInputError: something else than a file is in the place of the cache.
    """
    keys = [(path, files_fingerprint(path, source)) for path in table["path"]]
    known = _read_cache(cache)
    missing = [key for key in keys if key not in known]
    read = parallel(
        partial(_header, source=source),
        [path for path, _ in missing],
        n_jobs=n_jobs,
        desc="headers",
        unit="series",
    )
    known.update(zip(missing, read, strict=True))
    found = [known[key] for key in keys]
    if missing and cache is not None:
        _write_cache(cache, dict(zip(keys, found, strict=True)))
    rows = pd.DataFrame([header for header, _ in found], columns=list(HEADER_FACTS))
    return pd.concat([table.reset_index(drop=True), rows], axis=1), [
        problem for _, problems in found for problem in problems
    ]


def grid_problems(volumes: pd.DataFrame, *, reference: str = "labels") -> list[Problem]:
    """Return a problem for each volume that does not lie where its patient's reference lies.

    As far as headers show. One problem of the reference alone, if no volume lies there.

    Args:
        volumes: patient_id (and study_id, where a patient has several), series, path and header
            facts.
        reference: series whose grid counts.
    """
    known = volumes.dropna(subset=["n_slices", "rows", "columns"])
    problems = []
    for _, own in known.groupby(study_columns(known)):
        is_reference = own["series"] == reference
        for labels in own[is_reference].head(1).to_dict("records"):
            others = own[~is_reference].to_dict("records")
            found = [_grid(row).problem(row["path"], _grid(labels), reference) for row in others]
            elsewhere = [problem for problem in found if problem]
            problems += off_grid(elsewhere, len(others), labels["path"], what=reference)
    return problems


def _grid(row: Mapping[str, Any]) -> Grid:
    shape = tuple(int(row[name]) for name in ("n_slices", "rows", "columns"))
    rows = row.get("affine")
    return Grid(shape, None if isinstance(rows, float | None) else np.array([*rows]))


def _header(path: str, source: str) -> tuple[dict, list[Problem]]:
    """Return facts and problems; no facts where a series cannot be read."""
    try:
        header = nifti_header(path) if source == "nifti" else series_header(path, source=source)
    except VolumeError as error:
        return {}, [error.as_problem()]
    return header, list(header.pop("problems"))


def files_fingerprint(path: str, source: str) -> str:
    """Return a text that changes when a file, or one of a folder, or `READER` changes."""
    digest = hashlib.sha256(f"{READER} {source}".encode())
    try:
        if not os.path.isdir(path):
            status = os.stat(path)
            return f"{digest.hexdigest()} {status.st_size} {status.st_mtime_ns}"
        with os.scandir(path) as entries:
            files = sorted(_seen(entry) for entry in entries)
    except OSError:  # reading says what is wrong
        return ""
    digest.update(repr(files).encode())
    return digest.hexdigest()


def _seen(entry: os.DirEntry) -> tuple[str, int, int]:
    """Return name, size and time of a file; of the link itself where it leads nowhere yet."""
    try:
        status = entry.stat()
    except OSError:
        status = entry.stat(follow_symlinks=False)
    return entry.name, status.st_size, status.st_mtime_ns


def _read_cache(cache: Path | None) -> dict[tuple[str, str], tuple[dict, list[Problem]]]:
    table = None if cache is None else read_current(cache, {})
    if table is None:
        return {}
    try:
        return {
            (row.path, row.mark): (
                dict(json.loads(row.header)),
                [Problem(*problem) for problem in json.loads(row.problems)],
            )
            for row in table.itertuples()
        }
    except (AttributeError, TypeError, ValueError, RecursionError):  # of another version
        return {}


def _write_cache(cache: Path, found: Mapping[tuple[str, str], tuple[dict, list[Problem]]]) -> None:
    rows = [
        (*key, json.dumps(header), json.dumps(problems))
        for key, (header, problems) in found.items()
    ]
    write_table(pd.DataFrame(rows, columns=["path", "mark", "header", "problems"]), cache)
