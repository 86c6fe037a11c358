"""Read a DICOM file: its header, and the array if that is simple.

A data set has 400,000 headers. Ordinary ones are walked through in one piece. This takes a sixth of
the time that pydicom needs with the same `specific_tags` (`benchmarks/reading.py`). All other files
are left to pydicom.
"""

from __future__ import annotations

import os
import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.filereader import read_dataset
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

from t4e_utils.files import open_file
from t4e_utils.scans.dicom_elements import READ_ERRORS, Elements, Header, tag_of
from t4e_utils.scans.dicom_keywords import KEYWORDS
from t4e_utils.scans.limits import LARGEST_FILE
from t4e_utils.scans.problems import Problem, VolumeError

PIXEL_ELEMENTS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
WANTED = {int(tag_of(keyword)): tag_of(keyword) for keyword in KEYWORDS}
HEAD_BYTES = 1 << 15  # longer headers are left to pydicom
LONGEST_HEADER = 1 << 24  # bytes; that of an image with 1,000 frames has about a tenth
LONGEST_FILE = LONGEST_HEADER + LARGEST_FILE  # bytes
META_GROUP, SYNTAX_ELEMENT = 0x0002, 0x0010
FIRST_PIXEL_TAG, PIXEL_TAG = 0x7FE00008, 0x7FE00010
PIXEL_TAGS = frozenset(int(tag_of(keyword)) for keyword in PIXEL_ELEMENTS)
UNDEFINED_LENGTH = 0xFFFFFFFF
SHORT_VRS = {str(vr).encode(): str(vr) for vr in EXPLICIT_VR_LENGTH_16}
LONG_VRS = {str(vr).encode(): str(vr) for vr in EXPLICIT_VR_LENGTH_32}
ELEMENT, LENGTH = struct.Struct("<HH2sH"), struct.Struct("<I")
LONG = struct.Struct("<HH2s2xI")  # an element of `LONG_VRS`
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
        with_pixels: also read the pixels.

    Raises:
        VolumeError: pydicom cannot make sense of the file, or it is too large.
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
    with open_file(path) as file:
        size, start = os.fstat(file.fileno()).st_size, _deflated_from(file.read(HEAD_BYTES))
        if size > LONGEST_FILE:
            sentence = f"The file has {size / 1e9:.1f} GB: take it out of the folder."
            raise VolumeError("too_large", path, sentence)
        file.seek(start or 0)
        if start is not None:
            return _inflated(path, file.read(), problems, with_pixels)
        dataset = pydicom.dcmread(file, force=True, stop_before_pixels=not with_pixels)
        start = file.tell() + LONG.size
        ahead = None if with_pixels else _pixels_ahead(file, size, *dataset.original_encoding)
    if with_pixels:
        pixels = [dataset[keyword] for keyword in PIXEL_ELEMENTS if keyword in dataset]
        ahead = max((len(element.value or b"") for element in pixels), default=None)
        start = pixels[0].file_tell if pixels else 0
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if not isinstance(syntax, str | None):
        raise TypeError("several transfer syntaxes")
    return Header(dataset, syntax, path, problems, ahead is not None, ahead or 0, start)


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


def _deflated_from(head: bytes) -> int | None:
    """Return where the deflated elements of a file begin; None if it is no such file."""
    place, syntax = 132 if head[128:132] == b"DICM" else 0, b""
    while place + 12 <= len(head):
        group, element, vr, length = ELEMENT.unpack_from(head, place)
        if group != META_GROUP:
            break
        start = place + 8
        if vr in LONG_VRS:
            start, (length,) = place + 12, LENGTH.unpack_from(head, place + 8)
        place = start + length
        if element == SYNTAX_ELEMENT:
            syntax = head[start:place].rstrip(b"\0 ")
    return place if syntax == DeflatedExplicitVRLittleEndian.encode() else None


def _inflated(path: Path, data: bytes, problems: list[Problem], with_pixels: bool) -> Header:
    """Return the header of deflated elements, PS3.5 A.5, inflated no further than it says itself.

    A file of 1 MB can be inflated to 1 GB; pydicom inflates all of it, also for a header.
    """
    stream, syntax = zlib.decompressobj(-zlib.MAX_WBITS), DeflatedExplicitVRLittleEndian
    head = stream.decompress(data, LONGEST_HEADER)
    elements = BytesIO(head)
    dataset = read_dataset(elements, False, True, stop_when=_is_pixels)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    start, tail = elements.tell() + LONG.size, stream.unconsumed_tail
    header = Header(dataset, syntax, path, problems, start <= len(head), 0)
    header.refuse_too_large()
    if not header.has_pixels:
        return header
    group, element, vr, length = LONG.unpack_from(head, start - LONG.size)
    if header.pixel_bytes + 1 < length < UNDEFINED_LENGTH:  # an odd number is padded
        header.count_frames(length)
    n_bytes = n_wanted = header.pixel_bytes
    if length <= n_bytes + 1:
        n_wanted = length
    else:
        sentence = f"{length} bytes of pixels are stored: {length - n_bytes} were left out."
        problems.append(Problem("bad_value", str(path), sentence))
    pixels = head[start : start + n_wanted]
    if len(pixels) < n_wanted:
        pixels += stream.decompress(tail, n_wanted - len(pixels))
    if with_pixels:
        dataset.add_new((group, element), vr.decode(), pixels)
    return header._replace(stored_bytes=len(pixels))


def _is_pixels(tag: int, vr: str | None, length: int) -> bool:
    return tag in PIXEL_TAGS


def _walked(path: Path, problems: list[Problem], with_pixels: bool) -> Header | None:
    """Return the elements of `KEYWORDS` and the pixels of an ordinary file, None for all others.

    Ordinary is: preamble, explicit VR little endian, tags in ascending order, all lengths stated,
    no sequence among the elements wanted, and exactly as many grey pixels as the header says.
    """
    with open_file(path, buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if size > LONGEST_FILE:
            return None
        head = file.read(-1 if with_pixels else HEAD_BYTES)
    if head[128:132] != b"DICM":
        return None
    found, place, before = Elements(), 132, 0
    while place + 8 <= len(head):
        group, element, vr, length = ELEMENT.unpack_from(head, place)
        tag = group << 16 | element
        if (name := SHORT_VRS.get(vr)) is not None:
            start = place + 8
        elif (name := LONG_VRS.get(vr)) is not None and place + 12 <= len(head):
            start, (length,) = place + 12, LENGTH.unpack_from(head, place + 8)
        else:
            return None
        if tag >= FIRST_PIXEL_TAG:
            if tag != PIXEL_TAG or vr not in (b"OB", b"OW"):
                return None
            header = _ordinary(found, path, problems, min(length, size - start), start)
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
                wanted, name, length, head[start:place], start, False, True
            )
        before = tag
    # a header without pixels, read to its end
    is_all = place == len(head) < HEAD_BYTES and not with_pixels
    return _ordinary(found, path, problems, None) if is_all else None


def _ordinary(
    found: Elements, path: Path, problems: list[Problem], stored: int | None, start: int = 0
) -> Header | None:
    """Return the elements as a header if the transfer syntax is one of `ORDINARY_SYNTAXES`.

    `stored` are the bytes of the pixels, None where there are none, `start` where they begin.
    """
    syntax = found.get(tag_of("TransferSyntaxUID"))
    uid = "" if syntax is None else syntax.value.rstrip(b"\0 ").decode("ascii", "replace")
    return (
        Header(found, UID(uid), path, problems, stored is not None, stored or 0, start)
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
    return header._replace(pixels=pixels) if is_whole and header.cell_type else None
