"""Small DICOM series for tests, written and then changed as scanners and anonymisers do."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from t4e_utils.scans.dicom_writing import write_dicom_series
from t4e_utils.scans.geometry import display_affine
from t4e_utils.scans.problems import CODES
from t4e_utils.scans.volume import Volume

SPACING = (3.0, 0.5, 0.75)


def array_of(shape=(5, 4, 6), dtype=np.uint16, low=0, high=4000) -> np.ndarray:
    return np.random.default_rng(7).integers(low, high, shape).astype(dtype)


def written(folder: Path, array: np.ndarray, *, plane: str = "axial", **options) -> Path:
    affine = display_affine(plane, SPACING)
    affine[:3, 3] = (40.0, -30.0, 20.0)
    names = {"patient_id": "00001", "series_description": "T1", **options}
    write_dicom_series(Volume(array, SPACING, affine), folder, **names)
    return folder


def edit(
    folder: Path, change: Callable[[Dataset, int], None], *, only: tuple[int, ...] | None = None
) -> None:
    """Change the header of the files with the given numbers, counted from 0."""
    for i in range(len(list(folder.iterdir()))) if only is None else only:
        path = folder / f"Image-{i + 1}.dcm"
        dataset = pydicom.dcmread(path)
        change(dataset, i)
        dataset.save_as(path)


def setting(**attributes) -> Callable[[Dataset, int], None]:
    return lambda dataset, i: [setattr(dataset, name, value) for name, value in attributes.items()]


def without(*keywords: str) -> Callable[[Dataset, int], None]:
    return lambda dataset, i: [
        delattr(dataset, keyword) for keyword in keywords if keyword in dataset
    ]


def codes(volume: Volume) -> list[str]:
    found = [problem.code for problem in volume.meta["problems"]]
    assert set(found) <= set(CODES)
    return found


def deflated(path: Path) -> bytes:
    """Return a DICOM file with all its elements compressed."""
    dataset, buffer = pydicom.dcmread(path), BytesIO()
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(buffer)
    return buffer.getvalue()
