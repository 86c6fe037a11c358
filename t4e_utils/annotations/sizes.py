"""How large annotated regions are, in millilitres."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from t4e_utils.annotations.regions import labels_of, regions_from_labels
from t4e_utils.progress import parallel
from t4e_utils.scans.nifti import read_nifti
from t4e_utils.scans.problems import Problem, VolumeError
from t4e_utils.scans.volume import Volume


def measure_regions(
    files: pd.DataFrame,
    regions: Mapping[str, Sequence[int]],
    *,
    n_jobs: int = -1,
    read: Callable[[str], Volume] | None = None,
) -> tuple[pd.DataFrame, list[Problem]]:
    """Measure the annotated regions of each patient.

    Args:
        files: patient_id, series, path; only the rows whose series is "labels" are read.
        regions: label values of each region, such as `{"lesion": (1, 2), "core": (2,)}`.
        n_jobs: processes; -1 is one per core.
        read: of a label map, where its labels must first be converted to those of the regions.

    Returns:
        patient_id and one column <region>_ml each; patients without readable labels have no row,
        but a problem.
    """
    labels = files[files["series"] == "labels"]
    read = read or partial(read_nifti, labels=True, allowed=labels_of(regions))
    measure = partial(_volumes_ml, regions=regions, read=read)
    found = parallel(measure, labels["path"], n_jobs=n_jobs, desc="annotations")
    rows = [
        (patient, *volumes)
        for patient, volumes in zip(labels["patient_id"], found, strict=True)
        if not isinstance(volumes, Problem)
    ]
    table = pd.DataFrame(rows, columns=["patient_id", *(f"{name.lower()}_ml" for name in regions)])
    return table, [problem for problem in found if isinstance(problem, Problem)]


def _volumes_ml(
    path: str, regions: Mapping[str, Sequence[int]], read: Callable[[str], Volume]
) -> list[float] | Problem:
    """Return the volume of each region in ml, or why the labels cannot be read."""
    try:
        volume = read(path)
    except VolumeError as error:
        return error.as_problem()
    voxels = regions_from_labels(volume.array, regions).sum(axis=(1, 2, 3))
    return (voxels * np.prod(volume.spacing_mm) / 1000).tolist()
