"""Patients who stand in a data set under two ids: their images are equal.

One image of each series is looked at, from the middle of its files; only where that is equal to one
of another patient are both series read. A blank image says nothing, and a SOPInstanceUID that is
not unique (DICOM PS3.3 C.12.1) neither.
"""

from __future__ import annotations

import hashlib
import warnings
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pydicom

from t4e_utils.progress import parallel
from t4e_utils.scans.dicom_elements import READ_ERRORS
from t4e_utils.scans.folders import files_of
from t4e_utils.scans.nifti import read_nifti
from t4e_utils.scans.problems import Problem, VolumeError
from t4e_utils.scans.reading import read_series
from t4e_utils.tables.folds import make_folds

MOST_TRIES = 8  # places around the middle to look for an image that is not blank


class _Marks(NamedTuple):
    """What tells the images of a series from others."""

    images: frozenset[str] = frozenset()
    uids: frozenset[str] = frozenset()


def shared_images(
    table: pd.DataFrame, *, source: str = "dicom", n_jobs: int
) -> tuple[dict[str, str], list[Problem]]:
    """Find patients who share images with another one.

    Args:
        table: patient_id and path, one row per series.
        source: "dicom", "jpg" or "nifti".
        n_jobs: processes.

    Returns:
        The group of each patient who shares images, named by its first id; and a problem for each
        series that is also another patient's.
    """
    found = parallel(
        partial(_marks, source=source), table["path"], n_jobs=n_jobs, desc="images", unit="series"
    )
    rows = list(zip(table["patient_id"], table["path"], strict=True))
    candidates = {k for own in _shared(rows, [m.images for m in found]).values() for k in own}
    candidates = sorted(candidates)
    read = parallel(
        partial(_digest, source=source),
        [rows[k][1] for k in candidates],
        n_jobs=n_jobs,
        desc="equal images",
        unit="series",
    )
    whole: list[Collection[str]] = [()] * len(rows)
    for k, digest in zip(candidates, read, strict=True):
        whole[k] = [digest] if digest else ()
    n_patients = table["patient_id"].nunique()
    same = [*_shared(rows, whole).values()]
    same += [
        own
        for own in _shared(rows, [m.uids for m in found]).values()
        if _is_unique([rows[k][0] for k in own], n_patients)
    ]
    return _groups([[rows[k][0] for k in own] for own in same]), _said(rows, same)


def deal_folds(
    ids: Sequence[str],
    linked: Mapping[str, str],
    *,
    n_folds: int,
    seed: int,
    labels: Sequence[int] | None = None,
) -> pd.DataFrame:
    """Deal patients into folds as `make_folds`, and those who share images into the same one.

    Args:
        ids: patients.
        linked: from `shared_images`.
        n_folds: number of folds.
        seed: of the shuffle.
        labels: one per id.

    Returns:
        patient_id, fold, and group if somebody is linked.
    """
    table = pd.DataFrame({"patient_id": list(ids)})
    options = {"n_folds": n_folds, "seed": seed, "labels": labels}
    if not linked.keys() & set(ids):
        return table.assign(fold=make_folds(ids, **options))
    groups = [linked.get(each, each) for each in ids]
    return table.assign(fold=make_folds(ids, groups=groups, **options), group=groups)


def _marks(path: str, source: str) -> _Marks:
    """Return marks of the image in the middle of a series, or of the next that is not blank."""
    try:
        files = files_of(path)
    except VolumeError:  # reading says what is wrong
        return _Marks()
    for near in _from_the_middle(files):
        images = {_mark_of_file(file, source) for file in near} - {""}
        if images:
            uids = set().union(*(_uids(file) for file in near)) if source == "dicom" else ()
            return _Marks(frozenset(images), frozenset(uids))
    return _Marks()


def _from_the_middle(files: Sequence[Path]) -> Iterator[list[Path]]:
    """Yield the one or two middle files, then those around them: the same from either end."""
    low, high = (len(files) - 1) // 2, len(files) // 2
    for step in range(min(low + 1, MOST_TRIES)):
        yield [files[k] for k in dict.fromkeys((low - step, high + step))]


def _mark_of_file(path: Path, source: str) -> str:
    array = _array(path, source)
    middle = None if array is None else array[len(array) // 2]
    return "" if middle is None or _is_blank(middle) else _hash(middle)


def _is_blank(image: np.ndarray) -> bool:
    """Return whether an image has at most two values, as padding around nothing has."""
    return not ((image != image.min()) & (image != image.max())).any()


def _digest(path: str, source: str) -> str:
    """Return a mark of all images of a series, "" if it cannot be read."""
    array = _array(path, source)
    return "" if array is None else _hash(array)


def _array(path: str | Path, source: str) -> np.ndarray | None:
    try:
        volume = read_nifti(path) if source == "nifti" else read_series(path, source=source)
    except VolumeError:
        return None
    return volume.array


def _hash(array: np.ndarray) -> str:
    """Return a text that is equal for equal values, however they are stored."""
    values = np.ascontiguousarray(array, dtype=np.float64)
    return hashlib.blake2b(values, digest_size=16).hexdigest() + str(values.shape)


def _uids(path: Path) -> set[str]:
    try:
        with warnings.catch_warnings(action="ignore"):
            header = pydicom.dcmread(
                path, force=True, stop_before_pixels=True, specific_tags=["SOPInstanceUID"]
            )
        item = header.get_item("SOPInstanceUID")
    except READ_ERRORS:
        return set()
    uid = b"" if item is None or item.value is None else item.value.strip(b"\0 ")
    return {uid.decode("ascii", "replace")} - {""}


def _shared(
    rows: Sequence[tuple[str, str]], marks: Iterable[Collection[str]]
) -> dict[str, list[int]]:
    """Return the rows that have a mark, of the marks that several patients have."""
    found = defaultdict(list)
    for k, own in enumerate(marks):
        for mark in own:
            found[mark].append(k)
    return {mark: own for mark, own in found.items() if len({rows[k][0] for k in own}) > 1}


def _is_unique(patients: Sequence[str], n_patients: int) -> bool:
    """Return whether a UID says something: not if a patient has it twice, or most patients do."""
    return len(set(patients)) == len(patients) and len(patients) <= max(2, n_patients / 2)


def _groups(same: Iterable[Sequence[str]]) -> dict[str, str]:
    groups: dict[str, set[str]] = {}
    for patients in same:
        merged = set(patients).union(*(groups.get(patient, ()) for patient in patients))
        groups |= dict.fromkeys(merged, merged)
    return {patient: min(group) for patient, group in sorted(groups.items())}


def _said(rows: Sequence[tuple[str, str]], same: Iterable[Sequence[int]]) -> list[Problem]:
    """Return a problem for each series whose images another patient has, with that one's."""
    problems = {}
    for own in same:
        first = rows[own[0]]
        for patient, path in (rows[k] for k in own[1:]):
            sentence = (
                f"Patients {first[0]} and {patient} have the same images (the others in "
                f"{first[1]}): they are taken for one patient and stay in one fold."
            )
            if patient != first[0]:
                problems.setdefault(path, Problem("same_images", path, sentence))
    return list(problems.values())
