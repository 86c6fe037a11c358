"""Scans of one head phantom: annotated volumes as BraTS21 has them, and a hospital's series.

Volumes are `(D, H, W)` int16 or uint16, skull-stripped: background is exactly 0, the brain above 0.
Affines map to RAS mm.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from t4e_utils.phantoms.head import INTENSITIES, Appearance, Head, make_head
from t4e_utils.phantoms.head_painting import paint
from t4e_utils.scans.geometry import display_affine, spacing_of
from t4e_utils.scans.volume import Volume

FIELD_MM = 224.0  # longer side of the field of view; a brain fills about three quarters of it
CENTRE_MM = np.array([0.0, 0.0, -4.0])  # of the box around a head
NOISE = 0.035  # standard deviation, white matter = 1
# Chance of each plane among the series of a contrast; field of view (slices, rows, columns) in mm.
PLANE_SHARES = {
    "FLAIR": (0.7, 0.15, 0.15),
    "T1w": (0.4, 0.1, 0.5),
    "T1wCE": (0.5, 0.35, 0.15),
    "T2w": (0.7, 0.3, 0.0),
}
FIELDS_MM = {"axial": (152, 224, 224), "coronal": (184, 184, 184), "sagittal": (154, 224, 224)}
# the axis on which a matrix may be cut: heads are longer than wide or high
SHORT_SIDE = {"axial": 2, "sagittal": 1}


@dataclass(frozen=True, eq=False)
class Patient:
    """Contrasts and labels (0, 1, 2, 4) on one grid, and the head they were painted from."""

    contrasts: dict[str, Volume]
    labels: Volume
    head: Head


def make_patient(
    seed: int,
    label: int,
    *,
    size: int = 64,
    label_signal: float = 1.0,
    tumour_ml: float | None = None,
    appearance: Appearance | None = None,
) -> Patient:
    """Draw an annotated patient on one isotropic upright grid.

    Args:
        seed: of this patient; the anatomy depends on it.
        label: 1 methylated, 0 not.
        size: rows and columns; there are three quarters as many slices.
        label_signal: chance that the image shows the label, see `draw_phenotype`.
        tumour_ml: volume of the whole tumour; None draws one from `TUMOUR_ML`.
        appearance: brightness and proportions; None is that of the phantom data set.
    """
    shape = (round(0.75 * size), size, size)
    affine = display_affine("axial", (FIELD_MM / size,) * 3)
    # the first column at x = 0 and the last row at y = 0, as in BraTS
    affine[1, 3] = (size - 1) * FIELD_MM / size
    middle = affine[:3, :3] @ ((np.array(shape) - 1) / 2) + affine[:3, 3]
    head = replace(
        _head(seed, label, label_signal, tumour_ml, appearance),
        pose=np.column_stack([np.eye(3), middle - CENTRE_MM]),
    )
    values, labels = paint(head, affine, shape, list(INTENSITIES))
    rng = np.random.default_rng([seed, 3])
    volumes = (_volume(_acquire(brightness, rng).astype(np.int16), affine) for brightness in values)
    return Patient(dict(zip(INTENSITIES, volumes, strict=True)), _volume(labels, affine), head)


def make_series(
    seed: int,
    label: int,
    *,
    size: int = 64,
    label_signal: float = 1.0,
    tumour_ml: float | None = None,
) -> dict[str, Volume]:
    """Draw the four series of a patient, each with its own plane, tilt, matrix and spacing.

    The arguments are those of `make_patient`; the same ones give the same anatomy, here where the
    patient lay in the scanner. A series has 24 to 48 slices.
    """
    head = _head(seed, label, label_signal, tumour_ml)
    rng = np.random.default_rng([seed, 4])
    series = {}
    for contrast, shares in PLANE_SHARES.items():
        affine, shape = _draw_grid(head, str(rng.choice(list(FIELDS_MM), p=shares)), size, rng)
        values, _ = paint(head, affine, shape, [contrast])
        series[contrast] = _volume(_acquire(values[0], rng).astype(np.uint16), affine)
    return series


def draw_phenotype(seed: int, label: int, label_signal: float) -> int:
    """Draw what the image shows: the label with a chance of `label_signal`, else 0 or 1."""
    rng = np.random.default_rng([seed, 2])
    anything = int(rng.integers(2))
    return label if rng.random() < label_signal else anything


def _head(
    seed: int,
    label: int,
    label_signal: float,
    tumour_ml: float | None,
    appearance: Appearance | None = None,
) -> Head:
    return make_head(
        seed, draw_phenotype(seed, label, label_signal), tumour_ml=tumour_ml, appearance=appearance
    )


def _draw_grid(
    head: Head, plane: str, size: int, rng: np.random.Generator
) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Draw affine and shape of a series around the head."""
    field_mm = np.array(FIELDS_MM[plane]) * [1, *np.full(2, rng.uniform(0.98, 1.03))]
    pixel_mm = field_mm[1] / round(size * rng.uniform(0.9, 1.2))
    shape = np.array([rng.integers(24, 49), *np.round(field_mm[1:] / pixel_mm)], dtype=int)
    if plane in SHORT_SIDE:
        shape[SHORT_SIDE[plane]] = round(
            shape[SHORT_SIDE[plane]] * rng.choice([0.8125, 0.875, 1.0])
        )
    affine = display_affine(plane, (field_mm[0] / shape[0], pixel_mm, pixel_mm))
    tilt = np.deg2rad(rng.choice([0, rng.uniform(-12, 12)]) if plane == "axial" else 0)
    cos, sin = np.cos(tilt), np.sin(tilt)
    affine[:3, :3] = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]) @ affine[:3, :3]
    middle = head.pose[:, :3] @ CENTRE_MM + head.pose[:, 3]
    affine[:3, 3] = middle - affine[:3, :3] @ ((shape - 1) / 2)
    return affine, tuple(int(n) for n in shape)


def _acquire(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the scanner's share: gain, bias field, noise, whole numbers.

    The brain stays above 0, the background exactly 0.
    """
    axes = np.meshgrid(
        *(np.linspace(-1, 1, n, dtype=np.float32) for n in values.shape), indexing="ij", sparse=True
    )
    slopes, bends = rng.uniform(-0.1, 0.1, (2, 3)).astype(np.float32)
    bias = np.exp(sum(s * a + b * a * a for s, b, a in zip(slopes, bends, axes, strict=True)))
    noise = rng.standard_normal(values.shape, dtype=np.float32) * np.float32(NOISE)
    signal = np.float32(rng.uniform(350, 900)) * (values * bias + noise)
    return np.where(values > 0, np.maximum(np.rint(signal), 1), 0)


def _volume(array: np.ndarray, affine: np.ndarray) -> Volume:
    return Volume(array, spacing_of(affine), affine)
