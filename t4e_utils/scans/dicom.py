"""One DICOM file as images: their pixels, and where these lie.

Everything leaves this module as `stacks.Frame`: pixels `(H, W)` as stored, RAS mm instead of
DICOM's LPS, and directions by array index instead of DICOM's order. There the first triple of Image
Orientation (Patient) is the direction of growing *column* index (DICOM PS3.3 C.7.6.2.1.1).
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.pixels import apply_modality_lut, get_decoder
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGExtended12Bit,
    JPEGLSTransferSyntaxes,
)

from t4e_utils.scans.dicom_decoding import DecodingError, decode
from t4e_utils.scans.dicom_elements import READ_ERRORS, Header, value_of
from t4e_utils.scans.dicom_walk import read_header
from t4e_utils.scans.folders import last_number
from t4e_utils.scans.geometry import LPS_TO_RAS
from t4e_utils.scans.problems import Problem, VolumeError, one_line, warnings_as_problems
from t4e_utils.scans.stacks import Frame

GREY = ("MONOCHROME1", "MONOCHROME2")
NATIVE = {
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
}
CORRECTED = {*JPEG2000TransferSyntaxes, *JPEGLSTransferSyntaxes}  # their streams state the bits


def read_file(
    path: Path, problems: list[Problem], *, with_pixels: bool = True
) -> tuple[list[Frame], dict[str, Any]]:
    """Read the images of one file.

    Args:
        path: any file; suffix, preamble and meta header may be missing.
        problems: what is odd but does not prevent reading is added here.
        with_pixels: false reads the header only.

    Returns:
        One frame, or those of a multi-frame image in their order, and the facts modality,
        transfer_syntax and bits_stored.

    Raises:
        VolumeError: the file is no readable grey image.
    """
    with warnings_as_problems(path, problems):
        header = _image_header(path, problems, with_pixels)
        pixels = _pixels(header) if with_pixels else None
        values = {
            "shape": _shape(header),
            "padding": _padding(header),
            "is_inverted": header.text("PhotometricInterpretation") == "MONOCHROME1",
            "bits": (0, 0) if pixels is None else _bits(header, pixels),
            "table": _table(header),
        }
        n_frames = header.n_frames
        frames = [
            _frame(
                header.of_frame(i),
                i,
                is_only=n_frames == 1,
                pixels=None if pixels is None else pixels[i],
                **values,
            )
            for i in range(n_frames)
        ]
        return frames, _facts(header)


def _image_header(path: Path, problems: list[Problem], with_pixels: bool) -> Header:
    """Read a file and refuse it if it is no grey image."""
    header = read_header(path, problems, with_pixels=with_pixels)
    if not (header.has_pixels and all(_shape(header))):
        raise VolumeError("no_pixels", path, "The file is no image: take it out of the folder.")
    kind = header.text("PhotometricInterpretation")
    if kind not in GREY or header.integer("SamplesPerPixel") not in (None, 1):
        sentence = (
            f"The image has colours, or does not say that it is grey ({kind!r}): only "
            "grey images are scans."
        )
        raise VolumeError("colour_image", path, sentence)
    stored, n_bytes = header.stored_bytes, header.size_within_limits()
    if stored < n_bytes and header.transfer_syntax in NATIVE:
        sentence = f"The file has {stored} of {n_bytes} bytes of pixels: get it again."
        raise VolumeError("truncated", path, sentence)
    if (high := header.integer("HighBit")) is not None and high != _usual_high_bit(header):
        sentence = "HighBit is not the highest of BitsStored: what is stored shows which is right."
        problems.append(Problem("bad_value", str(path), sentence))
    if "MOSAIC" in header.text("ImageType"):  # of Siemens: many slices as the tiles of one image
        problems.append(
            Problem(
                "mosaic",
                str(path),
                "The image is a mosaic of slices, and was read as one: export one slice a file.",
            )
        )
    return header


def _pixels(header: Header) -> np.ndarray:
    """Return the pixels of all frames (N, H, W) as stored, also bits that are not part of them."""
    syntax = header.transfer_syntax
    try:
        pixels = (
            _native_pixels(header, syntax) if syntax in NATIVE else _decoded_pixels(header, syntax)
        )
        pixels = pixels.reshape(header.n_frames, *_shape(header))
    except (*READ_ERRORS, DecodingError) as error:
        raise VolumeError(
            "damaged",
            header.path,
            f"The pixels cannot be decoded ({one_line(error)}): get the file again.",
        ) from error
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        sentence = "Some values are not finite: they were set to 0."
        header.problems.append(Problem("not_finite", str(header.path), sentence))
        pixels = np.where(np.isfinite(pixels), pixels, 0)
    return pixels


def _native_pixels(header: Header, syntax: UID) -> np.ndarray:
    data, cell = header.pixels, header.cell_type
    if data is None and cell is not None:
        data = header.dataset.get("PixelData")
    # an odd number is padded
    if data is not None and cell is not None and len(data) - header.pixel_bytes in (0, 1):
        return np.frombuffer(data, cell, header.pixel_bytes // cell.itemsize)
    options = {"allow_excess_frames": False, "correct_unused_bits": False}
    return get_decoder(syntax).as_array(header.dataset, **options)[0]


def _decoded_pixels(header: Header, syntax: UID) -> np.ndarray:
    if not _has_decoder(syntax) or (
        syntax == JPEGExtended12Bit and (header.integer("BitsStored") or 0) > 8
    ):
        sentence = (
            f"There is no decoder for {syntax.name}: install python-gdcm, or have the "
            "file exported uncompressed."
        )
        raise VolumeError("no_decoder", header.path, sentence)
    return decode(header.path, header.pixel_bytes, header.n_frames)


def _has_decoder(syntax: UID) -> bool:
    try:
        return get_decoder(syntax).is_available
    except NotImplementedError:
        return False


def _frame(header: Header, i: int, *, is_only: bool, **values: Any) -> Frame:
    position = header.numbers("ImagePositionPatient", 3)
    cosines = header.numbers("ImageOrientationPatient", 6)
    spacing = header.numbers("PixelSpacing", 2)
    slope, intercept = (1.0, 0.0) if values["table"] else _rescale(header)
    return Frame(
        path=str(header.path),
        series=header.text("SeriesInstanceUID"),
        number=header.integer("InstanceNumber") if is_only else i + 1,
        file_number=last_number(header.path),
        position=None if position is None else position * LPS_TO_RAS,
        directions=None if cosines is None else _directions(header, *cosines.tolist()),
        spacing_mm=None
        if spacing is None or (spacing <= 0).any()
        else (float(spacing[0]), float(spacing[1])),
        slice_mm=_slice_mm(header),
        slope=slope,
        intercept=intercept,
        **values,
    )


def _directions(header: Header, *cosines: float) -> np.ndarray | None:
    """Return unit vectors (3, 2) of growing row and column index; None if they span no plane."""
    directions = _unit_vectors(*cosines)
    if directions is None:
        sentence = "ImageOrientationPatient is not two perpendicular directions and was left out."
        header.problems.append(Problem("bad_value", str(header.path), sentence))
    return directions


@lru_cache(maxsize=1024)  # of a series, most are equal
def _unit_vectors(*cosines: float) -> np.ndarray | None:
    along_row, along_column = np.reshape(cosines, (2, 3)) * LPS_TO_RAS
    lengths = math.hypot(*along_row), math.hypot(*along_column)
    if min(lengths) < 0.9 or abs(along_row @ along_column) > 0.1:
        return None
    directions = np.column_stack([along_column / lengths[1], along_row / lengths[0]])
    directions.flags.writeable = False
    return directions


def _slice_mm(header: Header) -> float | None:
    stated = (header.number(keyword) for keyword in ("SpacingBetweenSlices", "SliceThickness"))
    return next((abs(mm) for mm in stated if mm), None)


def _shape(header: Header) -> tuple[int, int]:
    return header.integer("Rows") or 0, header.integer("Columns") or 0


def _rescale(header: Header) -> tuple[float, float]:
    """Return slope and intercept, PS3.3 C.11.1.1.2; a table, if there is one, stands for both."""
    slope, intercept = header.number("RescaleSlope"), header.number("RescaleIntercept") or 0.0
    if slope == 0:  # of anonymisers and converters; GDCM and ITK read it the same way
        sentence = "RescaleSlope is 0, which would leave one value everywhere: 1 was taken."
        header.problems.append(Problem("bad_value", str(header.path), sentence))
    return slope or 1.0, intercept


def _table(header: Header) -> tuple[np.ndarray, int] | None:
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


def _usual_high_bit(header: Header) -> int:
    return (header.integer("BitsStored") or 0) - 1


def _bits(header: Header, pixels: np.ndarray) -> tuple[int, int]:
    """Return how far a cell is to be shifted up and then down to leave the stored bits only.

    Bits beside those stored say nothing about the value (PS3.5 8.1.1). Older editions of the
    standard allowed them below; but many files have a wrong HighBit, and bits in that place.
    """
    bits, stored = pixels.dtype.itemsize * 8, header.integer("BitsStored") or 0
    if header.cell_type is None or pixels.dtype.kind == "f":
        return 0, 0
    high = header.integer("HighBit") or 0
    below = (1 << max(0, high + 1 - stored)) - 1
    if stored < high + 1 <= bits and not any((image & below).any() for image in pixels):
        return bits - 1 - high, bits - stored
    is_corrected = header.transfer_syntax in CORRECTED
    return (0, 0) if is_corrected else (bits - stored, bits - stored)


def _padding(header: Header) -> tuple[float, float, int] | None:
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
    limit = value if limit is None else limit
    if cell.kind == "i":  # the attribute itself has 16 bits
        value, limit = (end - (1 << 16) if end >= 1 << 15 else end for end in (value, limit))
    for bits in (header.integer("BitsStored"), cell.itemsize * 8):
        if all(-(1 << bits - 1) <= end < 1 << bits for end in (value, limit)):
            n_more = (limit - value) % (1 << bits)
            is_upward = n_more < 1 << bits - 1  # the shorter way round
            return (value, n_more, bits) if is_upward else (limit, (1 << bits) - n_more, bits)
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


def _facts(header: Header) -> dict[str, Any]:
    return {
        "modality": header.text("Modality") or None,
        "transfer_syntax": header.transfer_syntax.name,
        "bits_stored": header.integer("BitsStored"),
    }
