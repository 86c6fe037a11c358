"""From the images of one volume to a stack: in what order they are, and where they lie.

Positions and directions are RAS in mm, and `None` where a header does not state them. Pure numpy:
what a file format says has been read before, and `grouping` and `repeats` have chosen the images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from t4e_utils.scans.geometry import display_affine, display_directions, plane_of
from t4e_utils.scans.problems import Problem

SAME_POSITION_MM = 0.01
# Images are at one place also if they are nearer than this, and than this share of the distance of
# slices: 12.3 and 12.3456 are one position that was written twice.
ROUNDED_MM, SAME_SHARE = 0.1, 0.05
ONE_PLACE_MM = 0.001  # all positions within this are one: what a decimal number loses
UNEVEN = 0.1  # of the usual distance; scanners round positions
TILT_DEGREES = 1.0
# A gantry tilts by 30 degrees at most. Positions that move along the plane of the images were
# written for another orientation.
LARGEST_TILT_DEGREES = 75.0
# The distance of slices in mm. The thinnest of microscopes for animals are 0.01 mm apart, and a
# body of two metres has more than four slices. Metres and micrometres fall out of this range.
SLICE_MM = (0.01, 500.0)


@dataclass(frozen=True, eq=False)
class Frame:
    """One image of a series and what its header says about it."""

    path: str
    shape: tuple[int, int]  # rows, columns
    series: str = ""  # unique identifier of the series
    uid: str = ""  # unique identifier of the image
    number: int | None = None  # of the image in the series
    file_number: int | None = None  # last number in the name of the file
    position: np.ndarray | None = None  # (3,) centre of the first pixel
    directions: np.ndarray | None = None  # (3, 2) unit vectors of growing row and column index
    spacing_mm: tuple[float, float] | None = None  # between rows, between columns
    slice_mm: float | None = None  # as stated; used only where positions do not tell
    slope: float = 1.0
    intercept: float = 0.0
    # pixels that mean "outside of the image": the first, how many more, of how many bits (0: float)
    padding: tuple[float, float, int] | None = None
    is_inverted: bool = False  # the highest value is black (MONOCHROME1)
    pixels: np.ndarray | None = None  # (H, W) as stored
    bits: tuple[int, int] = (0, 0)  # shift pixels up and then down: what is beside them falls out
    table: tuple[np.ndarray, int] | None = None  # what pixels mean, from which pixel on
    # what tells it from other images at its place, by name; asked only where that is needed
    told: Callable[[], Mapping[str, Hashable]] = dict

    @property
    def normal(self) -> np.ndarray:
        """Return the unit vector that is perpendicular to the image."""
        (x, u), (y, v), (z, w) = self.directions.tolist()
        return np.array([v * z - w * y, w * x - u * z, u * y - v * x])


def places_of(frames: Sequence[Frame]) -> tuple[list[int | None], int]:
    """Return which images lie at one place, by the number of the place along the normal.

    Returns:
        A number for each image, None where it states no position, and how many places there are; 0
        if the positions say nothing, so that no image has a place.
    """
    known = [i for i, frame in enumerate(frames) if _has_position(frame)]
    places: list[int | None] = [None] * len(frames)
    if not known or _say_nothing([frames[i] for i in known]):
        return places, 0
    distances = slice_positions(frames, known)
    order = np.argsort(distances, kind="stable")
    numbers = _numbers_of_places(distances[order])
    for i, number in zip(order, numbers.tolist(), strict=True):
        places[known[i]] = number
    return places, int(numbers[-1]) + 1


def _numbers_of_places(distances: np.ndarray) -> np.ndarray:
    """Number the places of sorted distances along the normal."""
    extent, steps = distances[-1] - distances[0], np.diff(distances)
    if extent <= ONE_PLACE_MM:
        return np.zeros(len(distances), dtype=int)
    # positions may have been rounded to different digits
    usual = float(np.median(steps[steps > steps.max() * UNEVEN]))
    rounded = min(ROUNDED_MM, SAME_SHARE * usual)
    numbers = np.cumsum(np.diff(distances, prepend=distances[0]) >= rounded)
    is_first = np.diff(numbers, prepend=-1) > 0
    if (distances - distances[is_first][numbers] < rounded).all():
        return numbers
    # slices nearer than this are so in all the series: its positions are in another unit
    nearest = min(SAME_POSITION_MM, extent / len(distances) / 2)
    return np.cumsum(np.diff(distances, prepend=distances[0]) >= nearest)


def with_positions(frames: Sequence[Frame], path: str) -> tuple[list[Frame], list[Problem]]:
    """Fill in the positions that some images lack, from those of the others.

    An image lies where its number puts it between its neighbours, if the numbers of the others
    follow their positions; else in the gap that they leave; else at the end.
    """
    lost = [i for i, frame in enumerate(frames) if not _has_position(frame)]
    if not lost or places_of(frames)[1] < 2:
        return list(frames), []
    known = [i for i in range(len(frames)) if i not in set(lost)]
    found, code, words = _by_number(frames, known), "missing_values", "taken from its neighbours"
    if found is None:
        found, is_gap = _by_gaps(frames, known)
        if not is_gap:
            code, words = "no_positions", "at the end of the others, which is a guess"
    sentence = f"The position of {len(lost)} of {len(frames)} slices is not stated: {words}."
    filled = [
        dataclasses.replace(frame, position=found[i]) if i in found else frame
        for i, frame in enumerate(frames)
    ]
    return filled, [Problem(code, path, sentence)]


def in_order(frames: Sequence[Frame], path: str) -> tuple[list[Frame], str, list[Problem]]:
    """Order images along the slice normal; by their numbers where positions do not tell.

    Returns:
        The images in order, what they were sorted by ("position", "instance number", "file number"
        or "file name"), and problems.
    """
    problem = Problem(
        "no_positions", path, "The position of some slices is not stated: sorted by number."
    )
    if all(map(_has_position, frames)):
        distances = slice_positions(frames)
        if len(frames) == 1 or (
            np.ptp(distances) > ONE_PLACE_MM and _tilt(frames) < LARGEST_TILT_DEGREES
        ):
            order = np.argsort(distances, kind="stable")
            problems = _spacing_problems(distances[order], path)
            return [frames[i] for i in order], "position", problems
        sentence = f"All {len(frames)} slices are at one position: sorted by number."
        if np.ptp([frame.position for frame in frames], axis=0).max() > SAME_POSITION_MM:
            sentence = (
                f"The positions of the {len(frames)} slices move along the plane of the images, "
                "not across it: sorted by number."
            )
        problem = Problem("same_position", path, sentence)
    for name, number in (("instance number", "number"), ("file number", "file_number")):
        numbers = [getattr(frame, number) for frame in frames]
        # most of them decide; those that share a number stay in the order of their names
        if None not in numbers and len(set(numbers)) > len(numbers) / 2:
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
        affine[:3, 0], tilt = _slice_step(frames, path, problems)
        if tilt > TILT_DEGREES:
            sentence = (
                f"The slices are stacked {tilt:.1f} degrees off their normal: a tilted "
                "gantry or moved table."
            )
            problems.append(Problem("gantry_tilt", path, sentence))
    else:
        affine[:3, 0] = _display_normal(first) * _stated_slice_mm(first, problems, path)
    return affine, problems


def slice_positions(frames: Sequence[Frame], which: Sequence[int] | None = None) -> np.ndarray:
    """Return the distance in mm of images from the origin, along the normal of the first."""
    chosen = frames if which is None else [frames[i] for i in which]
    return np.array([frame.position for frame in chosen]) @ chosen[0].normal


def _has_position(frame: Frame) -> bool:
    return frame.position is not None and frame.directions is not None


def _say_nothing(frames: Sequence[Frame]) -> bool:
    """Return whether positions are those of no scan: all at the origin, or along the plane."""
    positions = np.array([frame.position for frame in frames])
    if len(frames) == 1:
        return False
    if np.ptp(positions, axis=0).max() <= ONE_PLACE_MM:
        return not np.any(np.abs(positions) > ONE_PLACE_MM)
    return _tilt(frames) >= LARGEST_TILT_DEGREES


def _tilt(frames: Sequence[Frame]) -> float:
    """Return the angle in degrees between the way from first to last position and the normal."""
    distances = slice_positions(frames)
    first, last = np.argmin(distances), np.argmax(distances)
    way = frames[last].position - frames[first].position
    across = distances[last] - distances[first]
    if across <= ONE_PLACE_MM / 100:
        positions = np.array([frame.position for frame in frames])
        return 90.0 if np.ptp(positions, axis=0).max() > ONE_PLACE_MM else 0.0
    return float(np.degrees(np.arccos(min(1.0, across / np.linalg.norm(way)))))


def _by_number(frames: Sequence[Frame], known: list[int]) -> dict[int, np.ndarray] | None:
    """Return the positions of images that lack one, by index; None if no numbers follow them."""
    distances = slice_positions(frames, known)
    positions = np.array([frames[i].position for i in known])
    for name in ("number", "file_number"):
        numbers = [getattr(frame, name) for frame in frames]
        if None in numbers or len(set(numbers)) < len(numbers):
            continue
        order = np.argsort([numbers[i] for i in known])
        steps = np.diff(distances[order])
        if (steps > 0).all() or (steps < 0).all():
            at = np.array([numbers[i] for i in known], dtype=float)[order]
            return {
                i: _extended(numbers[i], at, positions[order])
                for i in range(len(frames))
                if not _has_position(frames[i])
            }
    return None


def _extended(number: float, numbers: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return the position (3,) of a number between others, or beyond them in the usual steps."""
    end = 0 if number < numbers[0] else -1 if number > numbers[-1] else None
    if end is None:
        return np.array([np.interp(number, numbers, axis) for axis in positions.T])
    per_number = np.median(np.diff(positions, axis=0) / np.diff(numbers)[:, None], axis=0)
    return positions[end] + per_number * (number - numbers[end])


