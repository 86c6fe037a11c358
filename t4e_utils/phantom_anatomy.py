"""A head phantom as continuous functions of position, painted on any grid.

A `Head` is a few hundred seeded numbers: where the tumour sits, how the cortex folds, how wide each
ventricle is. Nothing in it knows of voxels: `paint` evaluates it at the world position (RAS, mm) of
every voxel of a grid `(D, H, W)`, so that two series of one patient, in different planes and matrix
sizes, show the same anatomy. Shapes are signed distances in mm, negative inside. Intensities are
relative to white matter = 1, float32. Right and left, front and back, top and bottom all differ, so
that a swapped or flipped axis is seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

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
# the superior sagittal one
SINUS_MM = ((1, 52, 52, 1), (1, 0, 60, 2), (2, -60, 40, 3.2), (3, -82, 0, 4))
# Centre and radii of caudate, lentiform nucleus and thalamus.
NUCLEI_MM = (((17, 16, 9), (5, 13, 9)), ((27, 2, 1), (7, 16, 10)), ((11, -14, 6), (9, 13, 9)))
CORTEX_MM = 3.6
FOLD_MM = 24.0  # wavelength of the folds; sulci lie half of it apart
LATTICE_MM = 3.5  # on which volumes and means of the tumour are measured


class Waves(NamedTuple):
    """A smooth random function of position: cosines of one wavelength in random directions.

    Mean 0, variance 1.
    """

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


@dataclass(frozen=True, eq=False)
class Look:
    """What phantoms of one kind have in common, however their anatomy is drawn."""

    # contrast -> tissue -> brightness
    intensities: Mapping[str, Mapping[str, float]] = field(default_factory=lambda: INTENSITIES)
    grain_contrast: float = GRAIN_CONTRAST
    core_share: float = CORE_SHARE
    rim_size: float = 1.0  # thickness, share of the usual one
    ventricle_size: float = 1.0  # radius, likewise


@dataclass(frozen=True, eq=False)
class Tumour:
    """An off-centre tumour; its radii are lumpy distances in mm.

    `_fit_tumour` sets what has a default.
    """

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
    look: Look


def make_head(
    seed: int, phenotype: int, *, tumour_ml: float | None = None, look: Look | None = None
) -> Head:
    """Draw the numbers of a head.

    Args:
        seed: Decides everything but the phenotype: shape, place and size of the tumour, folds.
        phenotype: 1 has a coarse oedema texture and a thick rim, 0 a fine one and a thin rim, at
            equal volume and mean brightness.
        tumour_ml: Volume of the whole tumour; None draws one from `TUMOUR_ML`.
        look: Brightness and proportions; None is that of the phantom data set.
    """
    look = look or Look()
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
    ventricles = (right * look.ventricle_size, left * look.ventricle_size)
    folds, clouds = make_waves(rng, FOLD_MM), make_waves(rng, 45.0, n=10)
    pose = np.hstack([_rotation(rng.uniform(-4, 4, 3)), rng.uniform(-3, 3, (3, 1))]).astype(
        np.float32
    )
    head = Head(scale.astype(np.float32), pose, folds, clouds, ventricles, tumour, look)
    return replace(
        head,
        tumour=_fit_tumour(
            head, volume_ml, look.rim_size * RIM_MM[phenotype] * rng.uniform(0.9, 1.1)
        ),
    )


def _rotation(degrees: Sequence[float]) -> np.ndarray:
    """Rotation about x, then y, then z."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    return np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]]) @ about_y @ about_x


