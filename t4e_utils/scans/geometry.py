"""Where a volume lies in the patient: planes, the way up, spacing.

Arrays are `(D, H, W)` = (slice, row, column). An affine is 4x4 and maps the index `(slice, row,
column, 1)` to RAS millimetres: x grows to the patient's right, y to anterior, z to superior. This
module alone knows which axis of an array is which axis of the body.
"""

from __future__ import annotations

from itertools import permutations, product

import numpy as np

from t4e_utils import T4EError

LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
PLANES = ("axial", "coronal", "sagittal")
# the RAS axis that the slices of a plane follow
NORMAL_AXIS = {"sagittal": 0, "coronal": 1, "axial": 2}
LARGEST_MM = 1e9  # a larger number in an affine is not a length
LETTERS = ("RL", "AP", "SI")  # positive and negative end of each RAS axis
# Directions of growing (slice, row, column) index as series are drawn: right is image left, a face
# looks left.
DISPLAY = {"axial": "SPL", "coronal": "PIL", "sagittal": "LIP"}


class GeometryError(T4EError):
    """An affine does not describe a volume, or a plane is not known."""


def display_directions(plane: str) -> np.ndarray:
    """Return unit RAS directions (3, 3) of growing slice, row and column index of a display.

    Raises:
        GeometryError: `plane` is not one of `PLANES`.
    """
    if plane not in DISPLAY:
        raise GeometryError(f"The plane {plane!r} is not known: choose from {', '.join(PLANES)}.")
    directions = np.zeros((3, 3))
    for column, letter in enumerate(DISPLAY[plane]):
        axis = next(i for i, pair in enumerate(LETTERS) if letter in pair)
        directions[axis, column] = 1.0 if LETTERS[axis][0] == letter else -1.0
    return directions


def display_affine(
    plane: str, spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
) -> np.ndarray:
    """Return the affine of a volume in the display of `plane`, with voxel 0 at the origin.

    Args:
        plane: one of `PLANES`.
        spacing_mm: between slices, rows, columns.

    >>> display_affine("axial", (3.0, 0.5, 0.75))[:3, :3].tolist()
    [[0.0, 0.0, -0.75], [0.0, -0.5, 0.0], [3.0, 0.0, 0.0]]
    """
    affine = np.eye(4)
    affine[:3, :3] = display_directions(plane) * np.asarray(spacing_mm, dtype=float)
    return affine


def plane_of(affine: np.ndarray) -> str:
    """Return the plane whose normal lies nearest to that of the slices, cross(row, column).

    The normal is used, not the step from slice to slice, so a tilted gantry does not change the
    answer. In a volume that is oblique in two directions the three axes are matched as a whole, so
    that no two of them get the same direction (see `display_axes`).
    """
    axis_of = _anatomical_axes(affine)
    return next(plane for plane, axis in NORMAL_AXIS.items() if axis == axis_of[0])


def spacing_of(affine: np.ndarray) -> tuple[float, float, float]:
    """Return the distance in mm between neighbouring slices, rows and columns."""
    slice_mm, row_mm, column_mm = (
        float(step) for step in np.linalg.norm(np.asarray(affine)[:3, :3], axis=0)
    )
    return slice_mm, row_mm, column_mm


