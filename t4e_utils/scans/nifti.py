"""NIfTI files as volumes: values or labels, headers, and writing.

A file's axes (x, y, z) are `(D, H, W)` = (z, y, x) here, with the affine of that index in RAS mm.
Readers then turn the volume to axial display. `nifti_fields` says what a header means.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import nibabel as nib
import numpy as np

from t4e_utils.files import open_file
from t4e_utils.scans.geometry import reorient, spacing_of
from t4e_utils.scans.nifti_fields import EXTENSIONS_BYTES, HEADER_BYTES, Header, parse_header
from t4e_utils.scans.problems import Problem, VolumeError, merged, one_line
from t4e_utils.scans.volume import SPACING_KEYS, Volume, empty_for_display, in_display

GZIP_START = b"\x1f\x8b"
BLOCK_BYTES = 1 << 20  # values are read and turned in pieces of this size
REST_BYTES = 1 << 24  # so much of what follows the values is read to come to the check sum
MOST_EXTENSIONS, LARGEST_CODE = 1000, 1 << 10


def read_nifti(
    path: str | Path, *, labels: bool = False, allowed: Collection[int] | None = None
) -> Volume:
    """Read a NIfTI file as one volume, in axial display orientation whatever the order of its axes.

    Little more memory is used than the values take that are returned.

    Args:
        path: `.nii` or `.nii.gz`; NIfTI-1 or NIfTI-2.
        labels: the values are labels: whole numbers of 0 to 255, returned as uint8.
        allowed: the labels that may occur; others are an error.

    Returns:
        Values as stored where they are integers without scaling, otherwise float32. Meta: plane,
        problems.

    Raises:
        VolumeError: truncated, damaged, too large, not one 3D volume, a bad affine, or no labels
            where labels are expected.
    """
    path, problems = Path(path), []
    with _opened(path) as file:
        header, start = _header(file, problems)
        values = _Values(path, header)
        dtype = np.dtype(np.uint8) if labels else values.dtype
        convert = partial(values.as_labels, allowed=allowed) if labels else values.as_grey
        try:
            array = empty_for_display(header.shape, dtype, header.affine, "axial")
            _fill(array, file, start, header, convert)
        except MemoryError as error:
            sentence = f"There is no memory for {header.shape} values: make some free."
            raise VolumeError("too_large", path, sentence) from error
        if file.is_packed:
            _report_rest(len(file.stream.read(REST_BYTES)), file, problems)
    values.report(allowed, problems)
    return in_display(array, header.affine, "axial", {"problems": merged(problems)})


def nifti_header(path: str | Path) -> dict[str, Any]:
    """Return what a NIfTI header says of the volume as `read_nifti` returns it.

    The values are not decompressed.

    Returns:
        The keys of `reading.series_header`, and affine: (slice, row, column) index to RAS mm.

    Raises:
        VolumeError: missing, damaged, too large, or a bad affine.
    """
    path, problems = Path(path), []
    with _opened(path) as file:
        header, _ = _header(file, problems)
    turned, affine = reorient(np.broadcast_to(np.uint8(0), header.shape), header.affine, "axial")
    return {
        "n_files": 1,
        **dict(zip(("n_slices", "rows", "columns"), turned.shape, strict=True)),
        "plane": "axial",
        **dict(zip(SPACING_KEYS, spacing_of(affine), strict=True)),
        "affine": affine.tolist(),
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


class _File(NamedTuple):
    """An open file, decompressed as it is read."""

    path: Path
    stream: BinaryIO
    length: int  # of all bytes; of a packed file as its last bytes say, which need not be true
    is_packed: bool


@contextmanager
def _opened(path: Path) -> Iterator[_File]:
    """Open a file; whatever goes wrong with it is a VolumeError."""
    try:
        with open_file(path) as file:
            is_packed = file.read(2) == GZIP_START
            length = os.fstat(file.fileno()).st_size
            if is_packed:
                file.seek(-min(4, length), os.SEEK_END)  # RFC 1952, ISIZE
                length = int.from_bytes(file.read(4), "little")
            file.seek(0)
            stream = gzip.GzipFile(fileobj=file) if is_packed else file
            yield _File(path, stream, length, is_packed)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise VolumeError(
            "truncated", path, f"The file cannot be decompressed ({one_line(error)}): get it again."
        ) from error
    except OSError as error:
        raise VolumeError(
            "no_files", path, f"The file cannot be read ({error.strerror}): correct the path."
        ) from error


def _header(file: _File, problems: list[Problem]) -> tuple[Header, int]:
    """Return the header and where the values begin, in bytes.

    Where the length of the file fits the end of the header or of an extension and not the place
    that is stated, the values begin there.

    Raises:
        VolumeError: the header cannot be used, or the file is too short for it.
    """
    header = parse_header(file.stream.read(HEADER_BYTES), file.path, problems)
    start = header.offset
    if start is None or start + header.n_bytes != file.length:
        ends = _ends(file.stream, header)
        fits = [end for end in ends if end + header.n_bytes == file.length]
        if start is not None and fits:
            sentence = f"The values are said to begin at byte {start} and do at {fits[0]}."
            problems.append(Problem("bad_value", str(file.path), sentence))
        start = fits[0] if fits else ends[-1] if start is None else start
    if not file.is_packed:
        rest = file.length - start - header.n_bytes
        if rest < 0:
            raise _truncated(file, header)
        _report_rest(rest, file, problems)
    return header, start


def _ends(stream: BinaryIO, header: Header) -> list[int]:
    """Return where a header ends, and each of the extensions that follow it, in bytes.

    An extension begins with its length, a multiple of 16, and an even code (NIfTI-1, nifti1.h).
    """
    stream.seek(header.size)
    flags, ends = stream.read(4), [header.size, header.size + 4]
    while any(flags[:1]) and ends[-1] < EXTENSIONS_BYTES and len(ends) < MOST_EXTENSIONS:
        stream.seek(ends[-1])
        start = stream.read(8)
        length, code = (int.from_bytes(each, header.order) for each in (start[:4], start[4:]))
        if length < 16 or length % 16 or code % 2 or code > LARGEST_CODE:
            break
        ends.append(ends[-1] + length)
    return ends


def _truncated(file: _File, header: Header) -> VolumeError:
    sentence = f"The file ends before its {header.shape} values: get it again."
    return VolumeError("truncated", file.path, sentence)


def _report_rest(n_bytes: int, file: _File, problems: list[Problem]) -> None:
    """Report bytes that follow the values."""
    if n_bytes:
        more = " or more" if n_bytes == REST_BYTES else ""
        sentence = f"The file has {n_bytes}{more} bytes after its values: they are passed over."
        problems.append(Problem("bad_value", str(file.path), sentence))


def _fill(
    array: np.ndarray,
    file: _File,
    start: int,
    header: Header,
    convert: Callable[[np.ndarray], np.ndarray],
) -> None:
    """Read the values into an array (z, y, x), piece by piece, so that nothing is there twice.

    Raises:
        VolumeError: the file ends before.
    """
    file.stream.seek(start)
    for block in _blocks(array.shape, array.shape[2] * header.dtype.itemsize):
        target = array[block]
        is_final = target.flags.c_contiguous and target.dtype == header.dtype
        stored = target if is_final else np.empty(target.shape, header.dtype)
        rest = memoryview(stored.reshape(-1).view(np.uint8))
        while n_read := file.stream.readinto(rest):
            rest = rest[n_read:]
        if rest:
            raise _truncated(file, header)
        converted = convert(stored)
        if converted is not target:
            target[:] = converted


def _blocks(shape: tuple[int, int, int], row_bytes: int) -> Iterator[tuple[slice, slice]]:
    """Yield parts of an array that follow each other in a file: slices, or rows of one."""
    n_slices, n_rows, _ = shape
    most = max(BLOCK_BYTES // row_bytes, 1)  # rows in a part
    step = max(most // n_rows, 1)
    for z in range(0, n_slices, step):
        for y in range(0, n_rows, most):
            yield slice(z, z + step), slice(y, y + most)


@dataclass
class _Values:
    """How stored values become those that are returned, and what was odd about them."""

    path: Path
    header: Header
    n_not_finite: int = 0
    unknown: set[int] = field(default_factory=set)  # labels

    @property
    def dtype(self) -> np.dtype:
        """Of grey values: as stored, or float32."""
        stored = self.header.dtype
        is_kept = stored.kind != "f" and not self.header.is_scaled
        return stored.newbyteorder("=") if is_kept else np.dtype(np.float32)

    def as_grey(self, stored: np.ndarray) -> np.ndarray:
        """Return values with slope and intercept, and 0 for what is not finite."""
        if self.dtype.kind != "f":
            return stored
        with np.errstate(over="ignore", invalid="ignore"):  # float32 may not hold it
            if self.header.is_scaled:
                stored = stored * np.float64(self.header.slope) + self.header.intercept
            values = stored.astype(np.float32, copy=False)
            # faster than a look at each value, which follows if one, or the sum, is not finite
            if np.isfinite(values.sum()):
                return values
        is_finite = np.isfinite(values)
        self.n_not_finite += values.size - np.count_nonzero(is_finite)
        return np.where(is_finite, values, np.float32(0))

    def as_labels(self, stored: np.ndarray, allowed: Collection[int] | None) -> np.ndarray:
        """Return values as labels, and keep those that are not allowed.

        Raises:
            VolumeError: they are no whole numbers of 0 to 255.
        """
        values = self.as_grey(stored)
        labels = np.rint(values) if values.dtype.kind == "f" else values
        is_whole = labels is values or np.abs(values - labels).max() < 1e-3
        if not is_whole or labels.min() < 0 or labels.max() > 255:
            sentence = "The values are not whole numbers of 0 to 255: take the label map."
            raise VolumeError("not_labels", self.path, sentence)
        labels = labels.astype(np.uint8)
        if allowed is not None:
            is_known = np.zeros(labels.shape, bool)
            for label in allowed:
                is_known |= labels == label
            self.unknown |= set() if is_known.all() else {*np.unique(labels[~is_known]).tolist()}
        return labels

    def report(self, allowed: Collection[int] | None, problems: list[Problem]) -> None:
        """Add what was odd to the problems.

        Raises:
            VolumeError: labels that are not `allowed`.
        """
        if self.n_not_finite:
            sentence = f"{self.n_not_finite} values are not finite: set to 0."
            problems.append(Problem("not_finite", str(self.path), sentence))
        if self.unknown:
            known = f"The labels {sorted(self.unknown)} are not known, only {sorted(allowed)} are"
            raise VolumeError("unknown_labels", self.path, f"{known}: convert them first.")