def _fit_tumour(head: Head, volume_ml: float, rim_mm: float) -> Tumour:
    """Choose the radii that give the wanted volumes inside this brain, and measure what has to be
    compensated.

    Sorting the distances of a lattice of points makes volumes equal whatever the place: the k-th
    smallest is the radius that holds k points.
    """
    axis = np.arange(-84, 84, LATTICE_MM, dtype=np.float32)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij")).reshape(3, -1)
    points = points[:, np.linalg.norm(points - head.tumour.centre_mm[:, None], axis=0) < 64]
    points = points[:, brain_distance(head, points)[0] < 0]
    outer, inner, nodes = _tumour_distances(head, points)
    n_whole = min(round(volume_ml * 1000 / LATTICE_MM**3), points.shape[1] - 1)
    n_core = round(head.look.core_share * n_whole)
    edge_mm = np.partition(inner, n_core)[n_core]
    is_core = inner < edge_mm
    outer = np.where(
        is_core, -np.inf, np.where(_ventricle_distance(head, points) > 0, outer, np.inf)
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


# Shapes ------------------------------------------------------------


def _ellipsoid(points: np.ndarray, centre: Sequence[float], radii: Sequence) -> np.ndarray:
    """Signed distance to an ellipsoid, first order (I. Quilez, "ellipsoid SDF")."""
    scaled = [(points[i] - np.float32(centre[i])) / radii[i] for i in range(3)]
    norm = np.sqrt(sum(q * q for q in scaled)) + 1e-6
    slope = np.sqrt(sum((q / r) ** 2 for q, r in zip(scaled, radii, strict=True))) + 1e-6
    return norm * (norm - 1) / slope


def _tube(points: np.ndarray, nodes: Sequence[Sequence[float]]) -> np.ndarray:
    """Signed distance to a chain of cones with nodes x, y, z, radius (mm)."""
    distance = np.full(points.shape[1], np.inf, np.float32)
    for start, stop in pairwise(nodes):
        a, ab = np.float32(start), np.float32(stop) - np.float32(start)
        along = np.clip(sum((points[i] - a[i]) * ab[i] for i in range(3)) / (ab[:3] @ ab[:3]), 0, 1)
        gap = np.sqrt(sum((points[i] - a[i] - along * ab[i]) ** 2 for i in range(3)))
        np.minimum(distance, gap - a[3] - along * ab[3], out=distance)
    return distance


def _cover(distance: np.ndarray, soft_mm: float) -> np.ndarray:
    """Share of a voxel inside a shape.

    1 inside, 0 outside, a ramp of `soft_mm` to either side of the border.
    """
    return np.clip(0.5 - distance / (2 * soft_mm), 0, 1)


def brain_distance(head: Head, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return distances (N,) in mm of points (3, N) to the smooth brain, from cerebrum to
    cerebellum, and to the brain stem.
    """
    x, y, z = points / head.scale[:, None]
    forward = y / 84
    # narrow forehead, petalia: right frontal, left occipital
    width = 1 - 0.15 * forward + 0.035 * np.sign(x) * forward
    upper = np.where(z > -6, np.float32(68), 32 - 9 * np.abs(forward))  # domed above, flat below
    cerebrum = _ellipsoid(np.stack([x / width, y, z]), (0, 0, -6), (68, 84, upper))
    side = np.stack([np.abs(x), y + 0.25 * z, z])
    temporal = _ellipsoid(side, (43, 2, -26), (21, 37, 21))
    cerebellum = _ellipsoid(np.stack([x, y - 0.3 * (z + 35), z]), (0, -46, -35), (51, 33, 24))
    stem = _tube(np.stack([x, y, z]), STEM_MM)
    return (
        np.minimum(np.minimum(cerebrum, temporal), np.minimum(cerebellum, stem)),
        cerebellum - cerebrum,
        stem,
    )


def _pushed(head: Head, points: np.ndarray) -> np.ndarray:
    """Standard coordinates of deep structures `(3, N)`.

    Scaled, and pushed aside by the tumour (its mass effect).
    """
    away = points - head.tumour.centre_mm[:, None]
    push = 7 * np.sign(head.tumour.centre_mm[0]) * np.exp(-(away**2).sum(0) / (2 * 38**2))
    pushed = points / head.scale[:, None]
    pushed[0] += push
    return pushed


def _ventricle_distance(head: Head, points: np.ndarray) -> np.ndarray:
    """Distance to the ventricles, the left pair wider than the right one."""
    pushed = _pushed(head, points)
    size = np.where(pushed[0] > 0, *np.float32(head.ventricle_size))
    side = np.stack([np.abs(pushed[0]), pushed[1], pushed[2]])
    lateral = np.minimum(_tube(side, VENTRICLE_MM), _tube(side, TEMPORAL_HORN_MM)) - 3.5 * (
        size - 1
    )
    third = _tube(pushed * np.float32([[1.6], [1], [1]]), THIRD_VENTRICLE_MM)
    fourth = _ellipsoid(pushed, (0, -36, -38), (6, 5, 10))
    return np.minimum(np.minimum(lateral, third), fourth)


def _nuclei_distance(pushed: np.ndarray) -> np.ndarray:
    """Distance to the deep grey matter of both sides."""
    side = np.stack([np.abs(pushed[0]), pushed[1], pushed[2]])
    return np.minimum.reduce([_ellipsoid(side, centre, radii) for centre, radii in NUCLEI_MM])


def _folia(head: Head, points: np.ndarray, pushed: np.ndarray) -> np.ndarray:
    """Share of grey matter in the cerebellum.

    Leaves of a tree whose white trunk stands at the fourth ventricle.
    """
    up, back = pushed[2] + 34, -pushed[1]
    leaves = 0.5 + 0.5 * np.cos(19 * np.arctan2(up, back - 16) + 1.2 * head.clouds(points))
    return leaves * _cover(12 - np.hypot(up, back - 24), 6)


def _tumour_distances(head: Head, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lumpy distances in mm from the centres of the oedema and of the rim, and the rim's nodes.

    Where it is thicker.
    """
    tumour, distances = head.tumour, []
    for centre in (tumour.centre_mm + tumour.offset_mm, tumour.centre_mm):
        away = points - centre[:, None]
        radius = np.sqrt((away**2).sum(0)) + 1e-3
        distances.append(radius * (1 + 0.1 * np.clip(tumour.lumps(away / radius), -2, 2)))
    return distances[0], distances[1], 0.8 * head.folds(points)


def _sulcus_distance(
    head: Head, points: np.ndarray, pushed: np.ndarray, depth: np.ndarray
) -> np.ndarray:
    """Distance to the nearest fold.

    Sulci, the fissure between the hemispheres and the Sylvian fissures.
    """
    x, y, z = pushed
    radius = np.sqrt((points**2).sum(0)) + 1e-3
    bend = head.clouds(points)  # folds are neither straight nor of one depth
    direction = points * ((62 + 5 * bend) / radius + 0.15)
    sulci = np.abs(head.folds(direction)) * radius / 62 * FOLD_MM / 5.1 + 2 * np.maximum(
        depth - 13 - 4 * bend, 0
    )
    callosum = 1 - np.sqrt((y / 48) ** 2 + ((z - 1) / 25) ** 2)
    fissure = np.abs(x + 1.5 * np.sin(y / 17)) + 60 * np.maximum(callosum, 0)
    sylvian = (
        np.abs(z + 3 + 0.35 * y + 4 * bend)
        + np.maximum(34 - np.abs(x), 0)
        + np.maximum(np.abs(y) - 26, 0)
    )
    return np.minimum(np.minimum(sulci, fissure), 0.8 * sylvian)


# Painting ----------------------------------------------------------


def _healthy_layers(head: Head, points: np.ndarray, soft_mm: float) -> tuple[np.ndarray, list]:
    """Inside-the-brain mask `(N,)` and what is painted over white matter, in order.

    Tissue and cover.
    """
    outer, to_cerebellum, stem = brain_distance(head, points)
    pushed, depth = _pushed(head, points), np.maximum(-outer, 0)
    is_hindbrain = (to_cerebellum < 0) | (stem < 0)
    fold = np.where(is_hindbrain, 9, _sulcus_distance(head, points, pushed, depth))
    inside = outer + 2.2 * np.clip(1 - fold / 3, 0, 1) < 0  # the surface dips where it folds
    grey = _cover(np.minimum(fold - 1, depth) - CORTEX_MM, soft_mm)
    grey = np.where(
        is_hindbrain, 0.15, np.maximum(grey, 0.9 * _cover(_nuclei_distance(pushed), soft_mm))
    )
    grey = np.where((to_cerebellum < 0) & (stem > 0), _folia(head, points, pushed), grey)
    tentorium = np.where(stem > 0, np.abs(to_cerebellum), 9)
    cisterns = np.minimum(tentorium, np.abs(stem - 1) + np.maximum(pushed[2] + 18, 0))
    gaps = np.minimum(fold - 0.9, np.where(pushed[2] < -6, cisterns - 1.3, 9))
    sinus = _cover(_tube(pushed, SINUS_MM), soft_mm)
    return inside, [("grey", grey), ("fluid", 0.45 * _cover(gaps, soft_mm)), ("vessel", sinus)]


def _tumour_layers(head: Head, points: np.ndarray, soft_mm: float) -> tuple[list, np.ndarray]:
    """What is painted last, in order, and labels `(N,)`.

    Oedema stops at the ventricles, the rim does not.
    """
    tumour, ventricle = head.tumour, _ventricle_distance(head, points)
    outer, inner, nodes = _tumour_distances(head, points)
    rim, core = (
        inner - tumour.rim_mm,
        np.maximum(inner - tumour.rim_mm, inner + nodes - tumour.core_mm),
    )
    oedema = np.maximum(outer - tumour.oedema_mm, -ventricle)
    labels = np.where(core < 0, 1, np.where(rim < 0, 4, np.where(oedema < 0, 2, 0))).astype(
        np.uint8
    )
    covers = {"oedema": outer - tumour.oedema_mm, "fluid": ventricle, "rim": rim, "core": core}
    return [(tissue, _cover(distance, soft_mm)) for tissue, distance in covers.items()], labels


def _colour(head: Head, contrast: str, tissue: str, points: np.ndarray) -> np.ndarray | float:
    """Brightness of a tissue at points.

    The tumour's own so that its mean does not tell the phenotype.
    """
    table, tumour = head.look.intensities[contrast], head.tumour
    oedema, rim, core = tumour.brightness[contrast] * [table["oedema"], table["rim"], table["core"]]
    if tissue == "oedema":
        grain = np.clip((tumour.grain(points) - tumour.grain_mean) / tumour.grain_std, -2, 2)
        return oedema * (1 + np.sign(table["oedema"] - 1) * head.look.grain_contrast * grain)
    usual, found = (share * rim + (1 - share) * core for share in (RIM_SHARE, tumour.rim_share))
    return {"rim": rim * usual / found, "core": core * usual / found}.get(tissue, table.get(tissue))


def paint(
    head: Head, affine: np.ndarray, shape: tuple[int, int, int], contrasts: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Paint a head on a grid.

    Args:
        head: What to paint.
        affine: (4, 4), index (slice, row, column, 1) to world RAS mm.
        shape: Of the grid, (D, H, W).
        contrasts: Names out of `INTENSITIES`.

    Returns:
        Brightness `(C, D, H, W)` float32, white matter about 1, exactly 0 outside the brain; labels
        `(D, H, W)` uint8 (0, 1, 2, 4).
    """
    values = np.zeros((len(contrasts), *shape), np.float32)
    labels = np.zeros(shape, np.uint8)
    # slices at once: memory stays bounded whatever the grid
    step = max(1, 2**17 // (shape[1] * shape[2]))
    for start in range(0, shape[0], step):
        part = slice(start, min(start + step, shape[0]))
        _paint_slices(head, affine, part, contrasts, values[:, part], labels[part])
    return values, labels


def points_of_slices(
    head: Head, affine: np.ndarray, part: slice, matrix: tuple[int, int]
) -> np.ndarray:
    """Return where the voxels of some slices of a grid lie in the head, (3, N) float32 mm.

    Matrix is (H, W).
    """
    index = np.meshgrid(
        np.arange(part.start, part.stop), *(np.arange(n) for n in matrix), indexing="ij"
    )
    to_head = head.pose[:, :3].T @ np.hstack([affine[:3, :3], affine[:3, 3:] - head.pose[:, 3:]])
    return (to_head[:, :3] @ np.stack(index).reshape(3, -1) + to_head[:, 3:]).astype(np.float32)


def _paint_slices(
    head: Head,
    affine: np.ndarray,
    part: slice,
    contrasts: Sequence[str],
    values: np.ndarray,
    labels: np.ndarray,
) -> None:
    """Paint some slices into `values` (C, d, H, W) and `labels` (d, H, W), in place."""
    points = points_of_slices(head, affine, part, labels.shape[1:])
    near = np.flatnonzero(brain_distance(head, points)[0] < 0)
    soft_mm = max(0.6, 0.3 * float(np.linalg.norm(affine[:3, 1])))
    inside, layers = _healthy_layers(head, points[:, near], soft_mm)
    near, points = near[inside], points[:, near[inside]]
    tumour_layers, labels.reshape(-1)[near] = _tumour_layers(head, points, soft_mm)
    # water spares grey matter
    tumour_layers[0] = ("oedema", tumour_layers[0][1] * (1 - 0.2 * layers[0][1][inside]))
    layers = [(tissue, cover[inside]) for tissue, cover in layers] + tumour_layers
    clouds = 1 + 0.03 * head.clouds(points)
    for contrast, out in zip(contrasts, values, strict=True):
        brightness = clouds.copy()
        for tissue, cover in layers:
            where = np.flatnonzero(cover)
            colour = _colour(head, contrast, tissue, points[:, where])
            brightness[where] += cover[where] * (colour - brightness[where])
        out.reshape(-1)[near] = brightness
