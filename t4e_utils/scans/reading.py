"""Read a series whatever form it has, and what its headers say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from t4e_utils.scans.dicom_series import read_dicom_series, stack_of
from t4e_utils.scans.folders import files_of
from t4e_utils.scans.geometry import plane_of, spacing_of
from t4e_utils.scans.images import JPEG_SUFFIXES, jpeg_header, read_jpeg_series
from t4e_utils.scans.problems import Problem, VolumeError
from t4e_utils.scans.volume import SPACING_KEYS, Volume

SOURCES = ("dicom", "jpg")


def read_series(folder: str | Path, *, source: str = "dicom") -> Volume:
    """Read a series of "dicom" or "jpg" files: `read_dicom_series` or `read_jpeg_series`."""
    _refuse_other_source(source)
    return read_jpeg_series(folder) if source == "jpg" else read_dicom_series(folder)


def _refuse_other_source(source: str) -> None:
    if source not in SOURCES:
        raise ValueError(f"source = {source!r} is not known: choose from {', '.join(SOURCES)}.")


def read_each(
    read: Callable[[str], Volume], paths: Mapping[str, str]
) -> tuple[dict[str, Volume], list[Problem]]:
    """Read what can be read of several scans.

    Args:
        read: one of the readers of this module.
        paths: by any name.

    Returns:
        The volumes by name, and all problems; a scan that cannot be read is one of these.
    """
    volumes, problems = {}, []
    for name, path in paths.items():
        try:
            volumes[name] = read(path)
            problems += volumes[name].meta["problems"]
        except VolumeError as error:
            problems.append(error.as_problem())
    return volumes, problems


def series_header(folder: str | Path, *, source: str = "dicom") -> dict[str, Any]:
    """Return what the headers of a series say, for an inventory; nothing that identifies a person.

    All headers of a DICOM series are read, since a missing slice or one of another series shows
    nowhere else.

    Returns:
        n_files, n_slices, plane, rows, columns, spacing_slice_mm, spacing_row_mm,
        spacing_column_mm, transfer_syntax, bits_stored, modality; None where the files do not say.
        And problems, as far as headers show them.

    Raises:
        VolumeError: no folder, no files, no image.
    """
    _refuse_other_source(source)
    if source == "jpg":
        return jpeg_header(files_of(folder, JPEG_SUFFIXES))
    stack = stack_of(folder, with_pixels=False)
    missing = {problem.code for problem in stack.problems}
    spacing = (None,) * 3 if "no_spacing" in missing else spacing_of(stack.affine)
    return {
        "n_files": stack.n_files,
        "n_slices": len(stack.frames),
        "plane": None if "no_orientation" in missing else plane_of(stack.affine),
        "rows": stack.frames[0].shape[0],
        "columns": stack.frames[0].shape[1],
        **dict(zip(SPACING_KEYS, spacing, strict=True)),
        **stack.facts,
        "problems": stack.problems,
    }
