"""DICOM files: what their headers say, their pixels, and writing a series.

Everything leaves this module as `stacks.Frame`: RAS mm instead of DICOM's LPS, directions by array index instead of DICOM's order (the first
triple of Image Orientation (Patient) is the direction of growing *column* index, DICOM PS3.3 C.7.6.2.1.1), pixels `(H, W)` as stored.
Values that identify a person are never read.
"""

from __future__ import annotations

import math
import re
import struct
import zlib
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.pixels import get_decoder
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    RLELossless,
    generate_uid,
)

from t4e_utils.problems import Problem, VolumeError, one_line, warnings_as_problems
from t4e_utils.stacks import Frame

LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
NATIVE = {ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian}
PIXEL_ELEMENTS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")

# What pydicom and its decoders raise on files that are no DICOM, cut off or damaged.
READ_ERRORS = (
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
    pydicom.errors.InvalidDicomError,
    struct.error,
    zlib.error,
)

# In which functional group of a multi-frame image an attribute is found, DICOM PS3.3 C.7.6.16.2.
GROUP_OF = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "SpacingBetweenSlices": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
}


def read_file(path: Path, problems: list[Problem], *, with_pixels: bool = True) -> tuple[list[Frame], dict[str, Any]]:
    """Read the images of one file.

    Args:
        path: any file; suffix, preamble and meta header may be missing.
        problems: what is odd but does not prevent reading is added here.
        with_pixels: false reads the header only.

    Returns:
        One frame, or those of a multi-frame image in their order, and the facts modality, transfer_syntax and bits_stored.

    Raises:
        VolumeError: the file is no readable grey image.
    """
    with warnings_as_problems(path, problems):
        header = _Header(_dataset(path, with_pixels), path, problems)
        pixels = _pixels(header) if with_pixels else [None] * (header.integer("NumberOfFrames") or 1)
        frames = [_frame(header.of_frame(i), i, image, is_only=len(pixels) == 1) for i, image in enumerate(pixels)]
        return frames, _facts(header)


class _Header(NamedTuple):
    """The attributes of one file; a value that is not usable is reported and taken for missing."""

    dataset: Dataset
    path: Path
    problems: list[Problem]
    groups: tuple[Dataset, ...] = ()  # functional groups of one frame, then those shared by all frames

    def of_frame(self, i: int) -> _Header:
        """Return the header for one frame of a multi-frame image; the same header for an ordinary image."""
        own = (_value(self.dataset, "PerFrameFunctionalGroupsSequence") or ())[i : i + 1]
        shared = (_value(self.dataset, "SharedFunctionalGroupsSequence") or ())[:1]
        return self._replace(groups=(*own, *shared))

    def numbers(self, keyword: str, n: int) -> np.ndarray | None:
        """Return an attribute of n finite numbers."""
        try:
            value = self._find(keyword)
            if value is None or value == "":
                return None
            numbers = np.array(value, dtype=float).reshape(-1)
        except READ_ERRORS:
            numbers = np.empty(0)
        if len(numbers) == n and np.isfinite(numbers).all():
            return numbers
        expected = "a number" if n == 1 else f"{n} numbers"
        self.problems.append(Problem("bad_value", str(self.path), f"{keyword} is not {expected} and was left out."))
        return None

    def number(self, keyword: str) -> float | None:
        found = self.numbers(keyword, 1)
        return None if found is None else float(found[0])

    def integer(self, keyword: str) -> int | None:
        found = self.number(keyword)
        return None if found is None else int(found)

    def text(self, keyword: str) -> str:
        try:
            return str(_value(self.dataset, keyword) or "")
        except READ_ERRORS:
            return ""

    def _find(self, keyword: str) -> Any:
        if keyword in GROUP_OF:
            for group in self.groups:
                for item in _value(group, GROUP_OF[keyword]) or ():
                    if (value := _value(item, keyword)) is not None:
                        return value
        return _value(self.dataset, keyword)


def _value(dataset: Dataset, keyword: str) -> Any:
    """Return the value of an attribute or None: several times faster than `dataset.get(keyword)`, and asked for each file."""
    tag = _tag(keyword)
    return dataset[tag].value if tag in dataset else None


@cache
def _tag(keyword: str) -> BaseTag:
    return Tag(keyword)


def _dataset(path: Path, with_pixels: bool) -> FileDataset:
    try:
        dataset = pydicom.dcmread(path, force=True, stop_before_pixels=not with_pixels)
        is_image = bool(dataset.get("Rows") and dataset.get("Columns"))
        has_pixels = not with_pixels or any(keyword in dataset for keyword in PIXEL_ELEMENTS)
    except READ_ERRORS as error:
        raise VolumeError("damaged", path, f"The file cannot be read ({one_line(error)}): get it again.") from error
    if not is_image or not has_pixels:
        raise VolumeError("no_pixels", path, "The file is no image: take it out of the folder.")
    return dataset


