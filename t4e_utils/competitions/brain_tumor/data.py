"""RSNA-MICCAI brain tumour challenge 2021 (MGMT promoter methylation) and BraTS 2021.

What is known about these two data sets only.

Sources: Baid et al., The RSNA-ASNR-MICCAI BraTS 2021 Benchmark, arXiv 2107.02314; the competition's
data page; the T4E team's solution text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from t4e_utils.competitions.brain_tumor import phantoms
from t4e_utils.scans.problems import Problem
from t4e_utils.tables.catalog import (
    CatalogError,
    find_series,
    find_volumes,
    join_labels,
    missing_series,
    read_ids,
    read_labels,
)
from t4e_utils.tables.folds import assert_disjoint
from t4e_utils.tables.run import require_folder, resolve
from t4e_utils.workflow.plan import Stage

COMPETITION = "rsna-miccai-brain-tumor-radiogenomic-classification"  # its name on Kaggle
CONTRASTS = ("FLAIR", "T1w", "T1wCE", "T2w")
# whole tumour, enhancing tumour; 1 necrotic core, 2 oedema, 4 enhancing
REGIONS = {"WT": (1, 2, 4), "ET": (4,)}
LABEL_VALUES = (0, 1, 2, 4)
ID_COLUMN, LABEL_COLUMN = "BraTS21ID", "MGMT_value"
FAULTY_PATIENTS = ("00109", "00123", "00709")  # the challenge tells competitors to leave them out
PHANTOM_ROOT = "data/phantoms"
N_PUBLIC_TEST = 87
BRATS_FILES = {
    "FLAIR": ("_flair", "-t2f"),
    "T1w": ("_t1", "-t1n"),
    "T1wCE": ("_t1ce", "-t1c"),
    "T2w": ("_t2", "-t2w"),
    "labels": ("_seg", "-seg"),
}
STAGES = {
    "eda": Stage("01_eda"),
    "seg_data": Stage("02_seg_data"),
    "train_seg": Stage("03_train_seg", folds_from="seg_data", uses_gpu=True),
    "cls_data": Stage("04_cls_data", uses_gpu=True),
    "train_cls": Stage("05_train_cls", folds_from="cls_data", uses_gpu=True),
    "submission": Stage("06_submission", uses_gpu=True),
}


@dataclass(frozen=True)
class DataFolders:
    """Where the two data sets are."""

    rsna: Path  # train/, test/, train_labels.csv, sample_submission.csv
    brats: Path | None  # BraTS2021_00000/ ...; None where only patients are to be predicted
    is_phantom: bool  # drawn by this package, not scanned


@dataclass(frozen=True)
class SegmentationPatients:
    """Patients of BraTS 2021 that may train the segmenter."""

    files: pd.DataFrame  # patient_id, series (a contrast or "labels"), path
    excluded: list[str]  # ids that belong to the classification data too
    problems: list[Problem]

    @property
    def ids(self) -> list[str]:
        """Ids of the patients with a segmentation, sorted."""
        return sorted(self.files.loc[self.files["series"] == "labels", "patient_id"])


def open_data(rsna_dir: str | Path, brats_dir: str | Path) -> DataFolders:
    """Return the two data folders; at the default place, draw the phantoms if nothing is there yet.

    An empty `brats_dir` is none.

    Raises:
        MissingInputError: a folder other than the phantoms' is not there.
    """
    root = resolve(PHANTOM_ROOT)
    asked = (resolve(rsna_dir), resolve(brats_dir))
    is_phantom = asked == (root / "rsna", root / "brats21")
    if is_phantom and not (root / "phantoms.json").is_file():
        phantoms.write_phantoms(root, phantoms.PhantomConfig())
    how = (
        "give rsna_dir and brats_dir, or fetch the data with `make data`; without both "
        "parameters, phantoms are drawn"
    )
    rsna = require_folder(rsna_dir, what="the RSNA-MICCAI data set", how=how)
    brats = (
        require_folder(brats_dir, what="the BraTS 2021 data set", how=how) if brats_dir else None
    )
    return DataFolders(rsna=rsna, brats=brats, is_phantom=is_phantom)


def brats_patient_id(folder_name: str) -> str:
    """Return the five-digit id in a BraTS folder name.

    "BraTS2021_00006" and "BraTS-GLI-00006-000" give "00006".

    Raises:
        CatalogError: the name holds no five-digit group.
    """
    found = re.search(r"(?<!\d)(\d{5})(?!\d)", folder_name)
    if not found:
        raise CatalogError(
            f"The folder name {folder_name!r} holds no five-digit patient id such as "
            "BraTS2021_00006: rename or remove it."
        )
    return found.group(1)


def brats_files(brats: Path) -> pd.DataFrame:
    """List the NIfTI files of BraTS 2021.

    Columns patient_id, series (contrast or "labels"), path.
    """
    return find_volumes(brats, contrasts=BRATS_FILES, patient_id=brats_patient_id)


def classification_ids(rsna: Path) -> set[str]:
    """Return every patient id that the classification data set mentions.

    Label table, sample submission, train and test folders.
    """
    ids = set()
    for table in ("train_labels.csv", "sample_submission.csv"):
        if (rsna / table).is_file():
            ids |= set(
                read_ids(rsna / table, id_column=ID_COLUMN, value_column=LABEL_COLUMN)["patient_id"]
            )
    for split in ("train", "test"):
        if (rsna / split).is_dir():
            ids |= {folder.name for folder in (rsna / split).iterdir() if folder.is_dir()}
    return ids


def segmentation_patients(folders: DataFolders) -> SegmentationPatients:
    """Return the BraTS patients who are not in the classification data (two thirds of a leak is
    still a leak).

    Raises:
        CatalogError: none is left, or none of them has a segmentation.
    """
    files = brats_files(folders.brats)
    known = classification_ids(folders.rsna)
    excluded = sorted(set(files["patient_id"]) & known)
    kept = files[~files["patient_id"].isin(excluded)].reset_index(drop=True)
    assert_disjoint(kept["patient_id"], known, what="segmentation and classification data")
    patients = set(kept["patient_id"])
    problems = missing_series(kept, patients, series=tuple(BRATS_FILES), root=folders.brats)
    labelled = set(kept.loc[kept["series"] == "labels", "patient_id"])
    if not labelled:
        raise CatalogError(
            f"No patient below {folders.brats} can train the segmenter: {len(excluded)} also "
            "stand in the classification data, "
            f"{len(patients)} others have no segmentation file (_seg.nii.gz)."
        )
    return SegmentationPatients(
        kept[kept["patient_id"].isin(labelled)].reset_index(drop=True), excluded, problems
    )


def training_patients(
    folders: DataFolders, *, excluded: tuple[str, ...] | list[str] = FAULTY_PATIENTS
) -> tuple[pd.DataFrame, pd.DataFrame, list[Problem]]:
    """Return the labelled patients, their series folders, and what is odd.

    Returns:
        Patients (patient_id, label), series (patient_id, split, series, path), problems.
    """
    found = find_series(folders.rsna, split="train", series=CONTRASTS)
    labels = read_labels(
        folders.rsna / "train_labels.csv", id_column=ID_COLUMN, label_column=LABEL_COLUMN
    )
    found, labels = (table[~table["patient_id"].isin(excluded)] for table in (found, labels))
    patients, problems = join_labels(found, labels, root=folders.rsna / "train")
    found = found[found["patient_id"].isin(patients["patient_id"])].reset_index(drop=True)
    problems += missing_series(
        found, patients["patient_id"], series=CONTRASTS, root=folders.rsna / "train"
    )
    return patients, found, problems


def read_fold_table(path: Path, patient_ids: pd.Series) -> list[int]:
    """Return the fold of each patient from a table with the columns BraTS21ID and fold, such as the
    T4E team's (ids without zeros in front).

    Raises:
        CatalogError: the table is missing or a patient is not in it.
    """
    table = read_ids(path, id_column=ID_COLUMN, value_column="fold")
    folds = dict(zip(table["patient_id"].str.zfill(5), table["value"].astype(int), strict=True))
    if missing := [patient for patient in patient_ids if patient not in folds]:
        raise CatalogError(
            f"{path} has no fold for {len(missing)} patients, such as {missing[0]}: complete "
            "it, or exclude them."
        )
    return [folds[patient] for patient in patient_ids]


def read_sample(rsna: Path) -> pd.DataFrame:
    """Read the sample submission, the list of patients to predict.

    Column patient_id, in its order.
    """
    return read_ids(rsna / "sample_submission.csv", id_column=ID_COLUMN, value_column=LABEL_COLUMN)[
        ["patient_id"]
    ]


def test_series(rsna: Path) -> pd.DataFrame:
    """List the series folders of the test patients.

    None at all is an empty table, since every patient gets a fallback.
    """
    if not (rsna / "test").is_dir():
        return pd.DataFrame(columns=["patient_id", "split", "series", "path"])
    return find_series(rsna, split="test", series=CONTRASTS)
