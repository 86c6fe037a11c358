"""Catalogues of patients and series: what is there and how it is labelled.

Patient ids are strings and stay strings ("00006", not 6). Whatever is odd about a data set becomes
a row of the problems table (code, path, sentence). Only what makes all further work pointless is
an error.
"""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from string import Formatter

import pandas as pd
import pydicom

from t4e_utils import printable
from t4e_utils.progress import parallel
from t4e_utils.scans.dicom_elements import READ_ERRORS
from t4e_utils.scans.problems import Problem, merged
from t4e_utils.tables import CatalogError
from t4e_utils.tables.ids import spelled_as

IDENTIFIERS = {"patient": "PatientID", "study": "StudyInstanceUID", "series": "SeriesInstanceUID"}
HASH_PREFIX = b"patient:"  # the same in every run, so that tables can be joined


def find_scans(root: str | Path, pattern: str) -> pd.DataFrame:
    """List the files or folders below a folder whose paths have a pattern.

    Args:
        root: folder of the data set.
        pattern: path below it, such as "{patient_id}/{name}_{contrast}.nii.gz" or
            "subset*/{scan}.mhd". A field takes any text within one part of the path; of several
            fields in a part the first takes as much as it can. A field that stands twice must be
            the same. `*` is any text. The last part finds files if it has a dot outside of fields,
            else folders. Names that begin with a dot are left out.

    Returns:
        A column for each field, in the order of the pattern, and path. Sorted by path, numbers by
        value.

    Raises:
        CatalogError: no such folder, it cannot be listed (one below it is left out with a warning),
            nothing has the pattern, the pattern makes no sense, or a path cannot be written down.
    """
    parts, found = pattern.strip("/").split("/"), [""]
    if not os.path.isdir(root):
        raise CatalogError(
            f"The folder {root} is not there: give the folder of the data set, see the "
            "README's section on data."
        )
    for depth in range(1, len(parts) + 1):
        start = "/".join(parts[:depth])
        expression, has_dot = _expression(start)
        takes_files = depth == len(parts) and has_dot
        found = [
            path
            for folder in found
            for path in _entries(root, folder, files=takes_files)
            if expression.fullmatch(path)
        ]
        if not found:
            raise CatalogError(
                f"The folder {root} holds no {start} (looked for {pattern}): is the data set "
                "unpacked there?"
            )
    for path in (os.fspath(root), *found):
        if (shown := printable(path, kept="")) != path:
            raise CatalogError(
                f"The name {shown} below {root} is not UTF-8 or holds letters that cannot be "
                "printed, so no table can hold it: rename it."
            )
    found.sort(key=lambda path: ([_natural(name) for name in path.split("/")], path))
    rows = [expression.fullmatch(path).groups() for path in found]
    table = pd.DataFrame(rows, columns=list(expression.groupindex))
    return table.assign(path=[os.path.join(root, path) for path in found])


def folder_names(root: str | Path) -> list[str]:
    """Return the names of the folders in a folder, sorted; none if it is empty or not there.

    Raises:
        CatalogError: it cannot be listed.
    """
    if not os.path.lexists(root):
        return []
    return sorted(_entries(root, "", files=False))


def _entries(root: str | Path, folder: str, *, files: bool) -> Iterator[str]:
    """Give the files, or the folders, of a folder as paths below the root."""
    where = os.path.join(root, folder) if folder else os.fspath(root)
    try:
        with os.scandir(where) as entries:
            for entry in entries:
                if entry.name[0] != "." and _may_be(entry, files=files):
                    yield f"{folder}/{entry.name}" if folder else entry.name
    except OSError as error:
        sentence = f"The folder {where} cannot be listed ({error.strerror}): make it readable."
        if not folder:
            raise CatalogError(sentence) from error
        warnings.warn(printable(f"{sentence} It is left out."), stacklevel=3)


def _may_be(entry: os.DirEntry, *, files: bool) -> bool:
    """Return whether an entry is a file or a folder, or a link of which that cannot be said.

    A link that leads nowhere has a row, so that the one who reads it says so: it may be filled.
    """
    try:
        is_there = entry.is_file() if files else entry.is_dir()
        return is_there or (entry.is_symlink() and not os.path.exists(entry.path))
    except OSError:  # a link to itself
        return True


