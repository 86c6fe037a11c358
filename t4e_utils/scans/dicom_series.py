"""A DICOM series as one volume: files to images, images to a stack, the stack to a volume."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from t4e_utils.scans import dicom, stacks
from t4e_utils.scans.folders import files_of, no_images
from t4e_utils.scans.geometry import plane_of
from t4e_utils.scans.problems import Problem, VolumeError, merged
from t4e_utils.scans.volume import Volume, in_display


def read_dicom_series(folder: str | Path) -> Volume:
    """Read the DICOM images of a folder, or one file, as one volume in the display orientation of
    its own plane.

    Slices are sorted along their normal. Files that cannot be read, and images that do not belong
    to the largest set of like images, are left out and reported.

    Returns:
        Values after rescaling: int16 or uint16 where these are whole numbers, otherwise float32.
        Meta: plane, sorted_by, n_files, modality, transfer_syntax, bits_stored, slice_positions_mm,
        problems.

    Raises:
        VolumeError: no folder, no files, no readable image.
    """
    stack = stack_of(folder, with_pixels=True)
    meta = {
        "sorted_by": stack.sorted_by,
        "n_files": stack.n_files,
        **stack.facts,
        "problems": stack.problems,
    }
    return in_display(stacks.values_of(stack.frames), stack.affine, plane_of(stack.affine), meta)


class _Stack(NamedTuple):
    """The images of a series that belong together, in order."""

    frames: list[stacks.Frame]
    affine: np.ndarray
    sorted_by: str
    n_files: int
    facts: dict[str, Any]  # of the first image
    problems: tuple[Problem, ...]


def stack_of(folder: str | Path, *, with_pixels: bool) -> _Stack:
    files, where = files_of(folder), str(folder)
    problems: list[Problem] = []
    frames, facts = [], {}
    for file in files:
        try:
            images, facts[str(file)] = dicom.read_file(file, problems, with_pixels=with_pixels)
            frames.extend(images)
        except VolumeError as error:
            problems.append(error.as_problem())
    if not frames:
        raise no_images(where, problems)
    kept, mixed = stacks.largest_group(frames, where)
    kept, sorted_by, odd_order = stacks.in_order(kept, where)
    affine, odd_geometry = stacks.affine_of(kept, sorted_by, where)
    problems += [*mixed, *odd_order, *odd_geometry]
    return _Stack(kept, affine, sorted_by, len(files), facts[kept[0].path], merged(problems))
