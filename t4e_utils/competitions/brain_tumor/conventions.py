"""Which tissue a label means: BraTS 2021, 2023 and 2024 number them differently.

A segmentation is read with the labels of BraTS 2021 whatever convention its data set has, so that
everything else knows one. The resection cavity of 2024 (post-treatment) is no tumour: the whole
tumour is enhancing tissue, hyperintensity and non-enhancing core, 1 + 2 + 3, and the core 1 + 3.

Sources: Baid et al., arXiv 2107.02314 (2021, 4 is enhancing; 2023 has the same patients with 3);
de Verdier et al., arXiv 2405.18368 (2024, labels and regions).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from t4e_utils.progress import parallel
from t4e_utils.scans.nifti import read_nifti
from t4e_utils.scans.problems import VolumeError
from t4e_utils.scans.volume import Volume
from t4e_utils.tables.catalog import CatalogError
from t4e_utils.tables.run import MissingInputError

COMMON = "BraTS 2021"  # that everything is read as
CONVENTIONS = {  # tissue of each label; 0 is background in all
    COMMON: {1: "necrotic core", 2: "oedema", 4: "enhancing"},
    "BraTS 2023": {1: "necrotic core", 2: "oedema", 3: "enhancing"},
    "BraTS 2024": {1: "necrotic core", 2: "oedema", 3: "enhancing", 4: "resection cavity"},
}
TUMOUR = {tissue: label for label, tissue in CONVENTIONS[COMMON].items()}
# names -> conventions that their values can have: files of 2021 are often converted to 1, 2, 3
POSSIBLE = {
    COMMON: (COMMON, "BraTS 2023"),
    "BraTS 2023": ("BraTS 2023",),
    "BraTS 2024": ("BraTS 2024",),
}
TELLING = {3, 4}  # what the conventions differ in
# data sets of 2023 that have its labels; those of children (PED) mean other tissues
COHORTS = {"GLI", "MEN", "MET", "SSA"}
FIRST_POST_TREATMENT = 100  # number of the visit, as in BraTS-GLI-00005-100
MOST_ODD = 1 / 3  # of the patients with a telling label; more of them contradict their names


def read_labels(path: str | Path, *, convention: str) -> Volume:
    """Read a segmentation, with the labels of BraTS 2021 whatever convention it has.

    Args:
        path: NIfTI file.
        convention: one of `CONVENTIONS`; what is no tumour in it becomes background.

    Raises:
        VolumeError: as `read_nifti`, or a label that is not in the convention.
    """
    tissues = CONVENTIONS[convention]
    volume = read_nifti(path, labels=True, allowed={0, *tissues})
    if convention == COMMON:
        return volume
    common = np.zeros(256, np.uint8)
    common[list(tissues)] = [TUMOUR.get(tissue, 0) for tissue in tissues.values()]
    return replace(volume, array=common[volume.array])


def labels_present(files: pd.DataFrame, *, n_jobs: int) -> pd.DataFrame:
    """Say which labels each segmentation has, as stored.

    Args:
        files: series, path, and any others; only the rows whose series is "labels" are read.
        n_jobs: processes.

    Returns:
        Those rows that can be read, with the column present, a set of labels above 0.
    """
    table = files[files["series"] == "labels"].reset_index(drop=True)
    present = parallel(_present, table["path"], n_jobs=n_jobs, desc="labels")
    is_read = [labels is not None for labels in present]
    return table.assign(present=pd.Series(present, dtype=object))[is_read]


def _present(path: str) -> set[int] | None:
    """Return the labels of a file; None if it cannot be read, as is said where it is used."""
    try:
        counts = np.bincount(read_nifti(path, labels=True).array.ravel(), minlength=256)
    except VolumeError:
        return None
    return set((np.flatnonzero(counts[1:]) + 1).tolist())


def convention_of(files: pd.DataFrame, present: pd.DataFrame) -> str:
    """Decide which convention a data set has, by the names of its files and by their labels.

    A few patients with other labels than the rest are left out when they are read.

    Args:
        files: path of all files of the data set.
        present: from `labels_present` of them.

    Returns:
        One of `CONVENTIONS`.

    Raises:
        CatalogError: names of several conventions, or of one that is not known, or labels that
            contradict the names.
    """
    by_name = {named_convention(path): path for path in files["path"][::-1]}  # the first of each
    if COMMON in by_name and len(by_name) > 1:
        examples = " and of ".join(f"{name} ({by_name[name]})" for name in sorted(by_name))
        raise CatalogError(
            f"The data set has names of {examples}. They number the tissues differently: give "
            "one of them at a time."
        )
    name = max(by_name)  # 2024 has the labels of 2023, and one more
    telling = [labels for labels in present["present"] if labels & TELLING]
    odd = {
        each: [own for own in telling if own & TELLING - {*CONVENTIONS[each]}]
        for each in POSSIBLE[name]
    }
    found = min(odd, key=lambda each: len(odd[each]))
    if len(odd[found]) > MOST_ODD * len(telling):
        raise CatalogError(
            f"The files have names of {name} (such as {by_name[name]}), whose labels are "
            f"{_said(CONVENTIONS[name])}, but {len(odd[found])} of {len(telling)} segmentations "
            f"with label 3 or 4 contradict that (labels {_said(odd[found][0])}): find out which "
            "convention they have, and name the files as it does."
        )
    return found


def named_convention(path: str | Path) -> str:
    """Return the convention that the name of a file stands for.

    `_flair` is 2021; `-t2f` is 2023, and 2024 where the visit is 100 or later.

    Raises:
        CatalogError: it is of a data set with other labels.
    """
    folder = Path(path).parent.name
    cohort = re.search(r"BraTS-([A-Za-z]+)", folder)
    if cohort and cohort[1].upper() not in COHORTS:
        raise CatalogError(
            f"{path} is of BraTS-{cohort[1]}, where labels mean other tissues: give a data set "
            "with names such as BraTS2021_00000 or BraTS-GLI-00000-000."
        )
    if Path(path).name[len(folder) :].startswith("_"):
        return COMMON
    visit = re.search(r"\d{5}-(\d+)", folder)
    is_late = visit is not None and int(visit[1]) >= FIRST_POST_TREATMENT
    return "BraTS 2024" if is_late else "BraTS 2023"


def stated(provenance: Mapping[str, Any]) -> str:
    """Return the convention that stored slices were made with.

    Raises:
        MissingInputError: they do not say.
    """
    if provenance.get("convention") not in CONVENTIONS:
        raise MissingInputError(
            "The stored slices do not say what the labels of their segmentations meant: run "
            "02_seg_data again with overwrite = True."
        )
    return provenance["convention"]


def label_table(present: pd.DataFrame, convention: str) -> pd.DataFrame:
    """Return how many segmentations have each label, and which tissue it is.

    Args:
        present: from `labels_present`.
        convention: of the data set.
    """
    counts = Counter(label for labels in present["present"] for label in labels)
    tissues = CONVENTIONS[convention]
    rows = [
        (label, tissues.get(label, "not known"), counts[label]) for label in {*tissues, *counts}
    ]
    return pd.DataFrame(sorted(rows), columns=["label", "tissue", "segmentations"])


def _said(labels: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(labels)))