def _pixels(header: _Header) -> np.ndarray:
    """Return the stored values of all frames, (N, H, W)."""
    dataset, path = header.dataset, header.path
    if header.integer("SamplesPerPixel") not in (None, 1) or not header.text("PhotometricInterpretation").startswith(
        "MONO"
    ):
        raise VolumeError("colour_image", path, "The image has colours: only grey images are scans.")
    syntax = _transfer_syntax(dataset, path)
    if syntax in NATIVE:
        _refuse_truncated(header)
    elif not _has_decoder(syntax):
        raise VolumeError("no_decoder", path, f"There is no decoder for {syntax.name}: install python-gdcm.")
    try:
        pixels = dataset.pixel_array
    except READ_ERRORS as error:
        raise VolumeError(
            "damaged", path, f"The pixels cannot be decoded ({one_line(error)}): get the file again."
        ) from error
    return pixels.reshape(-1, *pixels.shape[-2:])


def _refuse_truncated(header: _Header) -> None:
    size = [header.integer(keyword) or 1 for keyword in ("Rows", "Columns", "NumberOfFrames", "BitsAllocated")]
    expected = math.prod(size) // 8
    stored = max(len(header.dataset.get(name) or b"") for name in PIXEL_ELEMENTS)
    if stored < expected:
        raise VolumeError(
            "truncated", header.path, f"The file has {stored} of {expected} bytes of pixels: get it again."
        )


def _has_decoder(syntax: pydicom.uid.UID) -> bool:
    try:
        return get_decoder(syntax).is_available
    except NotImplementedError:
        return False


def _transfer_syntax(dataset: FileDataset, path: Path) -> pydicom.uid.UID:
    """Return the transfer syntax; without a meta header it is what the elements were read as, and set so."""
    if "TransferSyntaxUID" not in dataset.file_meta:
        if "PixelData" in dataset and dataset["PixelData"].is_undefined_length:
            raise VolumeError(
                "no_decoder", path, "The pixels are compressed, but the file does not say how: get it again."
            )
        is_implicit, is_little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if is_little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if is_implicit else explicit
    return dataset.file_meta.TransferSyntaxUID


def _frame(header: _Header, i: int, pixels: np.ndarray | None, *, is_only: bool) -> Frame:
    position = header.numbers("ImagePositionPatient", 3)
    cosines = header.numbers("ImageOrientationPatient", 6)
    spacing = header.numbers("PixelSpacing", 2)
    slope = header.number("RescaleSlope")
    return Frame(
        path=str(header.path),
        shape=(header.dataset.Rows, header.dataset.Columns),
        series=header.text("SeriesInstanceUID"),
        number=header.integer("InstanceNumber") if is_only else i + 1,
        file_number=last_number(header.path),
        position=None if position is None else position * LPS_TO_RAS,
        directions=None if cosines is None else _directions(cosines, header),
        spacing_mm=None if spacing is None or (spacing <= 0).any() else (float(spacing[0]), float(spacing[1])),
        slice_mm=_slice_mm(header),
        slope=1.0 if slope is None else slope,
        intercept=header.number("RescaleIntercept") or 0.0,
        padding=_padding(header),
        is_inverted=header.text("PhotometricInterpretation") == "MONOCHROME1",
        pixels=pixels,
    )


def _directions(cosines: np.ndarray, header: _Header) -> np.ndarray | None:
    """Return unit vectors of growing row and column index as columns, or None if the cosines span no plane."""
    along_row, along_column = cosines.reshape(2, 3) * LPS_TO_RAS
    lengths = np.linalg.norm(along_row), np.linalg.norm(along_column)
    if min(lengths) < 0.9 or abs(along_row @ along_column) > 0.1:
        sentence = "ImageOrientationPatient is not two perpendicular directions and was left out."
        header.problems.append(Problem("bad_value", str(header.path), sentence))
        return None
    return np.column_stack([along_column / lengths[1], along_row / lengths[0]])


def _slice_mm(header: _Header) -> float | None:
    stated = (header.number(keyword) for keyword in ("SpacingBetweenSlices", "SliceThickness"))
    return next((abs(mm) for mm in stated if mm), None)


def _padding(header: _Header) -> tuple[float, float] | None:
    """Return the range of stored values outside of the image, DICOM PS3.3 C.7.5.1.1.2."""
    value, limit = header.number("PixelPaddingValue"), header.number("PixelPaddingRangeLimit")
    if value is None:
        return None
    ends = [_as_stored(end, header) for end in (value, value if limit is None else limit)]
    return min(ends), max(ends)


