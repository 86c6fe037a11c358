"""The anatomy of a head with a tumour, as continuous functions of position.

A `Head` is a few hundred seeded numbers: where the tumour sits, how the cortex folds, how wide each
ventricle is. Nothing in it knows of voxels: two series of one patient, in different planes and
matrix sizes, show the same anatomy (`head_painting`). Points are `(3, N)` mm, x to the right, y to
the front, z up; shapes are signed distances in mm, negative inside. Right and left, front and back,
top and bottom all differ, so that a swapped or flipped axis is seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from t4e_utils.phantoms.shapes import Waves, ellipsoid, make_waves, rotation, tube

# Relative brightness, white matter = 1.
INTENSITIES = {
    "FLAIR": dict(white=1.0, grey=1.2, fluid=0.30, oedema=2.10, rim=1.50, core=0.75, vessel=0.60),
    "T1w": dict(white=1.0, grey=0.86, fluid=0.30, oedema=0.50, rim=0.64, core=0.36, vessel=0.60),
    "T1wCE": dict(white=1.0, grey=0.88, fluid=0.30, oedema=0.48, rim=1.55, core=0.36, vessel=1.40),
    "T2w": dict(white=1.0, grey=1.2, fluid=2.80, oedema=2.05, rim=1.30, core=2.50, vessel=0.50),
}
GRAIN_CONTRAST = 0.2  # standard deviation of the oedema texture, share of its mean
GRAIN_MM = {0: 8.5, 1: 21.0}  # wavelength of the oedema texture
RIM_MM = {0: 4.5, 1: 9.5}  # thickness of the enhancing rim
TUMOUR_ML = (100.0, 200.0)  # whole tumour
CORE_SHARE = 0.32  # rim and necrosis together, share of the whole tumour's volume
RIM_SHARE = 0.68  # of rim and necrosis: the share at which no brightness has to be compensated
LOBES_MM = {
    "frontal": (30, 36, 16),
    "parietal": (32, -26, 28),
    "temporal": (38, 2, -12),
    "occipital": (27, -48, 10),
}
# Chains of x, y, z, radius; x is the distance from the midline.
VENTRICLE_MM = (
    (9, 34, 3, 2.6),
    (8, 20, 11, 4.4),
    (12, -10, 19, 4.4),
    (24, -36, 10, 6.2),
    (25, -58, 4, 2.6),
)
TEMPORAL_HORN_MM = ((24, -36, 10, 4.5), (35, -12, -15, 2.2))
THIRD_VENTRICLE_MM = ((0, 6, -3, 2.6), (0, -18, 2, 2.6))
STEM_MM = ((0, -14, -14, 15), (0, -21, -36, 13), (0, -26, -62, 8))
FOLD_MM = 24.0  # wavelength of the folds; sulci lie half of it apart
LATTICE_MM = 3.5  # on which volumes and means of the tumour are measured


@dataclass(frozen=True, eq=False)
class Appearance:
    """What phantoms of one kind have in common, however their anatomy is drawn."""

    # contrast -> tissue -> brightness
    intensities: Mapping[str, Mapping[str, float]] = field(default_factory=lambda: INTENSITIES)
    grain_contrast: float = GRAIN_CONTRAST
    core_share: float = CORE_SHARE
    rim_size: float = 1.0  # thickness, share of the usual one
    ventricle_size: float = 1.0  # radius, likewise


@dataclass(frozen=True, eq=False)
class Tumour:
    """An off-centre tumour with lumpy radii; `_fit_tumour` sets what has a default."""

    centre_mm: np.ndarray  # (3,) of the rim
    offset_mm: np.ndarray  # (3,) from there to the centre of the oedema
    lumps: Waves  # of the direction from the centre
    grain: Waves  # of the position, in the oedema
    brightness: dict[str, np.ndarray]  # contrast -> factors of oedema, rim and core
    oedema_mm: float = 0.0
    rim_mm: float = 0.0
    core_mm: float = 0.0
    rim_share: float = RIM_SHARE  # of rim and necrosis together
    grain_mean: float = 0.0
    grain_std: float = 1.0


@dataclass(frozen=True, eq=False)
class Head:
    """Everything that is drawn of one patient."""

    scale: np.ndarray  # (3,) size of this brain over the standard one
    pose: np.ndarray  # (3, 4) rotation and shift, head mm -> world mm
    folds: Waves
    clouds: Waves
    ventricle_size: tuple[float, float]  # right, left
    tumour: Tumour
    appearance: Appearance


def make_head(
    seed: int,
    phenotype: int,
    *,
    tumour_ml: float | None = None,
    appearance: Appearance | None = None,
) -> Head:
    """Draw the numbers of a head.

    Args:
        seed: decides everything but the phenotype: shape, place and size of the tumour, folds.
        phenotype: 1 has a coarse oedema texture and a thick rim, 0 a fine one and a thin rim, at
            equal volume and mean brightness.
        tumour_ml: volume of the whole tumour; None draws one from `TUMOUR_ML`.
        appearance: brightness and proportions; None is that of the phantom data set.
    """
    appearance = appearance or Appearance()
    rng = np.random.default_rng([seed, 1])
    volume_ml = tumour_ml if tumour_ml is not None else rng.uniform(*TUMOUR_ML)
    x, y, z = LOBES_MM[rng.choice(list(LOBES_MM))]
    centre = np.array([x * rng.choice([-1, 1]), y, z]) + rng.uniform(-5, 5, 3)
    scale = rng.uniform(0.97, 1.03, 3)
    tumour = Tumour(
        centre_mm=(centre * scale).astype(np.float32),
        offset_mm=rng.uniform(-6, 6, 3).astype(np.float32),
        lumps=make_waves(rng, 1.4, n=12),
        grain=make_waves(rng, GRAIN_MM[phenotype], n=40),
        brightness={
            contrast: rng.uniform(0.93, 1.07, 3).astype(np.float32) for contrast in INTENSITIES
        },
    )
    right, left = rng.uniform(0.75, 0.95), rng.uniform(1.1, 1.35)
    ventricles = (right * appearance.ventricle_size, left * appearance.ventricle_size)
    folds, clouds = make_waves(rng, FOLD_MM), make_waves(rng, 45.0, n=10)
    pose = np.hstack([rotation(rng.uniform(-4, 4, 3)), rng.uniform(-3, 3, (3, 1))]).astype(
        np.float32
    )
    head = Head(scale.astype(np.float32), pose, folds, clouds, ventricles, tumour, appearance)
    return replace(
        head,
        tumour=_fit_tumour(
            head, volume_ml, appearance.rim_size * RIM_MM[phenotype] * rng.uniform(0.9, 1.1)
        ),
    )


def _fit_tumour(head: Head, volume_ml: float, rim_mm: float) -> Tumour:
    """Return the tumour with the radii that give the wanted volumes inside this brain.

    Sorting the distances of a lattice of points makes volumes equal whatever the place: the k-th
    smallest is the radius that holds k points. What has to be compensated is measured there too.
    """
    axis = np.arange(-84, 84, LATTICE_MM, dtype=np.float32)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij")).reshape(3, -1)
    points = points[:, np.linalg.norm(points - head.tumour.centre_mm[:, None], axis=0) < 64]
    points = points[:, brain_distance(head, points)[0] < 0]
    outer, inner, nodes = tumour_distances(head, points)
    n_whole = min(round(volume_ml * 1000 / LATTICE_MM**3), points.shape[1] - 1)
    n_core = round(head.appearance.core_share * n_whole)
    edge_mm = np.partition(inner, n_core)[n_core]
    is_core = inner < edge_mm
    outer = np.where(
        is_core, -np.inf, np.where(ventricle_distance(head, points) > 0, outer, np.inf)
    )
    oedema_mm = np.partition(outer, n_whole)[n_whole]
    grain = head.tumour.grain(points[:, ~is_core & (outer < oedema_mm)])
    core_mm = max(float(edge_mm) - rim_mm, 2.0)
    rim_share = 1 - np.count_nonzero(inner + nodes < core_mm) / n_core
    radii = dict(
        oedema_mm=float(oedema_mm), rim_mm=float(edge_mm), core_mm=core_mm, rim_share=rim_share
    )
    return replace(
        head.tumour, **radii, grain_mean=float(grain.mean()), grain_std=float(grain.std())
    )


def brain_distance(head: Head, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return distances (N,) to the smooth brain, from cerebrum to cerebellum, and to the stem."""
    x, y, z = points / head.scale[:, None]
    forward = y / 84
    # narrow forehead, petalia: right frontal, left occipital
    width = 1 - 0.15 * forward + 0.035 * np.sign(x) * forward
    upper = np.where(z > -6, np.float32(68), 32 - 9 * np.abs(forward))  # domed above, flat below
    cerebrum = ellipsoid(np.stack([x / width, y, z]), (0, 0, -6), (68, 84, upper))
    side = np.stack([np.abs(x), y + 0.25 * z, z])
    temporal = ellipsoid(side, (43, 2, -26), (21, 37, 21))
    cerebellum = ellipsoid(np.stack([x, y - 0.3 * (z + 35), z]), (0, -46, -35), (51, 33, 24))
    stem = tube(np.stack([x, y, z]), STEM_MM)
    return (
        np.minimum(np.minimum(cerebrum, temporal), np.minimum(cerebellum, stem)),
        cerebellum - cerebrum,
        stem,
    )


