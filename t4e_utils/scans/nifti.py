"""NIfTI files as volumes: values or labels, headers, and writing.

A file's axes (x, y, z) are `(D, H, W)` = (z, y, x) here, with the affine of that index in RAS mm.
Readers then turn the volume to axial display.
"""

from __future__ import annotations

import gzip
import io
import math
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np

from t4e_utils.scans.geometry import GeometryError, display_axes, plane_of, spacing_of
from t4e_utils.scans.problems import Problem, VolumeError, merged, one_line, warnings_as_problems
from t4e_utils.scans.volume import SPACING_KEYS, Volume, in_display

MM_PER_UNIT = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}
HEADER_BYTES = 540  # of NIfTI-2, the longer one
NIFTI2_SIZES = (b"\x1c\x02\0\0", b"\0\0\x02\x1c")
HEADER_ERRORS = (  # what nibabel raises on bytes that are no header
    KeyError,
    OSError,
    OverflowError,
    ValueError,
    nib.filebasedimages.ImageFileError,
    nib.spatialimages.HeaderDataError,
    nib.wrapstruct.WrapStructError,
)


def read_nifti(
    path: str | Path, *, labels: bool = False, allowed: Collection[int] | None = None
) -> Volume:
    """Read a NIfTI file as one volume, in axial display orientation whatever the order of its axes.

    Args:
        path: `.nii` or `.nii.gz`; NIfTI-1 or NIfTI-2.
        labels: the values are labels: whole numbers of 0 to 255, returned as uint8.
        allowed: the labels that may occur; others are an error.

    Returns:
        Values as stored where they are integers without scaling, otherwise float32. Meta: plane,
        problems.

    Raises:
        VolumeError: truncated, damaged, not one 3D volume, a bad affine, or no labels where labels
            are expected.
    """
    path, problems = Path(path), []
    data = _bytes(path)
    with warnings_as_problems(path, problems):
        header = _header(data, path, problems)
        try:
            array = _scaled(data) if header.is_scaled else _stored(data, header)
        except (*HEADER_ERRORS, MemoryError) as error:
            raise VolumeError(
                "truncated", path, f"The file ends before its {header.shape} values: get it again."
            ) from error
    array = _plain(array.reshape(header.shape), path, problems)
    if labels:
        array = _as_labels(array, path, allowed)
    return in_display(array, header.affine, "axial", {"problems": merged(problems)})


def nifti_header(path: str | Path) -> dict[str, Any]:
    """Return what a NIfTI header says of the volume as `read_nifti` returns it.

    The values are not decompressed.

    Returns:
        The keys of `reading.series_header`.

    Raises:
        VolumeError: missing, damaged, or a bad affine.
    """
    path, problems = Path(path), []
    with warnings_as_problems(path, problems):
        header = _header(_bytes(path, HEADER_BYTES), path, problems)
    axes, _ = display_axes(header.affine, "axial")
    shape, spacing = (
        [sizes[axis] for axis in axes] for sizes in (header.shape, spacing_of(header.affine))
    )
    return {
        "n_files": 1,
        "n_slices": shape[0],
        "plane": "axial",
        "rows": shape[1],
        "columns": shape[2],
        **dict(zip(SPACING_KEYS, spacing, strict=True)),
        "modality": None,
        "transfer_syntax": None,
        "bits_stored": header.dtype.itemsize * 8,
        "problems": merged(problems),
    }