def _by_gaps(frames: Sequence[Frame], known: list[int]) -> tuple[dict[int, np.ndarray], bool]:
    """Return positions in the gaps between others, or after them, and whether the gaps fit."""
    distances = slice_positions(frames, known)
    positions = np.array([frames[i].position for i in known])[np.argsort(distances)]
    steps = np.diff(positions, axis=0)
    usual = np.median(steps, axis=0)
    lengths = np.linalg.norm(steps, axis=1) / np.linalg.norm(usual)
    free = [
        positions[i] + steps[i] * k / n
        for i, n in enumerate(np.maximum(1, np.rint(lengths)).astype(int))
        for k in range(1, n)
    ]
    lost = [i for i in range(len(frames)) if not _has_position(frames[i])]
    is_gap = len(free) == len(lost) == 1
    if not is_gap:
        free = [positions[-1] + usual * (k + 1) for k in range(len(lost))]
    return dict(zip(lost, free, strict=True)), is_gap


def _spacing_problems(distances: np.ndarray, path: str) -> list[Problem]:
    """Report missing slices and uneven steps of sorted distances."""
    steps = np.diff(distances)
    problems = []
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


def _slice_step(
    frames: Sequence[Frame], path: str, problems: list[Problem]
) -> tuple[np.ndarray, float]:
    """Return the step from slice to slice in mm, and its angle to the normal in degrees."""
    distances = slice_positions(frames)
    per_mm = (frames[-1].position - frames[0].position) / (distances[-1] - distances[0])
    usual_mm = float(np.median(np.diff(distances)))
    if not SLICE_MM[0] <= usual_mm <= SLICE_MM[1]:
        sentence = (
            f"The slices are {usual_mm:.3g} mm apart by their positions, which is no distance of "
            "slices: the stated one was taken."
        )
        problems.append(Problem("no_spacing", path, sentence))
        usual_mm = _stated_slice_mm(frames[0], problems, path)
    return per_mm * usual_mm, _tilt(frames)


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