def _as_stored(value: float, header: _Header) -> float:
    """Return a value of signed pixels that was written as if they were unsigned (65536 - 2000 for -2000) as it is stored."""
    bits = header.integer("BitsAllocated") or 16
    is_wrapped = header.integer("PixelRepresentation") == 1 and value >= 2 ** (bits - 1)
    return value - 2**bits if is_wrapped else value


def _facts(header: _Header) -> dict[str, Any]:
    syntax = header.dataset.file_meta.get("TransferSyntaxUID")
    return {
        "modality": header.text("Modality") or None,
        "transfer_syntax": syntax.name if syntax else None,
        "bits_stored": header.integer("BitsStored"),
    }


def last_number(path: Path) -> int | None:
    """Return the last number in the name of a file without its suffix: 12 of `Image-12.dcm`."""
    found = re.findall(r"\d+", path.stem)
    return int(found[-1]) if found else None


def write_series(
    array: np.ndarray,
    affine: np.ndarray,
    folder: Path,
    *,
    patient_id: str,
    series_description: str,
    name_pattern: str,
    uid_seed: str = "",
    compress: str | None = None,
) -> None:
    """Write a volume as a DICOM MR series, a file a slice, numbered from 1 in the order of the array.

    Args:
        array: (D, H, W) uint8, uint16 or int16; stored as it is, without rescaling.
        affine: 4x4, (slice, row, column) index to RAS mm; rows and columns perpendicular.
        folder: made if missing; files of the same names are replaced.
        patient_id: DICOM PatientID; with `series_description` and `uid_seed` it fixes all identifiers, so that equal input gives equal files.
        series_description: DICOM SeriesDescription.
        name_pattern: file name with `{}` for the number.
        uid_seed: something more that tells this series from others of the same names.
        compress: None or "rle".

    Raises:
        VolumeError: a dtype that DICOM has no place for, or rows and columns that are not perpendicular.
    """
    folder.mkdir(parents=True, exist_ok=True)
    dataset = _series_dataset(array, affine, folder, (patient_id, series_description, uid_seed))
    for i, image in enumerate(array):
        dataset.InstanceNumber = i + 1
        dataset.ImagePositionPatient = _decimals(affine[:3] @ (i, 0, 0, 1) * LPS_TO_RAS)
        uid = generate_uid(entropy_srcs=[dataset.SeriesInstanceUID, str(i)])
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
        data = image.astype(image.dtype.newbyteorder("<"), copy=False).tobytes()
        dataset.PixelData = data + b"\0" * (len(data) % 2)
        if compress == "rle":
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            dataset.compress(RLELossless, generate_instance_uid=False)
        dataset.save_as(folder / name_pattern.format(i + 1), enforce_file_format=True)


def _series_dataset(array: np.ndarray, affine: np.ndarray, folder: Path, names: tuple[str, str, str]) -> Dataset:
    """Return what all slices share; refuse what the format cannot hold."""
    if array.dtype not in (np.uint8, np.uint16, np.int16):
        raise VolumeError("out_of_range", folder, f"DICOM takes uint8, uint16 or int16, not {array.dtype}: convert it.")
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    along_column, along_row = (affine[:3, :3] / steps).T[1:] * LPS_TO_RAS
    if abs(along_row @ along_column) > 1e-4:
        raise VolumeError("bad_affine", folder, "Rows and columns are not perpendicular: resample the volume first.")
    patient_id, description, _ = names
    bits = array.dtype.itemsize * 8
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = MRImageStorage
    dataset.Modality, dataset.SeriesDescription, dataset.PatientID, dataset.PatientName = (
        "MR",
        description,
        patient_id,
        patient_id,
    )
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=[patient_id, "study"])
    dataset.FrameOfReferenceUID = generate_uid(entropy_srcs=[patient_id, "frame of reference"])
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=list(names))
    dataset.ImageOrientationPatient = _decimals([*along_row, *along_column])
    dataset.PixelSpacing = _decimals(steps[1:])
    dataset.SliceThickness = dataset.SpacingBetweenSlices = _decimals(steps[:1])[0]
    dataset.Rows, dataset.Columns = array.shape[1:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit, dataset.PixelRepresentation = bits - 1, int(array.dtype.kind == "i")
    return dataset


def _decimals(values: np.ndarray | list[float]) -> list[str]:
    """Return numbers as DICOM decimal strings, of 16 characters at most."""
    return [f"{value:.8f}"[:16] for value in np.asarray(values, dtype=float) + 0.0]