def pushed_aside(head: Head, points: np.ndarray) -> np.ndarray:
    """Return standard coordinates (3, N) of deep structures, which the tumour pushes aside."""
    away = points - head.tumour.centre_mm[:, None]
    push = 7 * np.sign(head.tumour.centre_mm[0]) * np.exp(-(away**2).sum(0) / (2 * 38**2))
    pushed = points / head.scale[:, None]
    pushed[0] += push
    return pushed


def ventricle_distance(head: Head, points: np.ndarray) -> np.ndarray:
    """Return the distance (N,) to the ventricles, the left ones wider than the right ones."""
    pushed = pushed_aside(head, points)
    size = np.where(pushed[0] > 0, *np.float32(head.ventricle_size))
    side = np.stack([np.abs(pushed[0]), pushed[1], pushed[2]])
    lateral = np.minimum(tube(side, VENTRICLE_MM), tube(side, TEMPORAL_HORN_MM)) - 3.5 * (size - 1)
    third = tube(pushed * np.float32([[1.6], [1], [1]]), THIRD_VENTRICLE_MM)
    fourth = ellipsoid(pushed, (0, -36, -38), (6, 5, 10))
    return np.minimum(np.minimum(lateral, third), fourth)


def tumour_distances(head: Head, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return lumpy distances (N,) from the centres of oedema and rim, and the nodes of the rim."""
    tumour, distances = head.tumour, []
    for centre in (tumour.centre_mm + tumour.offset_mm, tumour.centre_mm):
        away = points - centre[:, None]
        radius = np.sqrt((away**2).sum(0)) + 1e-3
        distances.append(radius * (1 + 0.1 * np.clip(tumour.lumps(away / radius), -2, 2)))
    return distances[0], distances[1], 0.8 * head.folds(points)