def _expression(pattern: str) -> tuple[re.Pattern, bool]:
    """Return what paths must match, and whether the last part has a dot outside of fields."""
    expression, outside = "", ""
    names = {"path"}  # the result's own column, so that a field of this name is refused below
    try:
        for text, name, *_ in Formatter().parse(pattern):
            outside += text
            expression += re.escape(text).replace(r"\*", "[^/]*")
            if name is not None:
                expression += f"(?P={name})" if name in names else f"(?P<{name}>[^/]+)"
                names.add(name)
        return re.compile(expression), "." in outside.split("/")[-1]
    except (ValueError, re.error) as error:
        raise CatalogError(
            f"The pattern {pattern} makes no sense ({error}): write each field as {{name}}, with "
            "another name than path."
        ) from error


def _natural(name: str) -> list[str | int]:
    """Return text and numbers in turn: a key that sorts 9 before 10."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split("([0-9]+)", name))]


def group_by_header(
    paths: Sequence[str | Path], *, n_jobs: int
) -> tuple[pd.DataFrame, list[Problem]]:
    """Say of DICOM files that lie in one folder which patient, study and series they belong to.

    Args:
        paths: of the files; only their headers are read.
        n_jobs: processes.

    Returns:
        One row per readable file, in order: patient, study, series, path. `patient` is a hash of
        12 hexadecimal digits; the id itself stays in the file. It is "" where none is stated.
        And a problem for each file that cannot be read or does not say where it belongs.
    """
    read = parallel(_identifiers, map(str, paths), n_jobs=n_jobs, desc="headers", unit="files")
    table = pd.DataFrame([row for row, _ in read if row], columns=[*IDENTIFIERS, "path"])
    return table, list(merged(problem for _, problems in read for problem in problems))


def _identifiers(path: str) -> tuple[dict[str, str], list[Problem]]:
    """Return a row for `group_by_header`, empty if there is none, and what is wrong.

    What pydicom says of a damaged file can hold its first bytes, so it is not passed on.
    """
    tags = list(IDENTIFIERS.values())
    try:
        with warnings.catch_warnings(action="ignore"):
            header = pydicom.dcmread(path, force=True, stop_before_pixels=True, specific_tags=tags)
        # as stored: pydicom warns of values such as ID_0123abcd, which are no UIDs
        items = [header.get_item(tag) for tag in tags]
        patient, study, series = (b"" if i is None else i.value.strip(b"\0 ") for i in items)
    except READ_ERRORS as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        return {}, [Problem("damaged", path, f"The file cannot be read ({reason}): get it again.")]
    if not series:
        return {}, [Problem("no_pixels", path, "The file is no image of a series: take it out.")]
    unknown = Problem("bad_value", path, "The file does not say of which patient it is.")
    return {
        "patient": hashlib.sha256(HASH_PREFIX + patient).hexdigest()[:12] if patient else "",
        "study": study.decode("ascii", "replace"),
        "series": series.decode("ascii", "replace"),
        "path": path,
    }, [] if patient else [unknown]


def study_columns(table: pd.DataFrame) -> list[str]:
    """Return what tells the studies of a table apart: study_id too, if patients have several."""
    return [name for name in ("patient_id", "study_id") if name in table]


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


def join_labels(
    found: pd.DataFrame,
    labels: pd.DataFrame,
    *,
    root: Path,
    table: str | Path = "the table of labels",
) -> tuple[pd.DataFrame, list[Problem]]:
    """Return the patients that have a folder and a label, and a problem for each of the others.

    Args:
        found: column patient_id, from the names of folders.
        labels: patient_id and label.
        root: of the folders, for messages.
        table: of the labels, for messages. Its ids may be spelled otherwise, see `ids.spelled_as`.

    Returns:
        Columns patient_id, as the folders have it, and label, sorted by patient; problems.

    Raises:
        CatalogError: no patient has both, or an id can be several folders.
    """
    folders = set(found["patient_id"])
    spelled, problems = spelled_as(labels["patient_id"], folders, path=table)
    labels = labels.assign(patient_id=spelled)
    labelled = set(spelled)
    problems += [
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
    """Return the problems as a table with the columns code, path, sentence, all printable."""
    rows = [[printable(text, kept="") for text in problem] for problem in problems]
    return pd.DataFrame(rows, columns=list(Problem._fields))