def display_axes(
    affine: np.ndarray, plane: str
) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Return the nearest signed permutation that brings an array to the display of `plane`.

    Args:
        affine: 4x4, (slice, row, column) index to RAS mm.
        plane: one of `PLANES`.

    Returns:
        `axes` for `array.transpose(axes)`, and for each new axis whether it is to be flipped after
        that.
    """
    axis_of = _anatomical_axes(affine)
    target = display_directions(plane)
    axes = tuple(axis_of.index(int(np.argmax(np.abs(target[:, i])))) for i in range(3))
    normals = _normals(affine)
    flips = tuple(bool(normals[:, axis] @ target[:, i] < 0) for i, axis in enumerate(axes))
    return axes, flips


def reorient(array: np.ndarray, affine: np.ndarray, plane: str) -> tuple[np.ndarray, np.ndarray]:
    """Turn an array to the display of `plane` by transposing and flipping; nothing is resampled.

    Args:
        array: (D, H, W), or (D, H, W, C).
        affine: 4x4, (slice, row, column) index to RAS mm.
        plane: one of `PLANES`.

    Returns:
        A view of the array, and the affine of that view. Turning back to the old plane gives the
        old array, if that was in display.
    """
    axes, flips = display_axes(affine, plane)
    rest = tuple(range(3, array.ndim))
    turned = array.transpose(axes + rest)[
        tuple(slice(None, None, -1) if flip else slice(None) for flip in flips)
    ]
    turn = np.zeros((4, 4))
    turn[3, 3] = 1.0
    for new, (old, flip) in enumerate(zip(axes, flips, strict=True)):
        turn[old, new] = -1.0 if flip else 1.0
        turn[old, 3] = array.shape[old] - 1 if flip else 0.0
    return turned, np.asarray(affine, dtype=float) @ turn


def orientation_letters(affine: np.ndarray) -> dict[str, str]:
    """Return the letters (R L A P S I) at left, right, top and bottom of a slice, row 0 on top."""
    axis_of, normals = _anatomical_axes(affine), _normals(affine)
    ends = {}
    for array_axis, (low, high) in ((1, ("top", "bottom")), (2, ("left", "right"))):
        axis = axis_of[array_axis]
        grows_positive = normals[axis, array_axis] > 0
        ends[high], ends[low] = LETTERS[axis] if grows_positive else LETTERS[axis][::-1]
    return ends


def _normals(affine: np.ndarray) -> np.ndarray:
    """Return unit vectors (columns) along which each index grows fastest, such as the normal."""
    matrix = np.asarray(affine, dtype=float)
    is_sound = matrix.shape == (4, 4) and bool((np.abs(matrix) < LARGEST_MM).all())  # false for NaN
    # the determinant
    if not is_sound or abs(matrix[:3, 0] @ np.cross(matrix[:3, 1], matrix[:3, 2])) < 1e-9:
        raise GeometryError(
            f"The affine {matrix.tolist()} does not map an index to a place: it must be 4x4, "
            "finite and invertible."
        )
    normals = np.linalg.inv(matrix[:3, :3]).T
    return normals / np.linalg.norm(normals, axis=0)


def _anatomical_axes(affine: np.ndarray) -> tuple[int, int, int]:
    """Return the RAS axis of each array axis, matched so that their cosines add up to the most."""
    cosines = np.abs(_normals(affine))
    return max(
        permutations(range(3)),
        key=lambda axes: sum(cosines[axis, i] for i, axis in enumerate(axes)),
    )


# Affines that lie no further apart differ by lost digits: a quaternion in single precision moves
# the far corner of 240 mm by up to 0.2 mm. A mask that is off by half a voxel is another one.
ROUNDING_VOXELS = 0.25


def corners_of(affine: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Return where the eight outermost voxels of an array lie, (8, 3) RAS mm."""
    indices = np.array(list(product(*((0, n - 1) for n in shape))))
    return indices @ np.asarray(affine)[:3, :3].T + np.asarray(affine)[:3, 3]


def voxels_apart(affine: np.ndarray, other: np.ndarray, shape: tuple[int, int, int]) -> float:
    """Return how far apart two affines place a voxel of an array at most, in voxels of the first.

    What differs is largest at a corner. At most `ROUNDING_VOXELS` is one place.

    >>> mm = np.diag([2.0, 1.0, 1.0, 1.0])
    >>> voxels_apart(mm, mm + np.eye(4) * [0.25, 0, 0, 0], (5, 5, 5))
    0.5
    """
    difference = corners_of(other, shape) - corners_of(affine, shape)
    return float(np.abs(np.linalg.solve(np.asarray(affine)[:3, :3], difference.T)).max())
