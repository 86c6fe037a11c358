"""Whether the pixels of a DICOM file are whole and can be decoded, as far as its header shows it.

Reading and the inventory, which reads headers only, so count the same images.
"""

from __future__ import annotations

import os
import struct

from pydicom.pixels import get_decoder
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGExtended12Bit,
    RLELossless,
)

from t4e_utils.files import open_file
from t4e_utils.scans.dicom_elements import Header
from t4e_utils.scans.dicom_walk import PIXEL_ELEMENTS
from t4e_utils.scans.problems import Problem, VolumeError

NATIVE = {
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
}
ITEM, ITEM_TAG = struct.Struct("<HHI"), (0xFFFE, 0xE000)
MOST_ITEMS = 1 << 20  # more than images are allowed


def check_pixels(header: Header) -> None:
    """Refuse pixels that are not whole or cannot be decoded, and correct the number of frames.

    Raises:
        VolumeError: no decoder, too few bytes, or cells of no known kind.
    """
    path, syntax, stored = header.path, header.transfer_syntax, header.stored_bytes
    is_native = syntax in NATIVE
    if not is_native and (
        not _has_decoder(syntax)
        or (syntax == JPEGExtended12Bit and (header.integer("BitsStored") or 0) > 8)
    ):
        sentence = (
            f"There is no decoder for {syntax.name}: install python-gdcm, or have the "
            "file exported uncompressed."
        )
        raise VolumeError("no_decoder", path, sentence)
    _check_cells(header)
    if not is_native:
        _check_items(header)
        return
    needed = header.pixel_bytes
    if stored not in (needed, needed + 1):  # an odd number is padded
        needed = _count_frames(header)
    if stored < needed:
        sentence = f"The file has {stored} of {needed} bytes of pixels: get it again."
        raise VolumeError("truncated", path, sentence)


def _check_cells(header: Header) -> None:
    """Refuse a header that does not say in what cells the pixels are stored, PS3.5 8.1.1."""
    bits, stored = header.integer("BitsAllocated") or 0, header.integer("BitsStored") or 0
    is_cell = bits == 1 or (bits > 0 and bits % 8 == 0)
    is_float = bits in (32, 64)  # perhaps, and then the others are not stated
    sign = header.integer("PixelRepresentation")
    if not is_cell or not (is_float or (0 < stored <= bits and sign in (0, 1))):
        sentence = (
            "The pixels cannot be decoded, since BitsAllocated, BitsStored or PixelRepresentation "
            "does not say how they are stored: get the file again."
        )
        raise VolumeError("damaged", header.path, sentence)


def _count_frames(header: Header) -> int:
    """Correct the number of images by the pixels that are there; leave out what is more than that.

    Where `NumberOfFrames` is too small, the pixels may be those of a whole number of images.

    Returns:
        How many bytes the pixels take.
    """
    stored = header.stored_bytes
    header.count_frames(stored)
    needed = header.pixel_bytes
    if stored <= needed + 1:
        return needed
    sentence = f"{stored - needed} bytes of excess padding follow the pixels and were left out."
    header.problems.append(Problem("warning", str(header.path), sentence))
    for keyword in PIXEL_ELEMENTS:
        if keyword in header.dataset:
            element = header.dataset[keyword]
            element.value = element.value[:needed]
    return needed


def _check_items(header: Header) -> None:
    """Count the items that hold compressed pixels, PS3.5 A.4, and correct the number of images.

    Each image has one item at least, and with run-length encoding no more. Their places may stand
    in a table, which is the first item. Where it is empty, more items than images say nothing.

    Raises:
        VolumeError: there are fewer items than images, or the file ends within one.
    """
    n_items, at, n_places = -1, header.pixels_at, 0
    with open_file(header.path) as file:
        size = os.fstat(file.fileno()).st_size
        while at + ITEM.size <= size and n_items < MOST_ITEMS:
            file.seek(at)
            *tag, length = ITEM.unpack(file.read(ITEM.size))
            if tuple(tag) != ITEM_TAG:
                break
            at += ITEM.size + length
            n_places, n_items = (length // 4 if n_items < 0 else n_places), n_items + 1
    n = n_items if header.transfer_syntax == RLELossless else n_places
    if at > size or n_items < header.n_frames:
        sentence = f"The file ends before the pixels of its {header.n_frames} images: get it again."
        raise VolumeError("truncated", header.path, sentence)
    if header.n_frames < n <= n_items:
        header.correct_frames(n)


def _has_decoder(syntax: UID) -> bool:
    try:
        return get_decoder(syntax).is_available
    except NotImplementedError:
        return False
