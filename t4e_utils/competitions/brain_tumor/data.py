"""RSNA-MICCAI brain tumour challenge 2021 (MGMT promoter methylation) and BraTS 2021.

What is known about these two data sets only.

Sources: Baid et al., The RSNA-ASNR-MICCAI BraTS 2021 Benchmark, arXiv 2107.02314; the competition's
data page; the T4E team's solution text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from t4e_utils.competitions.brain_tumor import phantoms
from t4e_utils.competitions.brain_tumor.conventions import (
    COMMON,
    CONVENTIONS,
    convention_of,
    labels_present,
)
from t4e_utils.competitions.brain_tumor.folders import find_series, find_volumes
from t4e_utils.figures.palette import Palette
from t4e_utils.scans.problems import Problem
from t4e_utils.tables.catalog import CatalogError, folder_names, join_labels, missing_series
from t4e_utils.tables.duplicates import shared_images
from t4e_utils.tables.folds import assert_disjoint, folds_of
from t4e_utils.tables.ids import are_among, key_of
from t4e_utils.tables.run import require_folder, resolve
from t4e_utils.tables.submission import SubmissionForm
from t4e_utils.tables.user_tables import read_ids, read_labels, table_at
from t4e_utils.workflow.kaggle_bundle import Bundle
from t4e_utils.workflow.plan import Stage

COMPETITION = "rsna-miccai-brain-tumor-radiogenomic-classification"  # its name on Kaggle
CONTRASTS = ("FLAIR", "T1w", "T1wCE", "T2w")
# whole tumour, enhancing tumour, of labels as `conventions.read_labels` gives them
REGIONS = {"WT": (1, 2, 4), "ET": (4,)}
LABEL_NAMES = CONVENTIONS[COMMON]
PALETTE = Palette(
    colours={"WT": "#56B4E9", "ET": "#E69F00"}
    | {"FLAIR": "#0072B2", "T1w": "#009E73", "T1wCE": "#D55E00", "T2w": "#CC79A7"}
    | {"mean": "#1F2933"}  # of the contrasts
    | {"necrotic core": "#CC79A7", "oedema": "#009E73", "enhancing": "#E69F00"},
    regions=tuple(REGIONS),
    classes={0: "unmethylated", 1: "methylated"},
    outcome="methylation",
    foreground="brain",
    finding="tumour",
)
ID_COLUMN, LABEL_COLUMN = "BraTS21ID", "MGMT_value"
SUBMISSION = SubmissionForm(ID_COLUMN, (LABEL_COLUMN,))
# on the private board, 87 patients
PUBLISHED_AUC = {"T4E, private board": 0.60696, "winner, private board": 0.62174}
FIVE_DIGITS = r"(?<!\d)([0-9]{5})(?!\d)"  # of a patient
FAULTY_PATIENTS = ("00109", "00123", "00709")  # the challenge tells competitors to leave them out
PHANTOM_ROOT = "data/phantoms"
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
KAGGLE = Bundle(
    competition=COMPETITION,
    stage="submission",
    prefix="t4e",
    files="t4e_utils.competitions.brain_tumor.uploaded.bundled_files",
    given="t4e_utils.competitions.brain_tumor.uploaded.bundled_parameters",
    parameters={
        "run_dir": "'{root}/working'",
        "models_dir": "str(bundle)",
        "rsna_dir": f'folder_with("sample_submission.csv", "{COMPETITION}")',
        "brats_dir": '""',
        "source": '"dicom"',
    },
)


@dataclass(frozen=True)
class DataFolders:
    """Where the two data sets are."""

    rsna: Path  # train/, test/, train_labels.csv, sample_submission.csv
    brats: Path | None  # BraTS2021_00000/ ...; None where only patients are to be predicted
    is_phantom: bool  # drawn by this package, not scanned

    @property
    def kind(self) -> str:
        """What the data are, for the provenance of tables."""
        return "phantoms" if self.is_phantom else "scans"


@dataclass(frozen=True)
class SegmentationPatients:
    """Patients of BraTS that may train the segmenter."""

    files: pd.DataFrame  # patient_id, study_id, series (a contrast or "labels"), path
    excluded: list[str]  # ids that belong to the classification data too
    problems: list[Problem]
    convention: str  # of the labels, see `conventions`
    linked: dict[str, str]  # groups of patients who share images, see `tables.duplicates`

    @property
    def ids(self) -> list[str]:
        """Ids of the patients with a segmentation, sorted."""
        return sorted(set(self.files.loc[self.files["series"] == "labels", "patient_id"]))


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
    found = re.search(FIVE_DIGITS, folder_name)
    if not found:
        raise CatalogError(
            f"The folder name {folder_name!r} holds no five-digit patient id such as "
            "BraTS2021_00006: rename or remove it."
        )
    return found.group(1)


def brats_study_id(folder_name: str) -> str:
    """Return the id of the study in a BraTS folder name: that of the patient, and the visit.

    "BraTS-GLI-00006-101" gives "00006-101", "BraTS2021_00006" gives "00006".

    Raises:
        CatalogError: as `brats_patient_id`.
    """
    return folder_name[folder_name.index(brats_patient_id(folder_name)) :]


def brats_files(brats: Path) -> pd.DataFrame:
    """List the NIfTI files of BraTS.

    Columns patient_id, study_id (a patient can have several visits), series (contrast or "labels"),
    path.
    """
    ids = {"patient_id": brats_patient_id, "study_id": brats_study_id}
    return find_volumes(brats, contrasts=BRATS_FILES, **ids)


def missing_volumes(files: pd.DataFrame, *, root: Path) -> list[Problem]:
    """Return a problem for each contrast or segmentation that a study of BraTS lacks."""
    by_study = files.assign(patient_id=files["study_id"])
    studies = set(by_study["patient_id"])
    return missing_series(by_study, studies, series=tuple(BRATS_FILES), root=root)


def classification_ids(rsna: Path) -> set[str]:
    """Return every patient id that the classification data set mentions, with five digits.

    Label table, sample submission, train and test folders. In tables the zeros may be lost.

    Raises:
        CatalogError: it mentions nobody, or a table has an id of another form: whether this patient
            is in BraTS too could not be seen.
    """
    ids = set()
    for path in (rsna / "train_labels.csv", rsna / "sample_submission.csv"):
        if table_at(path):
            named = read_ids(path, id_column=ID_COLUMN, value_column=LABEL_COLUMN)["patient_id"]
            ids |= {_five_digits(patient, path) for patient in named}
    for split in ("train", "test"):
        ids |= {_five_digits(name) for name in folder_names(rsna / split)}
    if not ids:
        raise CatalogError(
            f"{rsna} names no patient, so it cannot be seen who is in both data sets: give the "
            "folder with train_labels.csv and sample_submission.csv."
        )
    return ids


def _five_digits(patient: str, table: Path | None = None) -> str:
    key = key_of(patient)
    if key.isdecimal() and len(key) <= 5:
        return key.zfill(5)
    if found := re.search(FIVE_DIGITS, key):
        return found.group(1)
    if table is None:  # a folder that is no patient
        return patient
    raise CatalogError(
        f"{table} names the patient {patient!r}: correct the id, it has five digits such as 00006."
    )


def shared_volumes(files: pd.DataFrame, *, n_jobs: int = 1) -> tuple[dict[str, str], list[Problem]]:
    """Do what `shared_images` does for BraTS, in all contrasts: one can be missing or damaged."""
    return shared_images(files[files["series"] != "labels"], source="nifti", n_jobs=n_jobs)


def segmentation_patients(folders: DataFolders, *, n_jobs: int = 1) -> SegmentationPatients:
    """Return the BraTS patients who are not in the classification data, under whatever id.

    Args:
        folders: of the two data sets.
        n_jobs: processes that read.

    Raises:
        CatalogError: none is left, or none of them has a segmentation; or it is not known what the
            labels mean, see `convention_of`.
    """
    files = brats_files(folders.brats)
    convention = convention_of(files, labels_present(files, n_jobs=n_jobs))
    linked, same = shared_volumes(files, n_jobs=n_jobs)
    known = classification_ids(folders.rsna)
    groups = {linked[patient] for patient in known & linked.keys()}
    known |= {patient for patient, group in linked.items() if group in groups}
    excluded = sorted(set(files["patient_id"]) & known)
    kept = files[~files["patient_id"].isin(excluded)].reset_index(drop=True)
    # once more by the names of the folders on the disk, not by the column that was filtered
    on_disk = {brats_patient_id(Path(path).parent.name) for path in kept["path"]}
    assert_disjoint(on_disk, known, what="segmentation and classification data")
    patients = set(kept["patient_id"])
    problems = missing_volumes(kept, root=folders.brats)
    labelled = set(kept.loc[kept["series"] == "labels", "study_id"])
    if not labelled:
        raise CatalogError(
            f"No patient below {folders.brats} can train the segmenter: {len(excluded)} also "
            "stand in the classification data, "
            f"{len(patients)} others have no segmentation file (_seg.nii.gz)."
        )
    return SegmentationPatients(
        kept[kept["study_id"].isin(labelled)].reset_index(drop=True),
        excluded,
        [*same, *problems],
        convention,
        linked,
    )


def training_patients(
    folders: DataFolders, *, excluded: tuple[str, ...] | list[str] = FAULTY_PATIENTS
) -> tuple[pd.DataFrame, pd.DataFrame, list[Problem]]:
    """Return the labelled patients, their series folders, and what is odd.

    Returns:
        Patients (patient_id, label), series (patient_id, split, series, path), problems.
    """
    found = find_series(folders.rsna, split="train", series=CONTRASTS)
    path = folders.rsna / "train_labels.csv"
    labels = read_labels(path, id_column=ID_COLUMN, label_column=LABEL_COLUMN)
    found, labels = (
        table[np.logical_not(are_among(table["patient_id"], excluded))] for table in (found, labels)
    )
    patients, problems = join_labels(found, labels, root=folders.rsna / "train", table=path)
    found = found[found["patient_id"].isin(patients["patient_id"])].reset_index(drop=True)
    problems += missing_series(
        found, patients["patient_id"], series=CONTRASTS, root=folders.rsna / "train"
    )
    return patients, found, problems


def read_fold_table(
    path: Path, patient_ids: pd.Series, linked: Mapping[str, str] | None = None
) -> list[int]:
    """Return the fold of each patient from a table such as the T4E team's.

    Columns BraTS21ID and fold; ids may be without zeros in front.

    Raises:
        CatalogError: as `user_tables.read_ids` and `folds.folds_of`.
        LeakError: as `folds.folds_of`.
    """
    table = read_ids(path, id_column=ID_COLUMN, value_column="fold")
    return folds_of(patient_ids, table, path=path, linked=linked)


def read_sample(rsna: Path) -> pd.DataFrame:
    """Read the sample submission, the list of patients to predict.

    Column patient_id, in its order and spelling.
    """
    path = rsna / "sample_submission.csv"
    table = read_ids(path, id_column=ID_COLUMN, value_column=LABEL_COLUMN)
    return table[["patient_id"]].reset_index(drop=True)


def test_series(rsna: Path) -> pd.DataFrame:
    """List the series folders of the test patients.

    None at all is an empty table, since every patient gets a fallback.
    """
    if not folder_names(rsna / "test"):
        return pd.DataFrame(columns=["patient_id", "split", "series", "path"])
    return find_series(rsna, split="test", series=CONTRASTS)
