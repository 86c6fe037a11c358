"""Head phantoms without the scanner's share."""

from __future__ import annotations

import numpy as np

from t4e_utils.phantoms.head import INTENSITIES
from t4e_utils.phantoms.head_painting import paint

CONTRASTS = tuple(INTENSITIES)


def clean(patient) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Brightness without bias and noise, and labels."""
    values, labels = paint(
        patient.head, patient.labels.affine, patient.labels.array.shape, CONTRASTS
    )
    return dict(zip(CONTRASTS, values, strict=True)), labels


def head_points(patient) -> np.ndarray:
    """Position of every voxel in the coordinates of the head, (3, D, H, W)."""
    affine, pose, shape = patient.labels.affine, patient.head.pose, patient.labels.array.shape
    world = np.einsum("ij,j...->i...", affine[:3, :3], np.indices(shape)) + affine[:3, 3].reshape(
        3, 1, 1, 1
    )
    return np.einsum("ij,i...->j...", pose[:, :3], world - pose[:, 3].reshape(3, 1, 1, 1))
