"""What the headers of DICOM files say.

Attributes by keyword, those of multi-frame images frame by frame.

A header is asked for some twenty attributes, and a data set has 400,000 of them: ordinary headers
are walked through in one piece, and common kinds of value are converted here; all others are left
to pydicom. Values that identify a person are never read.
"""

from __future__ import annotations

import math
import struct
import zlib
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLETransferSyntaxes,
)
from pydicom.valuerep import EXPLICIT_VR_LENGTH_16, EXPLICIT_VR_LENGTH_32

from t4e_utils.scans.problems import Problem, VolumeError, one_line


def plain_pixels(header: Header) -> np.ndarray:
    """Return the bytes that were read as pixels.

    Bits above those stored say nothing about the value (PS3.5 8.1.1) and are left out.
    """
    bits, stored = header.integer("BitsAllocated"), header.integer("BitsStored")
    kind = "i" if header.integer("PixelRepresentation") else "u"
    pixels = np.frombuffer(header.pixels, f"<{kind}{bits // 8}", header.pixel_bytes * 8 // bits)
    if stored < bits:
        pixels = (pixels << (bits - stored)) >> (bits - stored)
    return pixels.reshape(-1, header.integer("Rows"), header.integer("Columns"))


def transfer_syntax(header: Header) -> UID:
    """Return the transfer syntax; without a meta header it is what the elements were read as."""
    if header.syntax is not None:
        return header.syntax
    dataset = header.dataset
    if "PixelData" in dataset and dataset["PixelData"].is_undefined_length:
        sentence = "The pixels are compressed, but the file does not say how: get it again."
        raise VolumeError("no_decoder", header.path, sentence)
    is_implicit, is_little = dataset.original_encoding
    explicit = ExplicitVRLittleEndian if is_little else ExplicitVRBigEndian
    return ImplicitVRLittleEndian if is_implicit else explicit


PIXEL_ELEMENTS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
HEAD_BYTES = 1 << 15  # longer headers are left to pydicom
FIRST_PIXEL_TAG, PIXEL_TAG = 0x7FE00008, 0x7FE00010
LARGEST = 1e10  # a larger number is none; the largest pixel of 32 bits is below
UNDEFINED_LENGTH = 0xFFFFFFFF
SHORT_VRS = frozenset(str(vr).encode() for vr in EXPLICIT_VR_LENGTH_16)
LONG_VRS = frozenset(str(vr).encode() for vr in EXPLICIT_VR_LENGTH_32)
ELEMENT, LENGTH = struct.Struct("<HH2sH"), struct.Struct("<I")
ORDINARY_SYNTAXES = frozenset(
    (
        ExplicitVRLittleEndian,
        *JPEGTransferSyntaxes,
        *JPEGLSTransferSyntaxes,
        *JPEG2000TransferSyntaxes,
        *RLETransferSyntaxes,
    )
)
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
KEYWORDS = (
    *GROUP_OF,
    "BitsAllocated",
    "BitsStored",
    "Columns",
    "ImageType",
    "InstanceNumber",
    "Modality",
    "ModalityLUTSequence",
    "NumberOfFrames",
    "PerFrameFunctionalGroupsSequence",
    "PhotometricInterpretation",
    "PixelPaddingRangeLimit",
    "PixelPaddingValue",
    "PixelRepresentation",
    "Rows",
    "SamplesPerPixel",
    "SeriesInstanceUID",
    "SharedFunctionalGroupsSequence",
    "TransferSyntaxUID",
)


class Elements(dict):
    """Elements by tag as they are stored, with as much of pydicom's Dataset as a header needs,
    made in no time.
    """

    get_item = dict.get

    def __getitem__(self, tag: BaseTag) -> DataElement:
        return Dataset({tag: self.get(tag)})[tag]


class Header(NamedTuple):
    """The attributes of one file; a value that is not usable is reported and taken for missing."""

    dataset: Dataset | Elements
    syntax: UID | None  # transfer syntax, if stated
    path: Path
    problems: list[Problem]
    has_pixels: bool
    # little-endian, of 8 or 16 bits each; None where pydicom or a decoder has to see to them
    pixels: memoryview | None = None
    # functional groups of one frame, then those shared by all frames
    groups: tuple[Dataset, ...] = ()

    @property
    def pixel_bytes(self) -> int:
        """Return how many bytes the pixels take when they are not compressed."""
        size = [
            self.integer(keyword) or 1
            for keyword in ("Rows", "Columns", "NumberOfFrames", "BitsAllocated")
        ]
        return math.prod(size) // 8

    @property
    def n_frame_groups(self) -> int:
        """Return the number of frames that the header describes one by one.

        1 for an ordinary image.
        """
        try:
            described = len(value_of(self.dataset, "PerFrameFunctionalGroupsSequence") or ())
            return max(1, min(described, self.integer("NumberOfFrames") or 1))
        except READ_ERRORS:
            return 1

    def of_frame(self, i: int) -> Header:
        """Return the header for one frame of a multi-frame image.

        The same header for an ordinary image.
        """
        try:
            own = (value_of(self.dataset, "PerFrameFunctionalGroupsSequence") or ())[i : i + 1]
            shared = (value_of(self.dataset, "SharedFunctionalGroupsSequence") or ())[:1]
        except READ_ERRORS:
            return self
        return self._replace(groups=(*own, *shared)) if own or shared else self

    def numbers(self, keyword: str, n: int) -> np.ndarray | None:
        """Return an attribute of n numbers."""
        try:
            value = self._find(keyword)
            if value is None or value == "":
                return None
            numbers = np.array(value, dtype=float).reshape(-1)
        except READ_ERRORS:
            numbers = np.empty(0)
        if len(numbers) == n and all(abs(number) < LARGEST for number in numbers):
            return numbers
        return self._report(keyword, f"{n} numbers")

    def number(self, keyword: str) -> float | None:
        """Return an attribute of one number."""
        try:
            value = self._find(keyword)
            if value is None or value == "":
                return None
            number = float(value)
        except READ_ERRORS:
            number = math.nan
        return number if abs(number) < LARGEST else self._report(keyword, "a number")

    def integer(self, keyword: str) -> int | None:
        """Return an attribute of one number without its fraction."""
        found = self.number(keyword)
        return None if found is None else int(found)

    def text(self, keyword: str) -> str:
        """Return an attribute as text, empty where it is missing."""
        try:
            return str(value_of(self.dataset, keyword) or "")
        except READ_ERRORS:
            return ""

    def _report(self, keyword: str, expected: str) -> None:
        self.problems.append(
            Problem("bad_value", str(self.path), f"{keyword} is not {expected} and was left out.")
        )

    def _find(self, keyword: str) -> Any:
        if self.groups and keyword in GROUP_OF:
            for group in self.groups:
                for item in value_of(group, GROUP_OF[keyword]) or ():
                    if (value := value_of(item, keyword)) is not None:
                        return value
        return value_of(self.dataset, keyword)


def read_header(path: Path, problems: list[Problem], *, with_pixels: bool) -> Header:
    """Read a file, with or without its pixels; with pydicom's `force` any file passes for DICOM.

    Raises:
        VolumeError: pydicom cannot make sense of the file.
    """
    try:
        header = _walked(path, problems, with_pixels)
        if header is not None:
            return header
        dataset = pydicom.dcmread(path, force=True, stop_before_pixels=not with_pixels)
        has_pixels = any(keyword in dataset for keyword in PIXEL_ELEMENTS)
        return Header(
            dataset, dataset.file_meta.get("TransferSyntaxUID"), path, problems, has_pixels
        )
    except READ_ERRORS as error:
        raise VolumeError(
            "damaged", path, f"The file cannot be read ({one_line(error)}): get it again."
        ) from error


def _walked(path: Path, problems: list[Problem], with_pixels: bool) -> Header | None:
    """Return the elements of `KEYWORDS` before the pixels, and the pixels.

    None for all but the most ordinary files.

    Ordinary is: preamble, explicit VR little endian, tags in ascending order, all lengths stated,
    no sequence among the elements wanted, and exactly as many grey pixels as the header says.
    """
    with path.open("rb") as file:
        head = file.read() if with_pixels else file.read(HEAD_BYTES)
    if head[128:132] != b"DICM":
        return None
    found, place, before = Elements(), 132, 0
    while place + 8 <= len(head):
        group, element, vr, length = ELEMENT.unpack_from(head, place)
        tag = group << 16 | element
        if vr in LONG_VRS and place + 12 <= len(head):
            start, (length,) = place + 12, LENGTH.unpack_from(head, place + 8)
        elif vr in SHORT_VRS:
            start = place + 8
        else:
            return None
        if tag >= FIRST_PIXEL_TAG:
            header = (
                _ordinary(found, path, problems)
                if tag == PIXEL_TAG and vr in (b"OB", b"OW")
                else None
            )
            if header is None or not with_pixels:
                return header
            return _with_pixels(header, memoryview(head)[start : start + length], length)
        place = start + length
        if tag <= before or length == UNDEFINED_LENGTH:
            return None
        if (wanted := WANTED.get(tag)) is not None:
            if vr == b"SQ":
                return None
            found[wanted] = RawDataElement(
                wanted, vr.decode(), length, head[start:place], start, False, True
            )
        before = tag
    # a header without pixels, read to its end
    is_all = place == len(head) < HEAD_BYTES and not with_pixels
    return _ordinary(found, path, problems) if is_all else None


def _ordinary(found: Elements, path: Path, problems: list[Problem]) -> Header | None:
    syntax = found.get(_tag("TransferSyntaxUID"))
    uid = "" if syntax is None else syntax.value.rstrip(b"\0 ").decode("ascii", "replace")
    return (
        Header(found, UID(uid), path, problems, has_pixels=True)
        if uid in ORDINARY_SYNTAXES
        else None
    )


def _with_pixels(header: Header, pixels: memoryview, length: int) -> Header | None:
    """Return the header with its pixels if these are as long as it says.

    Of compressed pixels only that they are there.
    """
    if header.syntax != ExplicitVRLittleEndian:
        return header if length == UNDEFINED_LENGTH else None
    # an odd number is padded
    is_whole = len(pixels) == length and length - header.pixel_bytes in (0, 1)
    bits, stored = header.integer("BitsAllocated"), header.integer("BitsStored") or 0
    is_grey = header.integer("SamplesPerPixel") == 1 and header.integer("PixelRepresentation") in (
        0,
        1,
    )
    return (
        header._replace(pixels=pixels)
        if is_whole and is_grey and bits in (8, 16) and 0 < stored <= bits
        else None
    )


def value_of(dataset: Dataset | Elements, keyword: str) -> Any:
    """Return the value of an attribute or None, faster than `dataset.get(keyword)`.

    Numbers and codes that are well formed are read here.
    """
    tag, vr = _tag(keyword), _vr(keyword)
    element = dataset.get_item(tag)
    if element is None:
        return None
    if isinstance(element, RawDataElement) and element.VR in (vr, None) and element.value:
        try:
            if vr in ("DS", "IS"):
                return _decimals(element.value)
            if vr == "US" and element.length == 2:
                return int.from_bytes(
                    element.value, "little" if element.is_little_endian else "big"
                )
            if vr in ("CS", "UI"):
                texts = tuple(
                    text.strip(" \0") for text in element.value.decode("ascii").split("\\")
                )
                return texts if len(texts) > 1 else texts[0]
        except ValueError:
            pass
    return dataset[tag].value


@lru_cache(maxsize=4096)  # of a series, most values are equal
def _decimals(value: bytes) -> float | tuple[float, ...]:
    numbers = tuple(float(part) for part in value.split(b"\\"))
    return numbers if len(numbers) > 1 else numbers[0]


@cache
def _tag(keyword: str) -> BaseTag:
    return Tag(keyword)


@cache
def _vr(keyword: str) -> str:
    return dictionary_VR(_tag(keyword))


WANTED = {int(_tag(keyword)): _tag(keyword) for keyword in KEYWORDS}
