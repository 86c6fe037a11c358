"""Read a series whatever form it has, and what its headers say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from t4e_utils import T4EError
from t4e_utils.scans.dicom_series import dicom_series_header, read_dicom_series
from t4e_utils.scans.images import jpeg_series_header, read_jpeg_series
from t4e_utils.scans.problems import Problem, VolumeError
from t4e_utils.scans.volume import Volume

# source -> what reads a folder of it as a volume, and what reads its headers
READERS = {
    "dicom": (read_dicom_series, dicom_series_header),
    "jpg": (read_jpeg_series, jpeg_series_header),
}


def read_series(folder: str | Path, *, source: str = "dicom") -> Volume:
    """Read a series of "dicom" or "jpg" files: `read_dicom_series` or `read_jpeg_series`.

    Raises:
        T4EError: another source.
        VolumeError: no folder, no files, no readable image.
    """
    return _readers(source)[0](folder)


def series_header(folder: str | Path, *, source: str = "dicom") -> dict[str, Any]:
    """Return what the headers of a series say, for an inventory; nothing that identifies a person.

    Returns:
        n_files, n_slices, plane, rows, columns, spacing_slice_mm, spacing_row_mm,
        spacing_column_mm, transfer_syntax, bits_stored, modality; None where the files do not say.
        And problems, as far as headers show them.

    Raises:
        T4EError: another source.
        VolumeError: no folder, no files, no image.
    """
    return _readers(source)[1](folder)


def read_each(
    read: Callable[[str], Volume], paths: Mapping[str, str]
) -> tuple[dict[str, Volume], list[Problem]]:
    """Read what can be read of several scans.

    Args:
        read: a reader, such as `read_series` or `nifti.read_nifti`.
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


def _readers(source: str) -> tuple[Callable, Callable]:
    if source not in READERS:
        raise T4EError(f"source = {source!r} is not known: choose from {', '.join(READERS)}.")
    return READERS[source]
