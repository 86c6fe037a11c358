"""Annotated studies of BraTS, read to be looked at: what cannot be read is passed over."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pandas as pd

from t4e_utils.competitions.brain_tumor.conventions import read_labels
from t4e_utils.competitions.brain_tumor.data import CONTRASTS
from t4e_utils.sampling.cutting import require_same_grid
from t4e_utils.scans.nifti import read_nifti
from t4e_utils.scans.reading import read_each
from t4e_utils.scans.volume import Volume
from t4e_utils.tables.catalog import CatalogError


def read_annotated_study(
    files: pd.DataFrame, study_id: str, *, convention: str
) -> tuple[dict[str, Volume], Volume | None]:
    """Read the contrasts of a study, and its labels if there are any.

    Nothing that is damaged, and no contrast off the grid of the labels.

    Args:
        files: from `brats_files`.
        study_id: which.
        convention: of the labels.
    """
    paths = files[files["study_id"] == study_id].set_index("series")["path"]
    read = partial(read_labels, convention=convention)
    labels = read_each(read, paths.reindex(["labels"]).dropna())[0].get("labels")
    read = partial(_on_grid, labels=labels)
    return read_each(read, paths.reindex(CONTRASTS).dropna())[0], labels


def _on_grid(path: str, labels: Volume | None) -> Volume:
    volume = read_nifti(path)
    if labels is not None:
        require_same_grid(volume, labels, path)
    return volume


def first_annotated(
    files: pd.DataFrame, *, convention: str, start: int = 0
) -> tuple[str, dict[str, Volume], Volume]:
    """Return the first study whose labels and at least one contrast can be read.

    Args:
        files: from `brats_files`, to choose from.
        convention: of the labels.
        start: number of the one to begin with.

    Raises:
        CatalogError: none can be read.
    """
    ids = sorted(files.loc[files["series"] == "labels", "study_id"])
    for study in [*ids[start % max(len(ids), 1) :], *ids[: start % max(len(ids), 1)]]:
        contrasts, labels = read_annotated_study(files, study, convention=convention)
        if contrasts and labels is not None:
            return study, contrasts, labels
    raise CatalogError(
        f"None of {len(ids)} annotated patients can be read (such as {min(ids, default='none')}): "
        "fetch them again."
    )


def example_study(
    files: pd.DataFrame, *, convention: str, start: int = 0
) -> tuple[str, dict[str, Volume], Volume | None]:
    """Return what `first_annotated` does, or the first study if none can be read with labels."""
    try:
        return first_annotated(files, convention=convention, start=start)
    except CatalogError:
        study = min(files["study_id"])
        return study, *read_annotated_study(files, study, convention=convention)


def largest_slice(
    kept: pd.DataFrame, files: pd.DataFrame, *, convention: str, first: str = ""
) -> tuple[pd.Series, Volume, Volume]:
    """Return the stored slice with most tumour whose scan can still be read.

    Args:
        kept: stored slices, with study_id, series and wt_area.
        files: from `brats_files`.
        convention: of the labels.
        first: study to take if possible.

    Returns:
        The row, its contrast and the labels.

    Raises:
        CatalogError: no slice was stored, or none of their scans can be read.
    """
    if kept.empty:
        raise CatalogError(
            "No slice was stored, since none shows more tumour than min_tumour_share: lower it, or "
            "see the problems of the files."
        )
    ordered = kept.assign(is_first=kept["study_id"] == first)
    ordered = ordered.sort_values(["is_first", "wt_area"], ascending=False, kind="stable")
    for _, row in ordered.drop_duplicates(["study_id", "series"]).iterrows():
        own = files[files["series"].isin([row["series"], "labels"])]
        found, labels = read_annotated_study(own, row["study_id"], convention=convention)
        if found and labels is not None:
            return row, found[row["series"]], labels
    raise CatalogError(
        f"None of {kept['study_id'].nunique()} studies with stored slices can be read any more "
        f"(such as {kept['study_id'].iloc[0]}): fetch the data again."
    )


def drop_others(found: pd.DataFrame, folder: Path) -> None:
    """Delete the slices of studies that were cut earlier and are not among those of now.

    Args:
        found: all slices, with study_id.
        folder: of the slices, in which each study has one.
    """
    for own in folder.glob("*/"):
        if own.name not in set(found["study_id"]) and not own.is_symlink():
            shutil.rmtree(own)


def files_of_cut(found: pd.DataFrame, files: pd.DataFrame) -> pd.DataFrame:
    """Return the files of those studies and contrasts that were cut: what was refused has none.

    Args:
        found: all slices, with study_id and series.
        files: from `brats_files`.

    Returns:
        patient_id, study_id, and a column of paths for each series.
    """
    is_cut = {*zip(found["study_id"], found["series"], strict=True)}
    studies = {study for study, _ in is_cut}
    used = [
        (study, series) in is_cut or (series == "labels" and study in studies)
        for study, series in zip(files["study_id"], files["series"], strict=True)
    ]
    ids = ["patient_id", "study_id"]
    wide = files[used].pivot(index=ids, columns="series", values="path").reset_index()
    return wide.rename_axis(columns=None)
