"""How large annotated regions are, in millilitres."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from tqdm import tqdm

from t4e_utils.annotations.regions import labels_of, regions_from_labels
from t4e_utils.progress import PROGRESS_SECONDS
from t4e_utils.scans.nifti import read_nifti
from t4e_utils.scans.problems import Problem, VolumeError


def measure_tumours(
    files: pd.DataFrame, regions: Mapping[str, Sequence[int]], *, n_jobs: int = -1
) -> tuple[pd.DataFrame, list[Problem]]:
    """Measure the annotated regions.

    Args:
        files: patient_id, series, path; only the rows whose series is "labels" are read.
        regions: label values of each region.
        n_jobs: processes; -1 is one a core.

    Returns:
        patient_id and a column <region>_ml each; patients without readable labels have no row, but
        a problem.
    """
    labels = files[files["series"] == "labels"]
    progress = tqdm(labels["path"], desc="annotations", mininterval=PROGRESS_SECONDS)
    sizes = Parallel(n_jobs=n_jobs)(delayed(_region_sizes)(path, regions) for path in progress)
    rows = [
        (patient, *size)
        for patient, size in zip(labels["patient_id"], sizes, strict=True)
        if not isinstance(size, Problem)
    ]
    table = pd.DataFrame(rows, columns=["patient_id", *(f"{name.lower()}_ml" for name in regions)])
    return table, [size for size in sizes if isinstance(size, Problem)]


def _region_sizes(path: str, regions: Mapping[str, Sequence[int]]) -> list[float] | Problem:
    try:
        volume = read_nifti(path, labels=True, allowed=labels_of(regions))
    except VolumeError as error:
        return error.as_problem()
    return (
        regions_from_labels(volume.array, regions).sum(axis=(1, 2, 3))
        * np.prod(volume.spacing_mm)
        / 1000
    ).tolist()