def write_nifti(volume: Volume, path: str | Path) -> Path:
    """Write a volume as NIfTI with the axes (column, row, slice); masks become uint8.

    Raises:
        VolumeError: NIfTI has no place for this dtype.
    """
    path, array = Path(path), volume.array
    array = array.astype(np.uint8) if array.dtype == bool else array
    if array.dtype.kind not in "iuf" or array.dtype in (np.int64, np.uint64):
        sentence = f"{array.dtype} has no place in NIfTI: convert to int32 or float32."
        raise VolumeError("out_of_range", path, sentence)
    image = nib.Nifti1Image(array.transpose(2, 1, 0), volume.affine[:, [2, 1, 0, 3]])
    image.header.set_xyzt_units("mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


class _Header(NamedTuple):
    """What a file says about its volume, in the axis order (z, y, x)."""

    shape: tuple[int, int, int]
    affine: np.ndarray
    dtype: np.dtype
    offset: int  # of the values in the file, in bytes
    is_scaled: bool  # the values are stored with slope and intercept


def _bytes(path: Path, n: int | None = None) -> bytes | np.ndarray:
    """Return the file (or its first n bytes) decompressed.

    All at once, which also checks length and sum. What was not compressed is an array, since that
    can be written to.
    """
    try:
        with path.open("rb") as file:
            is_gzip = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if n is not None:
                return gzip.open(file).read(n) if is_gzip else file.read(n)
            return gzip.decompress(file.read()) if is_gzip else np.fromfile(file, np.uint8)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise VolumeError(
            "truncated", path, f"The file cannot be decompressed ({one_line(error)}): get it again."
        ) from error
    except OSError as error:
        raise VolumeError(
            "no_files", path, f"The file cannot be read ({error.strerror}): correct the path."
        ) from error


def _kind(data: bytes | np.ndarray) -> type[nib.Nifti1Image]:
    """Return the class for NIfTI-1 or NIfTI-2, as the first bytes say."""
    return nib.Nifti2Image if bytes(data[:4]) in NIFTI2_SIZES else nib.Nifti1Image


def _header(data: bytes | np.ndarray, path: Path, problems: list[Problem]) -> _Header:
    """Read a header, and refuse what is not one volume of grey values with a place."""
    try:
        header = _kind(data).header_class.from_fileobj(io.BytesIO(data[:HEADER_BYTES]))
        shape, dtype, offset = (
            header.get_data_shape(),
            header.get_data_dtype(),
            int(header.get_data_offset()),
        )
        slope, intercept = header.get_slope_inter()
        affine = np.array(header.get_best_affine(), dtype=float)[:, [2, 1, 0, 3]]
        affine[:3] *= MM_PER_UNIT.get(header.get_xyzt_units()[0], 1.0)
    except HEADER_ERRORS as error:
        raise VolumeError(
            "damaged", path, f"The file is no NIfTI image ({one_line(error)}): get it again."
        ) from error
    if dtype.names or dtype.kind not in "iuf":
        raise VolumeError(
            "colour_image", path, f"The values are {dtype}: only grey images are scans."
        )
    if len(shape) < 2 or any(n > 1 for n in shape[3:]) or min(shape) < 1:
        raise VolumeError(
            "not_3d", path, f"The array is {shape}, not one volume: cut out the volume you want."
        )
    if header["sform_code"] == 0 and header["qform_code"] == 0:
        problems.append(
            Problem(
                "no_orientation",
                str(path),
                "The orientation is not stated: taken as NIfTI assumes.",
            )
        )
    try:
        plane_of(affine)
    except GeometryError as error:
        raise VolumeError("bad_affine", path, f"{error} Correct the header.") from error
    is_scaled = slope not in (None, 1) or intercept not in (None, 0)
    return _Header((*shape, 1)[:3][::-1], affine, dtype, offset, is_scaled)


def _scaled(data: bytes | np.ndarray) -> np.ndarray:
    """Return the values with slope and intercept applied."""
    with np.errstate(over="ignore", invalid="ignore"):  # `_plain` reports what is not finite
        return np.asarray(_kind(data).from_bytes(bytes(data)).dataobj).ravel(order="F")


def _stored(data: bytes | np.ndarray, header: _Header) -> np.ndarray:
    """Return the values as stored, without a copy where the bytes can be written to."""
    array = np.frombuffer(data, header.dtype, math.prod(header.shape), header.offset)
    return array if array.flags.writeable else array.copy()


def _plain(array: np.ndarray, path: Path, problems: list[Problem]) -> np.ndarray:
    """Return native byte order, float32 instead of other floats, and 0 for what is not finite."""
    if array.dtype.kind != "f":
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold becomes infinite
        array = array.astype(np.float32, copy=False)
        # faster than a look at each value, which follows if one, or the sum, is not finite
        if np.isfinite(array.sum()):
            return array
    is_finite = np.isfinite(array)
    n = array.size - np.count_nonzero(is_finite)
    problems.append(Problem("not_finite", str(path), f"{n} values are not finite: set to 0."))
    return np.where(is_finite, array, np.float32(0))


def _as_labels(array: np.ndarray, path: Path, allowed: Collection[int] | None) -> np.ndarray:
    """Return values as uint8 labels.

    Raises:
        VolumeError: values that are no whole numbers of 0 to 255, or labels that are not `allowed`.
    """
    labels = np.rint(array) if array.dtype.kind == "f" else array
    is_whole = labels is array or np.abs(array - labels).max() < 1e-3
    if not is_whole or labels.min() < 0 or labels.max() > 255:
        raise VolumeError(
            "not_labels", path, "The values are not whole numbers of 0 to 255: take the label map."
        )
    labels = labels.astype(np.uint8)
    if allowed is None:
        return labels
    is_known = np.zeros(labels.shape, bool)
    for label in allowed:
        is_known |= labels == label
    if not is_known.all():
        unknown = np.unique(labels[~is_known]).tolist()
        sentence = (
            f"The labels {unknown} are not known, only {sorted(allowed)} are: convert them first."
        )
        raise VolumeError("unknown_labels", path, sentence)
    return labels
