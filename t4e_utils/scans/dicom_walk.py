"""Read a DICOM file: its header, and the array if that is simple.

A data set has 400,000 headers. Ordinary ones are walked through in one piece. This takes a sixth of
the time that pydicom needs with the same `specific_tags` (`benchmarks/reading.py`). All other files
are left to pydicom.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLETransferSyntaxes,
)
from pydicom.valuerep import EXPLICIT_VR_LENGTH_16, EXPLICIT_VR_LENGTH_32

from t4e_utils.scans.dicom_elements import KEYWORDS, READ_ERRORS, Elements, Header, tag_of
from t4e_utils.scans.problems import Problem, VolumeError

PIXEL_ELEMENTS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
WANTED = {int(tag_of(keyword)): tag_of(keyword) for keyword in KEYWORDS}
HEAD_BYTES = 1 << 15  # longer headers are left to pydicom
FIRST_PIXEL_TAG, PIXEL_TAG = 0x7FE00008, 0x7FE00010
PIXEL_TAGS = frozenset(int(tag_of(keyword)) for keyword in PIXEL_ELEMENTS)
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


def read_header(path: Path, problems: list[Problem], *, with_pixels: bool) -> Header:
    """Read a file, with or without its pixels; any file passes for DICOM.

    Args:
        path: of the file.
        problems: values that are not usable are added here, when the header is used.
        with_pixels: also read the pixels, see `plain_pixels` where `Header.pixels` has them.

    Raises:
        VolumeError: pydicom cannot make sense of the file.
    """
    try:
        header = _walked(path, problems, with_pixels)
        if header is not None:
            return header
        return _parsed(path, problems, with_pixels)
    except READ_ERRORS as error:
        # pydicom's own text may quote raw bytes of the header, who the patient is among them
        what = getattr(error, "strerror", None) or type(error).__name__
        raise VolumeError(
            "damaged", path, f"The file cannot be read ({what}): get it again."
        ) from error


def _parsed(path: Path, problems: list[Problem], with_pixels: bool) -> Header:
    """Return the header of any file as pydicom reads it."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        dataset = pydicom.dcmread(file, force=True, stop_before_pixels=not with_pixels)
        syntax = dataset.file_meta.get("TransferSyntaxUID")
        if syntax == DeflatedExplicitVRLittleEndian and not with_pixels:
            # what follows the header is inflated with it
            return _parsed(path, problems, with_pixels=True)
        ahead = None if with_pixels else _pixels_ahead(file, size, *dataset.original_encoding)
    if with_pixels:
        pixels = [keyword for keyword in PIXEL_ELEMENTS if keyword in dataset]
        ahead = max((len(dataset[keyword].value or b"") for keyword in pixels), default=None)
    return Header(dataset, syntax, path, problems, ahead is not None, ahead or 0)


def _pixels_ahead(file: BinaryIO, size: int, is_implicit: bool, is_little: bool) -> int | None:
    """Return the bytes of the pixels at which pydicom has stopped; None if the file has none."""
    order, start = "<" if is_little else ">", file.tell()
    head = file.read(12)
    if len(head) < 8:
        return None
    group, element = struct.unpack_from(f"{order}HH", head)
    if group << 16 | element not in PIXEL_TAGS:
        return None
    # with a value representation of four characters, two of them empty
    at = 4 if is_implicit else 8
    (length,) = struct.unpack_from(f"{order}I", head.ljust(12, b"\0"), at)
    return max(0, min(length, size - start - at - LENGTH.size))


def plain_pixels(header: Header) -> np.ndarray:
    """Return the pixels of a header that has them, (N, H, W) as stored.

    Bits above those stored say nothing about the value (PS3.5 8.1.1) and are left out.
    """
    bits, stored = header.integer("BitsAllocated"), header.integer("BitsStored")
    kind = "i" if header.integer("PixelRepresentation") else "u"
    pixels = np.frombuffer(header.pixels, f"<{kind}{bits // 8}", header.pixel_bytes * 8 // bits)
    if stored < bits:
        pixels = (pixels << (bits - stored)) >> (bits - stored)
    return pixels.reshape(-1, header.integer("Rows"), header.integer("Columns"))


def _walked(path: Path, problems: list[Problem], with_pixels: bool) -> Header | None:
    """Return the elements of `KEYWORDS` and the pixels of an ordinary file, None for all others.

    Ordinary is: preamble, explicit VR little endian, tags in ascending order, all lengths stated,
    no sequence among the elements wanted, and exactly as many grey pixels as the header says.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
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
            if tag != PIXEL_TAG or vr not in (b"OB", b"OW"):
                return None
            header = _ordinary(found, path, problems, min(length, size - start))
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
    return _ordinary(found, path, problems, None) if is_all else None


def _ordinary(
    found: Elements, path: Path, problems: list[Problem], stored: int | None
) -> Header | None:
    """Return the elements as a header if the transfer syntax is one of `ORDINARY_SYNTAXES`.

    `stored` are the bytes of the pixels, None where there are none.
    """
    syntax = found.get(tag_of("TransferSyntaxUID"))
    uid = "" if syntax is None else syntax.value.rstrip(b"\0 ").decode("ascii", "replace")
    return (
        Header(found, UID(uid), path, problems, stored is not None, stored or 0)
        if uid in ORDINARY_SYNTAXES
        else None
    )


def _with_pixels(header: Header, pixels: memoryview, length: int) -> Header | None:
    """Return the header with its pixels if these are as long as it says.

    Compressed pixels are only known to be there.
    """
    if header.stated_syntax != ExplicitVRLittleEndian:
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
