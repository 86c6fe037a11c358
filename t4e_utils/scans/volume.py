"""A scan in memory.

Arrays are `(D, H, W)` = (slice, row, column), spacing in mm in the same order, affines map an index
to RAS mm. Every reader returns the display orientation of a plane (see `geometry`), so that slices
of any source look alike. What is odd about a scan is in `meta["problems"]`; what makes a scan
useless is a `VolumeError` with a code (see `problems`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from t4e_utils.scans.geometry import display_axes, plane_of, reorient, spacing_of

SPACING_KEYS = ("spacing_slice_mm", "spacing_row_mm", "spacing_column_mm")


@dataclass(frozen=True, eq=False)
class Volume:
    """A scan in memory: values and where they lie."""

    array: np.ndarray  # (D, H, W)
    spacing_mm: tuple[float, float, float]  # between slices, rows, columns
    affine: np.ndarray  # 4x4, (slice, row, column, 1) to RAS mm
    # facts about the source; never who the patient is
    meta: Mapping[str, Any] = field(default_factory=dict)

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
