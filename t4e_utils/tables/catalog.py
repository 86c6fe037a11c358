"""Catalogues of patients and series: what is there and how it is labelled.

Patient ids are strings and stay strings ("00006", not 6). Whatever is odd about a data set becomes
a row of the problems table (code, path, sentence); only what makes all further work pointless is an
error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from t4e_utils import T4EError
from t4e_utils.scans.problems import Problem


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


def problems_table(problems: Iterable[Problem]) -> pd.DataFrame:
    """Return the problems as a table with the columns code, path, sentence."""
    return pd.DataFrame(list(problems), columns=list(Problem._fields))
