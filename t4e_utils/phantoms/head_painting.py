"""A head phantom on any grid: its functions, evaluated at the place of every voxel.

Grids are `(D, H, W)` with an affine to RAS mm; points of the head are `(3, N)` mm. Brightness is
relative to white matter = 1, float32, painted tissue over tissue.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from t4e_utils.phantoms.head import (
    FOLD_MM,
    RIM_SHARE,
    Head,
    brain_distance,
    pushed_aside,
    tumour_distances,
    ventricle_distance,
)
from t4e_utils.phantoms.shapes import coverage, ellipsoid, tube

# Chain of x, y, z, radius of the superior sagittal sinus.
SINUS_MM = ((1, 52, 52, 1), (1, 0, 60, 2), (2, -60, 40, 3.2), (3, -82, 0, 4))
# Centre and radii of caudate, lentiform nucleus and thalamus.
NUCLEI_MM = (((17, 16, 9), (5, 13, 9)), ((27, 2, 1), (7, 16, 10)), ((11, -14, 6), (9, 13, 9)))
CORTEX_MM = 3.6


def paint(
    head: Head, affine: np.ndarray, shape: tuple[int, int, int], contrasts: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Paint a head on a grid.

    Args:
        head: what to paint.
        affine: (4, 4), index (slice, row, column, 1) to world RAS mm.
        shape: of the grid, (D, H, W).
        contrasts: names out of `INTENSITIES`.

    Returns:
        Brightness (C, D, H, W) float32, white matter about 1, exactly 0 outside the brain; labels
        (D, H, W) uint8 (0, 1, 2, 4).
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
    """Return where voxels lie in the head, (3, N) float32 mm.

    Args:
        head: with its pose in the world.
        affine: (4, 4), index (slice, row, column, 1) to world RAS mm.
        part: slices of the grid, with start and stop.
        matrix: rows and columns of the grid, (H, W).
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


def _nuclei_distance(pushed: np.ndarray) -> np.ndarray:
    """Return the distance to the deep grey matter of both sides."""
    side = np.stack([np.abs(pushed[0]), pushed[1], pushed[2]])
    return np.minimum.reduce([ellipsoid(side, centre, radii) for centre, radii in NUCLEI_MM])


def _folia(head: Head, points: np.ndarray, pushed: np.ndarray) -> np.ndarray:
    """Return the share of grey matter in the cerebellum.

    Leaves of a tree whose white trunk stands at the fourth ventricle.
    """
    up, back = pushed[2] + 34, -pushed[1]
    leaves = 0.5 + 0.5 * np.cos(19 * np.arctan2(up, back - 16) + 1.2 * head.clouds(points))
    return leaves * coverage(12 - np.hypot(up, back - 24), 6)


def _sulcus_distance(
    head: Head, points: np.ndarray, pushed: np.ndarray, depth: np.ndarray
) -> np.ndarray:
    """Return the distance to the nearest fold.

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


def _healthy_layers(head: Head, points: np.ndarray, soft_mm: float) -> tuple[np.ndarray, list]:
    """Return what is inside the brain (N,), and tissues with their cover of white matter."""
    outer, to_cerebellum, stem = brain_distance(head, points)
    pushed, depth = pushed_aside(head, points), np.maximum(-outer, 0)
    is_hindbrain = (to_cerebellum < 0) | (stem < 0)
    fold = np.where(is_hindbrain, 9, _sulcus_distance(head, points, pushed, depth))
    inside = outer + 2.2 * np.clip(1 - fold / 3, 0, 1) < 0  # the surface dips where it folds
    grey = coverage(np.minimum(fold - 1, depth) - CORTEX_MM, soft_mm)
    grey = np.where(
        is_hindbrain, 0.15, np.maximum(grey, 0.9 * coverage(_nuclei_distance(pushed), soft_mm))
    )
    grey = np.where((to_cerebellum < 0) & (stem > 0), _folia(head, points, pushed), grey)
    tentorium = np.where(stem > 0, np.abs(to_cerebellum), 9)
    cisterns = np.minimum(tentorium, np.abs(stem - 1) + np.maximum(pushed[2] + 18, 0))
    gaps = np.minimum(fold - 0.9, np.where(pushed[2] < -6, cisterns - 1.3, 9))
    sinus = coverage(tube(pushed, SINUS_MM), soft_mm)
    return inside, [("grey", grey), ("fluid", 0.45 * coverage(gaps, soft_mm)), ("vessel", sinus)]


def _tumour_layers(head: Head, points: np.ndarray, soft_mm: float) -> tuple[list, np.ndarray]:
    """Return tissues with their cover, painted last, and labels (N,).

    Oedema stops at the ventricles, the rim does not.
    """
    tumour, ventricle = head.tumour, ventricle_distance(head, points)
    outer, inner, nodes = tumour_distances(head, points)
    rim, core = (
        inner - tumour.rim_mm,
        np.maximum(inner - tumour.rim_mm, inner + nodes - tumour.core_mm),
    )
    oedema = np.maximum(outer - tumour.oedema_mm, -ventricle)
    labels = np.where(core < 0, 1, np.where(rim < 0, 4, np.where(oedema < 0, 2, 0))).astype(
        np.uint8
    )
    covers = {"oedema": outer - tumour.oedema_mm, "fluid": ventricle, "rim": rim, "core": core}
    return [(tissue, coverage(distance, soft_mm)) for tissue, distance in covers.items()], labels


def _colour(head: Head, contrast: str, tissue: str, points: np.ndarray) -> np.ndarray | float:
    """Return the brightness of a tissue; that of a tumour so that its mean tells no phenotype."""
    table, tumour = head.appearance.intensities[contrast], head.tumour
    oedema, rim, core = tumour.brightness[contrast] * [table["oedema"], table["rim"], table["core"]]
    if tissue == "oedema":
        grain = np.clip((tumour.grain(points) - tumour.grain_mean) / tumour.grain_std, -2, 2)
        return oedema * (1 + np.sign(table["oedema"] - 1) * head.appearance.grain_contrast * grain)
    usual, found = (share * rim + (1 - share) * core for share in (RIM_SHARE, tumour.rim_share))
    return {"rim": rim * usual / found, "core": core * usual / found}.get(tissue, table.get(tissue))
