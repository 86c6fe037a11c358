"""RSNA-MICCAI brain tumour challenge 2021 (MGMT promoter methylation) and BraTS 2021.

What is known about these two data sets only.

Sources: Baid et al., The RSNA-ASNR-MICCAI BraTS 2021 Benchmark, arXiv 2107.02314; the competition's
data page; the T4E team's solution text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from t4e_utils.annotations.regions import labels_of
from t4e_utils.competitions.brain_tumor import phantoms
from t4e_utils.competitions.brain_tumor.folders import find_series, find_volumes
from t4e_utils.figures.palette import Palette
from t4e_utils.scans.nifti import read_nifti
from t4e_utils.scans.problems import Problem
from t4e_utils.scans.reading import read_each
from t4e_utils.scans.volume import Volume
from t4e_utils.tables.catalog import (
    CatalogError,
    join_labels,
    missing_series,
    read_ids,
    read_labels,
)
from t4e_utils.tables.folds import assert_disjoint
from t4e_utils.tables.run import require_folder, resolve
from t4e_utils.tables.submission import SubmissionForm
from t4e_utils.workflow.kaggle_bundle import Bundle
from t4e_utils.workflow.plan import Stage

COMPETITION = "rsna-miccai-brain-tumor-radiogenomic-classification"  # its name on Kaggle
CONTRASTS = ("FLAIR", "T1w", "T1wCE", "T2w")
# whole tumour, enhancing tumour; 1 necrotic core, 2 oedema, 4 enhancing
REGIONS = {"WT": (1, 2, 4), "ET": (4,)}
LABEL_NAMES = {1: "necrotic core", 2: "oedema", 4: "enhancing"}
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
        "rsna_dir": 'folder_with("sample_submission.csv")',
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


def read_annotated_patient(
    files: pd.DataFrame, patient_id: str
) -> tuple[dict[str, Volume], Volume | None]:
    """Read the contrasts of a patient, and its labels if there are any, but nothing damaged.

    Args:
        files: from `brats_files`.
        patient_id: whom.
    """
    paths = files[files["patient_id"] == patient_id].set_index("series")["path"]
    contrasts, _ = read_each(read_nifti, paths.reindex(CONTRASTS).dropna())
    read = partial(read_nifti, labels=True, allowed=labels_of(REGIONS))
    labels, _ = read_each(read, paths.reindex(["labels"]).dropna())
    return contrasts, labels.get("labels")


def first_annotated(
    patients: SegmentationPatients, *, start: int = 0
) -> tuple[str, dict[str, Volume], Volume]:
    """Return the first patient whose labels and at least one contrast can be read.

    Args:
        patients: to choose from.
        start: number of the one to begin with.

    Raises:
        CatalogError: nobody can be read.
    """
    ids = patients.ids
    for patient in [*ids[start % len(ids) :], *ids[: start % len(ids)]]:
        contrasts, labels = read_annotated_patient(patients.files, patient)
        if contrasts and labels is not None:
            return patient, contrasts, labels
    raise CatalogError(
        f"None of {len(ids)} annotated patients can be read (such as {ids[0]}): fetch them again."
    )


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
    """Return the BraTS patients who are not in the classification data.

    Raises:
        CatalogError: none is left, or none of them has a segmentation.
    """
    files = brats_files(folders.brats)
    known = classification_ids(folders.rsna)
    excluded = sorted(set(files["patient_id"]) & known)
    kept = files[~files["patient_id"].isin(excluded)].reset_index(drop=True)
    # once more by the names of the folders on the disk, not by the column that was filtered
    on_disk = {brats_patient_id(Path(path).parent.name) for path in kept["path"]}
    assert_disjoint(on_disk, known, what="segmentation and classification data")
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
    """Return the fold of each patient from a table such as the T4E team's.

    Columns BraTS21ID and fold; ids without zeros in front.

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
