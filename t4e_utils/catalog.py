"""Catalogues of patients and series: what is there and how it is labelled.

Patient ids are strings and stay strings ("00006", not 6). Whatever is odd about a data set becomes
a row of the problems table (code, path, sentence); only what makes all further work pointless is an
error.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from joblib import Parallel, delayed
from tqdm import tqdm

from t4e_utils import T4EError, __version__
from t4e_utils.problems import Problem, VolumeError
from t4e_utils.runs import write_table
from t4e_utils.volumes import nifti_header, series_header

HEADER_FACTS = (
    "n_files",
    "n_slices",
    "plane",
    "rows",
    "columns",
    "spacing_slice_mm",
    "spacing_row_mm",
    "spacing_column_mm",
    "transfer_syntax",
    "bits_stored",
    "modality",
)
PROGRESS_SECONDS = 2.0  # one line of log in so many seconds, readable without a terminal


class CatalogError(T4EError):
    """A data set or one of its tables cannot be used."""


def find_series(root: Path, *, split: str, series: Sequence[str]) -> pd.DataFrame:
    """List the series folders `root/split/<patient>/<series>`.

    Returns:
        Columns patient_id, split, series, path; a series folder that is missing has no row. Sorted
        by patient, then by `series`.

    Raises:
        CatalogError: the split folder is missing or holds no patient folder.
    """
    folder = root / split
    patients = _patient_folders(folder)
    rows = [
        {"patient_id": patient.name, "split": split, "series": name, "path": str(patient / name)}
        for patient in patients
        for name in series
        if (patient / name).is_dir()
    ]
    return pd.DataFrame(rows, columns=["patient_id", "split", "series", "path"])


def find_volumes(
    root: Path, *, contrasts: Mapping[str, Sequence[str]], patient_id: Callable[[str], str]
) -> pd.DataFrame:
    """List the NIfTI files `root/<patient>/<patient><suffix>.nii[.gz]`.

    Args:
        root: folder of patient folders.
        contrasts: for each contrast (or "labels") the suffixes under which it is found, such as
            ("_t1ce", "-t1c").
        patient_id: turns a folder name into the patient's id.

    Returns:
        Columns patient_id, series, path; a missing file has no row.

    Raises:
        CatalogError: the folder is missing, or holds no patient folder or none of the files.
    """
    rows = []
    for patient in _patient_folders(root):
        for series, suffixes in contrasts.items():
            candidates = [
                patient / f"{patient.name}{suffix}{end}"
                for suffix in suffixes
                for end in (".nii.gz", ".nii")
            ]
            found = next((path for path in candidates if path.is_file()), None)
            if found:
                rows.append(
                    {"patient_id": patient_id(patient.name), "series": series, "path": str(found)}
                )
    if not rows:
        name = f"{patient.name}/{patient.name}{next(iter(contrasts.values()))[0]}.nii.gz"
        raise CatalogError(
            f"The folder {root} holds no file such as {name}: give the folder of the data set."
        )
    return pd.DataFrame(rows, columns=["patient_id", "series", "path"])


def _patient_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise CatalogError(
            f"The folder {folder} is not there: give the folder of the data set, see the "
            "README's section on data."
        )
    patients = sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    if not patients:
        raise CatalogError(
            f"The folder {folder} holds no patient folder: is the data set unpacked there?"
        )
    return patients


def missing_series(
    found: pd.DataFrame, patients: Iterable[str], *, series: Sequence[str], root: Path
) -> list[Problem]:
    """Return a problem for each series (or contrast) that a patient lacks."""
    there = set(zip(found["patient_id"], found["series"], strict=True))
    return [
        Problem("missing_series", str(root), f"Patient {patient} has no {name}.")
        for patient in sorted(patients)
        for name in series
        if (patient, name) not in there
    ]


def read_ids(path: Path, *, id_column: str, value_column: str) -> pd.DataFrame:
    """Read a table of ids and values as text, in its order.

    Returns:
        Columns patient_id (text, unchanged) and value (text).

    Raises:
        CatalogError: the file or a column is missing, the table is empty, or an id stands twice.
    """
    if not path.is_file():
        raise CatalogError(
            f"The table {path} is not there: see the README's section on data for the layout."
        )
    try:
        table = pd.read_csv(path, dtype=str)
    except pd.errors.EmptyDataError as error:
        raise CatalogError(
            f"The table {path} is empty: it must have the columns {id_column} and {value_column}."
        ) from error
    if missing := [column for column in (id_column, value_column) if column not in table.columns]:
        raise CatalogError(
            f"{path} has no column {', '.join(missing)}; it has {', '.join(table.columns)}: "
            "correct the header."
        )
    if table.empty:
        raise CatalogError(f"{path} has no rows: it must name at least one patient.")
    table = table.rename(columns={id_column: "patient_id", value_column: "value"})
    if table["patient_id"].isna().any():
        raise CatalogError(
            f"{path} has a row without {id_column} (line "
            f"{table['patient_id'].isna().argmax() + 2}): correct the table."
        )
    if (repeated := table["patient_id"][table["patient_id"].duplicated()]).size:
        raise CatalogError(
            f"{path} names {repeated.iloc[0]} more than once: each patient must have one row."
        )
    return table[["patient_id", "value"]]


def read_labels(path: Path, *, id_column: str, label_column: str) -> pd.DataFrame:
    """Read patient labels.

    Returns:
        Columns patient_id (text) and label (0 or 1).

    Raises:
        CatalogError: as `read_ids`, or a label other than 0 and 1.
    """
    table = read_ids(path, id_column=id_column, value_column=label_column)
    numbers = pd.to_numeric(table["value"], errors="coerce")
    if (wrong := table[~numbers.isin([0, 1])]).size:
        first = wrong.iloc[0]
        raise CatalogError(
            f"{path} gives {first['patient_id']} the {label_column} {first['value']!r}: a "
            "label must be 0 or 1."
        )
    return pd.DataFrame({"patient_id": table["patient_id"], "label": numbers.astype(int)})


def join_labels(
    found: pd.DataFrame, labels: pd.DataFrame, *, root: Path
) -> tuple[pd.DataFrame, list[Problem]]:
    """Return the patients that have both a folder and a label, and a problem for each of the
    others.

    Returns:
        Columns patient_id and label, sorted by patient; problems.

    Raises:
        CatalogError: no patient has both.
    """
    folders = set(found["patient_id"])
    labelled = set(labels["patient_id"])
    problems = [
        Problem("label_without_folder", str(root), f"Patient {p} has a label but no folder.")
        for p in sorted(labelled - folders)
    ]
    problems += [
        Problem("folder_without_label", str(root), f"Patient {p} has a folder but no label.")
        for p in sorted(folders - labelled)
    ]
    both = labels[labels["patient_id"].isin(folders)].sort_values("patient_id", ignore_index=True)
    if both.empty:
        example = (
            f" (folders such as {min(folders)}, labels such as {min(labelled)})" if folders else ""
        )
        raise CatalogError(
            f"No patient below {root} has both a folder and a label{example}: do the ids "
            "belong together?"
        )
    return both, problems


def inventory(
    table: pd.DataFrame, *, source: str = "dicom", n_jobs: int = 2, cache: Path | None = None
) -> tuple[pd.DataFrame, list[Problem]]:
    """Add header facts to a catalogue of series.

    Number of files, plane, matrix, spacing, transfer syntax.

    Args:
        table: columns patient_id, series, path, as from `find_series` or `find_volumes`.
        source: "dicom", "jpg" or "nifti".
        n_jobs: processes.
        cache: Parquet file that keeps what was found from call to call. A series is read again when
            a file was added, removed, renamed or written since (by size and time of change).

    Returns:
        The table with the columns `HEADER_FACTS`, empty for series that cannot be read, and all
        problems that headers show.
    """
    keys = [(path, files_mark(path, source)) for path in table["path"]]
    known = _read_cache(cache)
    missing = [key for key in keys if key not in known]
    read = Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(_header)(path, source) for path, _ in missing
    )
    progress = tqdm(
        read,
        desc="headers",
        mininterval=PROGRESS_SECONDS,
        unit="series",
        total=len(missing),
        disable=not missing,
    )
    known.update(zip(missing, progress, strict=True))
    found = [known[key] for key in keys]
    if missing and cache is not None:
        _write_cache(cache, dict(zip(keys, found, strict=True)))
    rows = pd.DataFrame([header for header, _ in found], columns=list(HEADER_FACTS))
    return pd.concat([table.reset_index(drop=True), rows], axis=1), [
        problem for _, problems in found for problem in problems
    ]


def grid_problems(inventory: pd.DataFrame, *, reference: str = "labels") -> list[Problem]:
    """Return a problem for each volume that does not lie on the grid of its patient's reference, as
    far as headers show.

    Args:
        inventory: patient_id, series, path and header facts of volumes.
        reference: series whose grid counts.
    """
    grid = ["n_slices", "rows", "columns"]
    known = inventory.dropna(subset=grid)
    expected = (
        known[known["series"] == reference].set_index("patient_id")[grid].add_suffix("_expected")
    )
    both = known.join(expected, on="patient_id", how="inner")
    problems = []
    for row in both.to_dict("records"):
        shape, other = (
            tuple(int(row[f"{name}{end}"]) for name in grid) for end in ("", "_expected")
        )
        if shape != other:
            problems.append(
                Problem(
                    "shape_differs",
                    row["path"],
                    f"The shape is {shape}, that of its {reference} {other}.",
                )
            )
    return problems


def _header(path: str, source: str) -> tuple[dict, list[Problem]]:
    """Return facts and problems; no facts where a series cannot be read."""
    try:
        header = nifti_header(path) if source == "nifti" else series_header(path, source=source)
    except VolumeError as error:
        return {}, [error.as_problem()]
    return header, list(header.pop("problems"))


def files_mark(path: str, source: str) -> str:
    """Return a text that changes when a file, or one of a folder, or the reader changes."""
    digest = hashlib.sha256(f"{__version__} {source}".encode())
    try:
        if not os.path.isdir(path):
            status = os.stat(path)
            return f"{digest.hexdigest()} {status.st_size} {status.st_mtime_ns}"
        with os.scandir(path) as entries:
            files = sorted(
                (entry.name, entry.stat().st_size, entry.stat().st_mtime_ns) for entry in entries
            )
    except OSError:  # reading says what is wrong
        return ""
    digest.update(repr(files).encode())
    return digest.hexdigest()


def _read_cache(cache: Path | None) -> dict[tuple[str, str], tuple[dict, list[Problem]]]:
    if cache is None or not cache.is_file():
        return {}
    try:
        table = pd.read_parquet(cache, columns=["path", "mark", "header", "problems"])
    except (ValueError, OSError, KeyError):  # damaged, or of another version: it is only a cache
        return {}
    return {
        (row.path, row.mark): (
            json.loads(row.header),
            [Problem(*problem) for problem in json.loads(row.problems)],
        )
        for row in table.itertuples()
    }


def _write_cache(cache: Path, found: Mapping[tuple[str, str], tuple[dict, list[Problem]]]) -> None:
    rows = [
        (*key, json.dumps(header), json.dumps(problems))
        for key, (header, problems) in found.items()
    ]
    write_table(pd.DataFrame(rows, columns=["path", "mark", "header", "problems"]), cache)


def problems_table(problems: Iterable[Problem]) -> pd.DataFrame:
    """Return the problems as a table with the columns code, path, sentence."""
    return pd.DataFrame(list(problems), columns=list(Problem._fields))
