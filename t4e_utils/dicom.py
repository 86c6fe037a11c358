"""DICOM files: what their headers say, and their pixels.

Everything leaves this module as `stacks.Frame`: RAS mm instead of DICOM's LPS, directions by array index
instead of DICOM's order (the first triple of Image Orientation (Patient) is the direction of growing *column*
index, DICOM PS3.3 C.7.6.2.1.1), pixels `(H, W)` as stored. Values that identify a person are never read.
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
from pydicom.dataset import Dataset, FileDataset
from pydicom.pixels import apply_modality_lut, get_decoder
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
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
    pydicom.errors.BytesLengthException,
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
        One frame, or those of a multi-frame image in their order, and the facts modality, transfer_syntax and
        bits_stored.

    Raises:
        VolumeError: the file is no readable grey image.
    """
    with warnings_as_problems(path, problems):
        header = _image_header(path, problems, with_pixels)
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
        try:
            own = (_value(self.dataset, "PerFrameFunctionalGroupsSequence") or ())[i : i + 1]
            shared = (_value(self.dataset, "SharedFunctionalGroupsSequence") or ())[:1]
        except READ_ERRORS:
            return self
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
        return self._report(keyword, f"{n} numbers")

    def number(self, keyword: str) -> float | None:
        try:
            value = self._find(keyword)
            if value is None or value == "":
                return None
            number = float(value)
        except READ_ERRORS:
            number = math.nan
        return number if math.isfinite(number) else self._report(keyword, "a number")

    def _report(self, keyword: str, expected: str) -> None:
        self.problems.append(Problem("bad_value", str(self.path), f"{keyword} is not {expected} and was left out."))

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
    """Return the value of an attribute or None, faster than `dataset.get(keyword)`: it is asked often."""
    tag = _tag(keyword)
    return dataset[tag].value if tag in dataset else None


@cache
def _tag(keyword: str) -> BaseTag:
    return Tag(keyword)


def _image_header(path: Path, problems: list[Problem], with_pixels: bool) -> _Header:
    """Read a file and refuse it if it is no image: with `force` any file passes for DICOM."""
    try:
        header = _Header(pydicom.dcmread(path, force=True, stop_before_pixels=not with_pixels), path, problems)
    except READ_ERRORS as error:
        raise VolumeError("damaged", path, f"The file cannot be read ({one_line(error)}): get it again.") from error
    has_pixels = not with_pixels or any(_tag(keyword) in header.dataset for keyword in PIXEL_ELEMENTS)
    if not (has_pixels and header.integer("Rows") and header.integer("Columns")):
        raise VolumeError("no_pixels", path, "The file is no image: take it out of the folder.")
    return header


def _pixels(header: _Header) -> np.ndarray:
    """Return the values of all frames, (N, H, W): as stored, or looked up if the file brings a table for that."""
    path = header.path
    is_grey = header.text("PhotometricInterpretation").startswith("MONO")
    if not is_grey or header.integer("SamplesPerPixel") not in (None, 1):
        raise VolumeError("colour_image", path, "The image has colours: only grey images are scans.")
    try:
        _refuse_undecodable(header)
        pixels = header.dataset.pixel_array
        if _value(header.dataset, "ModalityLUTSequence"):
            pixels = apply_modality_lut(pixels, header.dataset)
    except READ_ERRORS as error:
        raise VolumeError(
            "damaged", path, f"The pixels cannot be decoded ({one_line(error)}): get the file again."
        ) from error
    return pixels.reshape(-1, *pixels.shape[-2:])


def _refuse_undecodable(header: _Header) -> None:
    syntax = _transfer_syntax(header.dataset, header.path)
    if syntax in NATIVE:
        _refuse_truncated(header)
    elif not _has_decoder(syntax):
        raise VolumeError("no_decoder", header.path, f"There is no decoder for {syntax.name}: install python-gdcm.")


def _refuse_truncated(header: _Header) -> None:
    size = [header.integer(keyword) or 1 for keyword in ("Rows", "Columns", "NumberOfFrames", "BitsAllocated")]
    expected = math.prod(size) // 8
    stored = max(len(_value(header.dataset, name) or b"") for name in PIXEL_ELEMENTS)
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
        shape=(header.integer("Rows") or 0, header.integer("Columns") or 0),
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
    lengths = math.hypot(*along_row), math.hypot(*along_column)
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
    """Return a value of signed pixels as it is stored, also if it was written unsigned (65536 - 2000 for -2000)."""
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
