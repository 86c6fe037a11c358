"""What the header of a DICOM file says: attributes by keyword, of multi-frame images by frame.

Common kinds of value are converted here, all others are left to pydicom.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from t4e_utils.scans.dicom_keywords import GROUP_OF
from t4e_utils.scans.limits import refuse_too_large
from t4e_utils.scans.problems import Problem, VolumeError

LARGEST = 1e10  # a larger number is not valid; the largest pixel of 32 bits is below
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


class Elements(dict):
    """Elements by tag as they are stored: as much of pydicom's Dataset as a header needs."""

    get_item = dict.get

    def __init__(self, elements: Mapping[BaseTag, RawDataElement] | None = None) -> None:
        super().__init__(elements or {})
        self.integers: dict[str, int | None] = {}  # what was asked for before

    def __getitem__(self, tag: BaseTag) -> DataElement:
        return Dataset({tag: self.get(tag)})[tag]


class Header(NamedTuple):
    """The attributes of one file; a value that is not usable is reported and taken for missing."""

    dataset: Dataset | Elements
    stated_syntax: UID | None
    path: Path
    problems: list[Problem]
    has_pixels: bool
    stored_bytes: int  # of the pixels; where only the header was read, of those in the file
    pixels_at: int = 0  # where those that are compressed begin in the file
    # little-endian, exactly as many as the header says; None where the pixels are elsewhere
    pixels: memoryview | None = None
    # functional groups of one frame, then those shared by all frames
    groups: tuple[Dataset, ...] = ()

    @property
    def transfer_syntax(self) -> UID:
        """Return the transfer syntax; if it is not stated, what the elements were read as.

        Raises:
            VolumeError: the pixels are compressed, and the file does not say how.
        """
        if self.stated_syntax is not None:
            return self.stated_syntax
        dataset = self.dataset
        if "PixelData" in dataset and dataset["PixelData"].is_undefined_length:
            sentence = "The pixels are compressed, but the file does not say how: get it again."
            raise VolumeError("no_decoder", self.path, sentence)
        is_implicit, is_little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if is_little else ExplicitVRBigEndian
        return ImplicitVRLittleEndian if is_implicit else explicit

    @property
    def n_frames(self) -> int:
        """Return the number of images; 1 where the file does not say."""
        return max(1, self.integer("NumberOfFrames") or 1)

    @property
    def pixel_bytes(self) -> int:
        """Return how many bytes the pixels take when they are not compressed."""
        return math.ceil(self._image_bits * self.n_frames / 8)

    @property
    def _image_bits(self) -> int:
        size = [self.integer(keyword) or 1 for keyword in ("Rows", "Columns", "BitsAllocated")]
        return max(1, math.prod(size))

    @property
    def cell_type(self) -> np.dtype | None:
        """Return the type of a pixel as stored; None where it takes pydicom to read them."""
        bits, stored = self.integer("BitsAllocated"), self.integer("BitsStored") or 0
        sign, samples = self.integer("PixelRepresentation"), self.integer("SamplesPerPixel")
        is_big = self.transfer_syntax == ExplicitVRBigEndian
        if (
            bits not in (8, 16, 32)
            or not 0 < stored <= bits
            or sign not in (0, 1)
            or samples not in (None, 1)
        ):
            return None
        return np.dtype(f"{'>' if is_big else '<'}{'ui'[sign]}{bits // 8}")

    def refuse_too_large(self) -> None:
        """Refuse what the header says of the size if it is more than `limits` allows.

        Raises:
            VolumeError: it is more.
        """
        rows, columns, bits = (
            self.integer(keyword) or 1 for keyword in ("Rows", "Columns", "BitsAllocated")
        )
        refuse_too_large(self.path, self.n_frames, rows, columns, max(1, bits // 8))

    def correct_frames(self, n: int) -> None:
        """Take another number of images than the header says, and report it.

        Raises:
            VolumeError: these are more than `limits` allows.
        """
        expected = f"{n}, of which there are pixels,"
        self.left_out("NumberOfFrames", expected, f"{self.n_frames}")
        tag, text = tag_of("NumberOfFrames"), str(n).encode()
        self.dataset[tag] = RawDataElement(tag, "IS", len(text), text, 0, False, True)
        if isinstance(self.dataset, Elements):
            self.dataset.integers.clear()
        self.refuse_too_large()

    def count_frames(self, n_bytes: int) -> None:
        """Correct a number of images that is too small for so many bytes of pixels.

        That is where they are the pixels of a whole number of images, each of whole bytes.

        Raises:
            VolumeError: these are more than `limits` allows.
        """
        n, rest = divmod(8 * n_bytes, self._image_bits)
        # an odd number is padded
        if n > self.n_frames and rest in (0, 8) and self._image_bits % 8 == 0:
            self.correct_frames(n)

    def of_frame(self, i: int) -> Header:
        """Return the header for one frame; for an ordinary image that is the same header."""
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
            numbers = _numbers(value if isinstance(value, tuple) else (*np.ravel(value),))
        except READ_ERRORS:
            numbers = None
        if numbers is not None and len(numbers) == n:
            return numbers
        return self.left_out(keyword, f"{n} numbers")

    def number(self, keyword: str) -> float | None:
        """Return an attribute of one number."""
        try:
            value = self._find(keyword)
            if value is None or value == "":
                return None
            number = float(value)
        except READ_ERRORS:
            number = math.nan
        return number if abs(number) < LARGEST else self.left_out(keyword, "a number")

    def integer(self, keyword: str) -> int | None:
        """Return an attribute of one number without its fraction."""
        known = self.dataset.integers if type(self.dataset) is Elements else {}
        if keyword not in known:
            found = self.number(keyword)
            known[keyword] = None if found is None else int(found)
        return known[keyword]

    def values(self, keyword: str) -> tuple:
        """Return the values of an attribute as they are, none where it is missing or damaged."""
        try:
            value = self._find(keyword)
        except READ_ERRORS:
            return ()
        if value is None or value == "":
            return ()
        return (value,) if isinstance(value, str) or not isinstance(value, Sequence) else (*value,)

    def text(self, keyword: str) -> str:
        """Return an attribute as text, empty where it is missing."""
        try:
            return str(value_of(self.dataset, keyword) or "")
        except READ_ERRORS:
            return ""

    def left_out(self, keyword: str, expected: str, value: str = "") -> None:
        """Report an attribute that is not what it should be, with its value if it is sound."""
        stated = f"{keyword} of {value}" if value else keyword
        sentence = f"{stated} is not {expected} and was left out."
        self.problems.append(Problem("bad_value", str(self.path), sentence))

    def _find(self, keyword: str) -> Any:
        if self.groups and keyword in GROUP_OF:
            for group in self.groups:
                for item in value_of(group, GROUP_OF[keyword]) or ():
                    if (value := value_of(item, keyword)) is not None:
                        return value
        return value_of(self.dataset, keyword)


def value_of(dataset: Dataset | Elements, keyword: str) -> Any:
    """Return the value of an attribute or None, faster than `dataset.get(keyword)`.

    Numbers and codes that are well formed are read here.
    """
    tag, vr = _entry(keyword)
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


@cache
def tag_of(keyword: str) -> BaseTag:
    """Return the tag of an attribute."""
    return Tag(keyword)


@lru_cache(maxsize=4096)  # of a series, most values are equal
def _decimals(value: bytes) -> float | tuple[float, ...]:
    numbers = tuple(float(part) for part in value.split(b"\\"))
    return numbers if len(numbers) > 1 else numbers[0]


@lru_cache(maxsize=4096)
def _numbers(values: tuple) -> np.ndarray | None:
    """Return values as an array that is not to be changed, None if one of them is too large."""
    numbers = np.array(values, dtype=float).reshape(-1)
    numbers.flags.writeable = False
    return numbers if all(abs(number) < LARGEST for number in numbers.tolist()) else None


@cache
def _entry(keyword: str) -> tuple[BaseTag, str]:
    """Return tag and value representation."""
    return tag_of(keyword), dictionary_VR(tag_of(keyword))
