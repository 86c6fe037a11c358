"""Small volumes of any orientation and dtype, and their DICOM series."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import numpy as np

from helpers.dicom_series import SPACING
from t4e_utils.scans.dicom_writing import write_dicom_series
from t4e_utils.scans.geometry import PLANES, display_directions
from t4e_utils.scans.volume import Volume

SHAPE = (3, 4, 5)
SIGNED_PERMUTATIONS = [
    np.eye(3)[list(order)] * signs
    for order in permutations(range(3))
    for signs in product((1, -1), repeat=3)
]
OBLIQUE = np.linalg.qr(np.array([[1.0, 0.2, -0.1], [0.1, 1.0, 0.3], [0.2, -0.3, 1.0]]))[0]
DIRECTIONS = [
    *SIGNED_PERMUTATIONS,
    OBLIQUE,
    *(OBLIQUE @ display_directions(plane) for plane in PLANES),
]


def volume_of(
    array: np.ndarray, directions: np.ndarray | None = None, *, plane: str = "axial"
) -> Volume:
    """Return an array as a volume with these directions, or in the display of a plane."""
    affine = np.eye(4)
    affine[:3, :3] = (display_directions(plane) if directions is None else directions) * SPACING
    affine[:3, 3] = (-12.5, 30.25, 7.125)
    return Volume(array, SPACING, affine)


def full_range(dtype: type = np.uint16, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Return noise (D, H, W) over all values of a dtype."""
    kind = np.iinfo(dtype)
    return np.random.default_rng(11).integers(kind.min, kind.max, shape, endpoint=True, dtype=dtype)


def write_series(volume: Volume, folder: Path, **options) -> Path:
    """Write a volume as a DICOM series; return its folder."""
    write_dicom_series(
        volume, folder, **{"patient_id": "00001", "series_description": "T1w", **options}
    )
    return folder
