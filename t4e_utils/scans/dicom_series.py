"""A DICOM series as one volume: files to images, images to a stack, the stack to a volume."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from t4e_utils.scans import dicom, grouping, repeats, stacks
from t4e_utils.scans.folders import files_of
from t4e_utils.scans.geometry import plane_of, spacing_of
from t4e_utils.scans.problems import Problem, VolumeError, merged, nothing_read
from t4e_utils.scans.values import values_of
from t4e_utils.scans.volume import SPACING_KEYS, Volume, in_display

LARGE_SERIES = 1 << 28  # bytes of its files


def read_dicom_series(folder: str | Path) -> Volume:
    """Read a folder of DICOM images, or one file, in the display orientation of its own plane.

    Slices are sorted along their normal. Files that cannot be read, images that do not belong to
    the largest set of like images, copies, and further volumes at the same places (echoes, phase,
    repetitions) are left out and reported.

    Returns:
        Values after rescaling: int16 or uint16 where these are whole numbers, otherwise float32.
        Meta: plane, sorted_by, n_files, modality, transfer_syntax, bits_stored, problems.

    Raises:
        VolumeError: no folder, no files, no readable image.
    """
    stack = _stack(folder, with_pixels=True)
    meta = {
        "sorted_by": stack.sorted_by,
        "n_files": stack.n_files,
        **stack.facts,
        "problems": stack.problems,
    }
    plane = plane_of(stack.affine)
    return in_display(*values_of(stack.frames, stack.affine, plane), plane, meta)


def dicom_series_header(folder: str | Path) -> dict[str, Any]:
    """Return what the headers of a series say, with the keys of `reading.series_header`.

    All headers are read, since a missing slice or one of another series shows nowhere else.

    Raises:
        VolumeError: no folder, no files, no image.
    """
    stack = _stack(folder, with_pixels=False)
    spacing = (None,) * 3 if "no_spacing" in stack.assumed else spacing_of(stack.affine)
    return {
        "n_files": stack.n_files,
        "n_slices": len(stack.frames),
        "plane": None if "no_orientation" in stack.assumed else plane_of(stack.affine),
        "rows": stack.frames[0].shape[0],
        "columns": stack.frames[0].shape[1],
        **dict(zip(SPACING_KEYS, spacing, strict=True)),
        **stack.facts,
        "problems": stack.problems,
    }


class _Stack(NamedTuple):
    """The images of a series that belong together, in order."""

    frames: list[stacks.Frame]
    affine: np.ndarray
    sorted_by: str
    n_files: int
    facts: dict[str, Any]  # of the first image
    assumed: set[str]  # codes of what the affine had to be made up from
    problems: tuple[Problem, ...]


def _stack(folder: str | Path, *, with_pixels: bool) -> _Stack:
    """Read all files of a series, and put the images that belong together in order.

    Of a large series the headers are read first: a folder may hold many volumes, and the pixels
    of those that are not kept would take as much memory each.
    """
    files, where = files_of(folder), str(folder)
    if not with_pixels:
        return _chosen(files, where, set())
    is_large = len(files) > 1 and sum(map(_size, files)) > LARGE_SERIES
    images = _chosen(files, where, set()).frames if is_large else ()
    wanted = {image.path for image in images} or {*map(str, files)}
    while True:
        stack = _chosen(files, where, wanted)
        # others are kept if the pixels of a file are damaged
        more = {image.path for image in stack.frames if image.pixels is None}
        if not more:
            return stack
        wanted |= more


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # whoever reads it says so
        return 0


def _chosen(files: list[Path], where: str, with_pixels: set[str]) -> _Stack:
    """Read headers, and the pixels of some of the files, and put images in order."""
    problems: list[Problem] = []
    frames, facts = [], {}
    for file in files:
        name = str(file)
        try:
            images, facts[name] = dicom.read_file(file, problems, with_pixels=name in with_pixels)
            frames.extend(images)
        except VolumeError as error:
            problems.append(error.as_problem())
    if not frames:
        raise nothing_read(where, problems)
    for choose in (
        grouping.without_copies,
        grouping.largest_group,
        grouping.without_zeros,
        repeats.one_volume,
        stacks.with_positions,
    ):
        frames, odd = choose(frames, where)
        problems += odd
    frames, sorted_by, odd = stacks.in_order(frames, where)
    affine, assumed = stacks.affine_of(frames, sorted_by, where)
    return _Stack(
        frames,
        affine,
        sorted_by,
        len(files),
        facts[frames[0].path],
        {problem.code for problem in assumed},
        merged([*problems, *odd, *assumed]),
    )
