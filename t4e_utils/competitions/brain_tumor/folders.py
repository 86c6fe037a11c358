"""Where the files of the two data sets lie: DICOM series of RSNA-MICCAI, volumes of BraTS."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from t4e_utils.tables.catalog import CatalogError, find_scans


def find_series(root: Path, *, split: str, series: Sequence[str]) -> pd.DataFrame:
    """List the series folders `root/split/<patient>/<series>`.

    Returns:
        Columns patient_id, split, series, path; a series folder that is missing has no row. Sorted
        by patient, then by `series`.

    Raises:
        CatalogError: the split folder is missing or holds no patient folder.
    """
    patients = find_scans(root / split, "{patient_id}").sort_values("patient_id")
    rows = [
        {"patient_id": patient, "split": split, "series": name, "path": str(Path(path, name))}
        for patient, path in patients.itertuples(index=False)
        for name in series
        if os.path.isdir(os.path.join(path, name))  # not of Path, which raises without permission
    ]
    return pd.DataFrame(rows, columns=["patient_id", "split", "series", "path"])


def find_volumes(
    root: Path,
    *,
    contrasts: Mapping[str, Sequence[str]],
    patient_id: Callable[[str], str],
    study_id: Callable[[str], str],
) -> pd.DataFrame:
    """List the NIfTI files `root/<study>/<study><suffix>.nii[.gz]`.

    Args:
        root: folder of a folder for each study.
        contrasts: for each contrast (or "labels") the suffixes under which it is found, such as
            ("_t1ce", "-t1c").
        patient_id: turns a folder name into the patient's id.
        study_id: and into that of the study; a patient can have several.

    Returns:
        Columns patient_id, study_id, series, path; a missing file has no row.

    Raises:
        CatalogError: the folder is missing, or holds no patient folder or none of the files, or two
            folders are of one study.
    """
    rows, places = [], {}
    for folder in find_scans(root, "{patient_folder}").sort_values("patient_folder")["path"]:
        patient = Path(folder)
        for series, suffixes in contrasts.items():
            candidates = [
                patient / f"{patient.name}{suffix}{end}"
                for suffix in suffixes
                for end in (".nii.gz", ".nii")
            ]
            found = next((path for path in candidates if os.path.isfile(path)), None)
            if found:
                study = study_id(patient.name)
                if places.setdefault(study, patient) != patient:
                    raise CatalogError(
                        f"The folders {places[study]} and {patient} are both of study {study}: "
                        "remove or rename one of them."
                    )
                ids = {"patient_id": patient_id(patient.name), "study_id": study}
                rows.append({**ids, "series": series, "path": str(found)})
    if not rows:
        name = f"{patient.name}/{patient.name}{next(iter(contrasts.values()))[0]}.nii.gz"
        raise CatalogError(
            f"The folder {root} holds no file such as {name}: give the folder of the data set."
        )
    return pd.DataFrame(rows, columns=["patient_id", "study_id", "series", "path"])
