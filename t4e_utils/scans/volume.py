"""A scan in memory.

Arrays are `(D, H, W)` = (slice, row, column), spacing in mm in the same order, affines map an index
to RAS mm. Every reader returns the display orientation of a plane (see `geometry`), so that slices
of any source look alike. What is odd about a scan is in `meta["problems"]`; what makes a scan
useless is a `VolumeError` with a code (see `problems`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from t4e_utils.scans.geometry import (
    ROUNDING_VOXELS,
    display_axes,
    plane_of,
    reorient,
    spacing_of,
    voxels_apart,
)
from t4e_utils.scans.problems import Problem, VolumeError

SPACING_KEYS = ("spacing_slice_mm", "spacing_row_mm", "spacing_column_mm")


@dataclass(frozen=True, eq=False)
class Volume:
    """A scan in memory: values and where they lie."""

    array: np.ndarray  # (D, H, W)
    spacing_mm: tuple[float, float, float]  # between slices, rows, columns
    affine: np.ndarray  # 4x4, (slice, row, column, 1) to RAS mm
    # facts about the source; never who the patient is
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return the values where numpy is given the volume itself."""
        return np.array(self.array, dtype, copy=copy)

    @property
    def plane(self) -> str:
        """Return the plane of the slices."""
        return plane_of(self.affine)

    def to_plane(self, plane: str) -> Volume:
        """Return the volume cut in `plane`, as a view in the display of that plane.

        Nothing is resampled.
        """
        array, affine = reorient(self.array, self.affine, plane)
        meta = {**self.meta, "plane": plane} if "plane" in self.meta else self.meta
        return Volume(array, spacing_of(affine), affine, meta)


def in_display(
    array: np.ndarray, affine: np.ndarray, plane: str, meta: Mapping[str, Any]
) -> Volume:
    """Return an array and its affine as a volume in the display of `plane`, in memory in order."""
    array, affine = reorient(array, affine, plane)
    return Volume(np.ascontiguousarray(array), spacing_of(affine), affine, {"plane": plane, **meta})


def empty_for_display(
    shape: tuple[int, int, int], dtype: np.dtype, affine: np.ndarray, plane: str
) -> np.ndarray:
    """Return an array to be filled, of which `in_display` need not make a copy in order.

    If columns become columns. Otherwise it is an array like any other: to be filled across its
    order would take longer than the copy.

    Args:
        shape: of the array as it is filled.
        dtype: of its values.
        affine: of its index, to RAS mm.
        plane: of the display.
    """
    axes, flips = display_axes(affine, plane)
    if axes[2] != 2:
        return np.empty(shape, dtype)
    shown = np.empty([shape[axis] for axis in axes], dtype)
    turned = shown[tuple(slice(None, None, -1) if flip else slice(None) for flip in flips)]
    return turned.transpose(np.argsort(axes))


class Grid(NamedTuple):
    """Where the voxels of a volume lie."""

    shape: tuple[int, int, int]
    affine: Any  # 4x4, (slice, row, column) index to RAS mm; None where it is not known

    def problem(self, path: str, other: Grid, what: str) -> Problem | None:
        """Return why this grid, of the scan at a path, is not the other one; None if it is.

        The places of the corners are compared, not the numbers of the affines: volumes that are
        stored in other orders of their axes lie at one place when both are in display.

        Args:
            path: of the scan.
            other: the grid on which it must lie.
            what: whose grid that is, such as "segmentation".
        """
        if tuple(self.shape) != tuple(other.shape):
            said = f"The shape is {tuple(self.shape)}, that of its {what} {tuple(other.shape)}"
            return Problem("shape_differs", path, f"{said}: they must be on one grid.")
        if self.affine is None or other.affine is None:
            return None
        apart = voxels_apart(self.affine, other.affine, self.shape)
        if apart <= ROUNDING_VOXELS:
            return None
        said = f"The scan lies up to {apart:.3g} voxels from the place of its {what}"
        return Problem("place_differs", path, f"{said}: correct the affine that is wrong.")


def require_same_grid(
    volume: Volume, other: Volume, path: str, *, what: str = "segmentation"
) -> None:
    """Refuse a volume whose voxels do not lie where those of another lie.

    Args:
        volume: a scan in display.
        other: what belongs to it voxel by voxel, in the same display.
        path: of the scan.
        what: the other one is.

    Raises:
        VolumeError: the shapes differ, or the places by more than rounding.
    """
    grid, expected = (Grid(each.array.shape, each.affine) for each in (volume, other))
    if problem := grid.problem(path, expected, what):
        raise VolumeError(*problem)


def off_grid(
    problems: Sequence[Problem], n_scans: int, path: str, *, what: str = "segmentation"
) -> list[Problem]:
    """Return the problems of scans that do not lie where what belongs to them lies.

    One problem of that alone, if none of several scans does.

    Args:
        problems: of the scans that do not.
        n_scans: how many were compared.
        path: of what belongs to them.
        what: that is.
    """
    if len(problems) < n_scans or n_scans < 2 or {p.code for p in problems} != {"place_differs"}:
        return list(problems)
    said = f"None of the {n_scans} scans lies at the place of the {what}"
    sentence = f"{said} (such as {problems[0].path}): correct the affine of the {what}."
    return [Problem("place_differs", path, sentence)]
