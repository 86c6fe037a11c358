"""What a DICOM file says about the values of its pixels: which bits, what they mean, what is none.

Each image goes by its own attributes. Nothing here needs the pixels but `stored_bits`.
"""

from __future__ import annotations

import numpy as np
from pydicom.pixels import apply_modality_lut
from pydicom.uid import JPEG2000TransferSyntaxes, JPEGLSTransferSyntaxes

from t4e_utils.scans.dicom_elements import READ_ERRORS, Header, value_of
from t4e_utils.scans.problems import Problem, VolumeError, one_line

CORRECTED = {*JPEG2000TransferSyntaxes, *JPEGLSTransferSyntaxes}  # their streams state the bits


def rescale(header: Header) -> tuple[float, float]:
    """Return slope and intercept, PS3.3 C.11.1.1.2; a table, if there is one, stands for both."""
    slope, intercept = header.number("RescaleSlope"), header.number("RescaleIntercept") or 0.0
    if slope == 0:  # of anonymisers and converters; GDCM and ITK read it the same way
        sentence = "RescaleSlope is 0, which would leave one value everywhere: 1 was taken."
        header.problems.append(Problem("bad_value", str(header.path), sentence))
    return slope or 1.0, intercept


def lookup_table(header: Header) -> tuple[np.ndarray, int] | None:
    """Return the table in which stored pixels are looked up, PS3.3 C.11.1.1.1, if there is one.

    Returns:
        What the pixels mean, and the pixel that has the first entry.
    """
    try:
        if not (tables := value_of(header.dataset, "ModalityLUTSequence")):
            return None
        n, first, _ = tables[0].LUTDescriptor
        entries = apply_modality_lut(np.arange(first, first + (n or 1 << 16)), header.dataset)
    except READ_ERRORS as error:
        sentence = f"Its table of values cannot be used ({one_line(error)}): get the file again."
        raise VolumeError("damaged", header.path, sentence) from error
    cell = header.cell_type  # written as unsigned beside signed pixels, the same bits are meant
    is_wrapped = cell is not None and cell.kind == "i" and first >= 1 << 15
    return entries, first - (1 << 16) if is_wrapped else first


def report_high_bit(header: Header) -> None:
    """Report a HighBit that is not the highest bit of those stored."""
    high = header.integer("HighBit")
    if high is not None and high != (header.integer("BitsStored") or 0) - 1:
        sentence = "HighBit is not the highest of BitsStored: what is stored shows which is right."
        header.problems.append(Problem("bad_value", str(header.path), sentence))


def stored_bits(header: Header, pixels: np.ndarray) -> tuple[int, int]:
    """Return how far cells (N, H, W) are to be shifted up and then down to leave the stored bits.

    Bits beside those stored say nothing about the value (PS3.5 8.1.1). Older editions of the
    standard allowed them below; but many files have a wrong HighBit, and bits in that place.
    """
    bits, stored = pixels.dtype.itemsize * 8, header.integer("BitsStored") or 0
    cell = header.cell_type
    if cell is None or pixels.dtype.kind == "f":
        return 0, 0
    high = header.integer("HighBit") or 0
    below = (1 << max(0, high + 1 - stored)) - 1
    if stored < high + 1 <= bits and not any((image & below).any() for image in pixels):
        return bits - 1 - high, bits - stored
    if header.transfer_syntax in CORRECTED or stored == bits:
        return 0, 0
    low = -(1 << stored - 1) if cell.kind == "i" else 0
    if pixels.min() < low or pixels.max() >= 1 << stored:
        sentence = "Bits above BitsStored are set, which are no part of a value: left out."
        header.problems.append(Problem("bad_value", str(header.path), sentence))
    return bits - stored, bits - stored


def padding(header: Header) -> tuple[float, float, int] | None:
    """Return what stored pixels mean "outside of the image", PS3.3 C.7.5.1.1.2.

    A value may be written as signed beside unsigned pixels, and the other way round: the same bits
    are meant. One that the stored bits have no place for is looked for in the whole cell.

    Returns:
        The first value, how many more follow it, and of how many bits they are, 0 for floats; None
        where nothing is padding, or where no pixel can have the value.
    """
    value = header.integer("PixelPaddingValue")
    if value is None or (cell := header.cell_type) is None:
        return _float_padding(header)
    limit = header.integer("PixelPaddingRangeLimit")
    ends = [value, value if limit is None else limit]
    if max(ends) >= 1 << 15:  # written as unsigned; the attribute has 16 bits
        is_signed = cell.kind == "i"
        ends = [
            end - (1 << 16) * (end >= 1 << 15) if is_signed else end + (1 << 16) * (end < 0)
            for end in ends
        ]
    low, high = min(ends), max(ends)
    for bits in (header.integer("BitsStored"), cell.itemsize * 8):
        if -(1 << bits - 1) <= low and high < 1 << bits and high - low < 1 << bits:
            return low, high - low, bits
    return None


def _float_padding(header: Header) -> tuple[float, float, int] | None:
    if (header.integer("BitsAllocated") or 0) < 32:
        return None
    for keyword in ("FloatPixelPadding", "DoubleFloatPixelPadding"):
        if (value := header.number(f"{keyword}Value")) is not None:
            limit = header.number(f"{keyword}RangeLimit")
            limit = value if limit is None else limit
            return min(value, limit), abs(limit - value), 0
    return None
