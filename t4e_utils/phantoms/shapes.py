"""Shapes of phantoms as continuous functions of position.

Points are `(3, N)` mm, shapes signed distances `(N,)` in mm, negative inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np


class Waves(NamedTuple):
    """A smooth random function of position, mean 0, variance 1: cosines in random directions."""

    vectors: np.ndarray  # (K, 3), radians per mm
    phases: np.ndarray  # (K,)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Evaluate at points `(3, N)` mm; gives `(N,)`."""
        total = np.zeros(points.shape[1], np.float32)
        for (kx, ky, kz), phase in zip(self.vectors, self.phases, strict=True):
            total += np.cos(kx * points[0] + ky * points[1] + kz * points[2] + phase)
        return total * np.float32(np.sqrt(2 / len(self.phases)))


def make_waves(rng: np.random.Generator, wavelength_mm: float, *, n: int = 24) -> Waves:
    """Draw `n` waves with wavelengths within 15% of `wavelength_mm`."""
    vectors = rng.normal(size=(n, 3))
    vectors *= (
        2 * np.pi / wavelength_mm * rng.uniform(0.85, 1.15, n) / np.linalg.norm(vectors, axis=1)
    )[:, None]
    return Waves(vectors.astype(np.float32), rng.uniform(0, 2 * np.pi, n).astype(np.float32))


def rotation(degrees: Sequence[float]) -> np.ndarray:
    """Return the matrix (3, 3) that rotates about x, then y, then z."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    return np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]]) @ about_y @ about_x


def ellipsoid(points: np.ndarray, centre: Sequence[float], radii: Sequence) -> np.ndarray:
    """Return the distance to an ellipsoid, first order (I. Quilez, "ellipsoid SDF")."""
    scaled = [(points[i] - np.float32(centre[i])) / radii[i] for i in range(3)]
    norm = np.sqrt(sum(q * q for q in scaled)) + 1e-6
    slope = np.sqrt(sum((q / r) ** 2 for q, r in zip(scaled, radii, strict=True))) + 1e-6
    return norm * (norm - 1) / slope


def tube(points: np.ndarray, nodes: Sequence[Sequence[float]]) -> np.ndarray:
    """Return the distance to a chain of cones with nodes x, y, z, radius in mm."""
    distance = np.full(points.shape[1], np.inf, np.float32)
    for start, stop in pairwise(nodes):
        a, ab = np.float32(start), np.float32(stop) - np.float32(start)
        along = np.clip(sum((points[i] - a[i]) * ab[i] for i in range(3)) / (ab[:3] @ ab[:3]), 0, 1)
        gap = np.sqrt(sum((points[i] - a[i] - along * ab[i]) ** 2 for i in range(3)))
        np.minimum(distance, gap - a[3] - along * ab[3], out=distance)
    return distance


def coverage(distance: np.ndarray, soft_mm: float) -> np.ndarray:
    """Return the share of a voxel inside a shape, a ramp of `soft_mm` to either side of the border.

    >>> coverage(np.array([-3.0, 0.0, 0.5]), 1.0).tolist()
    [1.0, 0.5, 0.25]
    """
    return np.clip(0.5 - distance / (2 * soft_mm), 0, 1)
