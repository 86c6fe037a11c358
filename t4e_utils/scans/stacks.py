"""From single images to one stack: which belong together, in what order, and where they lie.

Positions and directions are RAS in mm, and `None` where a header does not state them. Pure numpy:
what a file format says has been read before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from t4e_utils.scans.geometry import display_affine, display_directions, plane_of
from t4e_utils.scans.problems import Problem

# largest difference of a direction cosine within a series, about half a degree
SAME_DIRECTION = 0.01
SAME_POSITION_MM = 0.01
UNEVEN = 0.1  # of the usual distance; scanners round positions
TILT_DEGREES = 1.0


@dataclass(frozen=True, eq=False)
class Frame:
    """One image of a series and what its header says about it."""

    path: str
    shape: tuple[int, int]  # rows, columns
    series: str = ""  # unique identifier of the series
    number: int | None = None  # of the image in the series
    file_number: int | None = None  # last number in the name of the file
    position: np.ndarray | None = None  # (3,) centre of the first pixel
    directions: np.ndarray | None = None  # (3, 2) unit vectors of growing row and column index
    spacing_mm: tuple[float, float] | None = None  # between rows, between columns
    slice_mm: float | None = None  # as stated; used only where positions do not tell
    slope: float = 1.0
    intercept: float = 0.0
    # lowest and highest stored value that means "outside of the image"
    padding: tuple[float, float] | None = None
    is_inverted: bool = False  # the highest value is black (MONOCHROME1)
    pixels: np.ndarray | None = None  # (H, W) as stored

    @property
    def normal(self) -> np.ndarray:
        """Return the unit vector that is perpendicular to the image."""
        return np.cross(self.directions[:, 1], self.directions[:, 0])


def largest_group(frames: Sequence[Frame], path: str) -> tuple[list[Frame], list[Problem]]:
    """Keep the largest set of images that can be one stack, and report the others.

    Images of one stack agree in matrix, series, pixel spacing and orientation. A series identifier
    that differs in every file says nothing.
    """
    names = ("matrix", "series", "pixel spacing", "orientation")
    codes = ("mixed_sizes", "mixed_series", "mixed_spacing", "mixed_orientations")
    series_of, orientation_of = _series_key(frames), _orientation_key()
    keys = [
        (
            f.shape,
            series_of(f),
            f.spacing_mm and tuple(np.round(f.spacing_mm, 3)),
            orientation_of(f),
        )
        for f in frames
    ]
    (common, _), *_ = Counter(keys).most_common(1)
    differs_in = Counter(
        next(i for i in range(4) if key[i] != common[i]) for key in keys if key != common
    )
    problems = [
        Problem(
            codes[i],
            path,
            f"{n} of {len(frames)} images have another {names[i]} and were left out.",
        )
        for i, n in sorted(differs_in.items())
    ]
    return [frame for frame, key in zip(frames, keys, strict=True) if key == common], problems


def in_order(frames: Sequence[Frame], path: str) -> tuple[list[Frame], str, list[Problem]]:
    """Order images along the slice normal; by their numbers where positions do not tell.

    Returns:
        The images in order, what they were sorted by ("position", "instance number", "file number"
        or "file name"), and problems.
    """
    if _have_positions(frames):
        distances = _slice_positions(frames)
        if len(frames) == 1 or np.ptp(distances) > SAME_POSITION_MM:
            order = sorted(
                range(len(frames)), key=lambda i: (round(distances[i], 2), frames[i].number or 0, i)
            )
            return (
                [frames[i] for i in order],
                "position",
                _spacing_problems(np.sort(distances), path),
            )
        problem = Problem(
            "same_position",
            path,
            f"All {len(frames)} slices are at one position: sorted by number.",
        )
    else:
        problem = Problem(
            "no_positions", path, "The position of some slices is not stated: sorted by number."
        )
    for name, number in (("instance number", "number"), ("file number", "file_number")):
        numbers = [getattr(frame, number) for frame in frames]
        if None not in numbers and len(set(numbers)) == len(numbers):
            return sorted(frames, key=lambda frame: getattr(frame, number)), name, [problem]
    return list(frames), "file name", [problem]


def affine_of(
    frames: Sequence[Frame], sorted_by: str, path: str
) -> tuple[np.ndarray, list[Problem]]:
    """Return the affine of a stack (index to RAS mm), and what had to be assumed for it.

    The distance of slices is the median distance of their positions, not the stated thickness. The
    direction is from the first position to the last, so a tilted gantry gives a sheared affine.
    """
    first, problems = frames[0], []
    if first.spacing_mm is None:
        problems.append(
            Problem("no_spacing", path, "The distance of pixels is not stated: 1 mm was taken.")
        )
    row_mm, column_mm = first.spacing_mm or (1.0, 1.0)
    if first.directions is None:
        problems.append(
            Problem(
                "no_orientation",
                path,
                "The orientation is not stated: taken for axial, as displayed.",
            )
        )
        return display_affine(
            "axial", (_stated_slice_mm(first, problems, path), row_mm, column_mm)
        ), problems
    affine = np.eye(4)
    affine[:3, 1:3] = first.directions * (row_mm, column_mm)
    if first.position is not None:
        affine[:3, 3] = first.position
    if sorted_by == "position" and len(frames) > 1:
        affine[:3, 0], tilt = _slice_step(frames)
        if tilt > TILT_DEGREES:
            sentence = (
                f"The slices are stacked {tilt:.1f} degrees off their normal: a tilted "
                "gantry or moved table."
            )
            problems.append(Problem("gantry_tilt", path, sentence))
    else:
        affine[:3, 0] = _display_normal(first) * _stated_slice_mm(first, problems, path)
    return affine, problems


def _series_key(frames: Sequence[Frame]) -> Callable[[Frame], object]:
    is_useless = (
        len({frame.series for frame in frames})
        == len({frame.path for frame in frames})
        == len(frames)
    )
    return lambda frame: None if is_useless else frame.series


def _orientation_key() -> Callable[[Frame], object]:
    """Return a function that names an orientation by the first one seen that is close to it."""
    seen: list[np.ndarray] = []

    def key(frame: Frame) -> int | None:
        if frame.directions is None:
            return None
        for i, directions in enumerate(seen):
            if np.abs(directions - frame.directions).max() < SAME_DIRECTION:
                return i
        seen.append(frame.directions)
        return len(seen) - 1

    return key


def _have_positions(frames: Sequence[Frame]) -> bool:
    return all(frame.position is not None and frame.directions is not None for frame in frames)


def _slice_positions(frames: Sequence[Frame]) -> np.ndarray:
    """Return the distance in mm of each image from the origin, along the normal of the first."""
    return np.array([frame.position for frame in frames]) @ frames[0].normal


def _spacing_problems(distances: np.ndarray, path: str) -> list[Problem]:
    """Report slices at one position, missing slices and uneven steps of sorted distances."""
    steps = np.diff(distances)
    is_double = steps < SAME_POSITION_MM
    problems = []
    if is_double.any():
        sentence = (
            f"{int(is_double.sum())} of {len(distances)} slices lie where another one "
            "lies: all were kept."
        )
        problems.append(Problem("same_position", path, sentence))
    steps = steps[~is_double]
    usual = float(np.median(steps)) if len(steps) else 0.0
    wide = steps[steps > (2 - UNEVEN) * usual]
    if len(wide):
        missing = int(np.sum(np.round(wide / usual) - 1))
        sentence = (
            f"Slices are missing, about {missing}: the distance is {usual:.3g} mm, but "
            f"{wide.max():.3g} mm at most."
        )
        problems.append(Problem("gap", path, sentence))
    rest = steps[steps <= (2 - UNEVEN) * usual]
    if len(rest) and np.abs(rest - usual).max() > UNEVEN * usual:
        sentence = (
            f"The distance of slices varies from {rest.min():.3g} to {rest.max():.3g} "
            f"mm: {usual:.3g} mm was taken."
        )
        problems.append(Problem("uneven_spacing", path, sentence))
    return problems


def _slice_step(frames: Sequence[Frame]) -> tuple[np.ndarray, float]:
    """Return the step from slice to slice in mm, and its angle to the normal in degrees."""
    distances = _slice_positions(frames)
    steps = np.diff(distances)
    per_mm = (frames[-1].position - frames[0].position) / (distances[-1] - distances[0])
    step = per_mm * float(np.median(steps[steps >= SAME_POSITION_MM]))
    return step, float(np.degrees(np.arccos(min(1.0, 1.0 / np.linalg.norm(per_mm)))))


def _display_normal(frame: Frame) -> np.ndarray:
    """Return the normal in display direction: a guess where only numbers give the order."""
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([frame.normal, frame.directions])
    return (
        frame.normal
        if frame.normal @ display_directions(plane_of(affine))[:, 0] >= 0
        else -frame.normal
    )


def _stated_slice_mm(frame: Frame, problems: list[Problem], path: str) -> float:
    if frame.slice_mm is None:
        problems.append(
            Problem("no_spacing", path, "The distance of slices is not stated: 1 mm was taken.")
        )
    return frame.slice_mm or 1.0
