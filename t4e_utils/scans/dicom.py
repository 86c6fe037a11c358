"""One DICOM file as images: their pixels, and where these lie.

Everything leaves this module as `stacks.Frame`: pixels `(H, W)` as stored, RAS mm instead of
DICOM's LPS, and directions by array index instead of DICOM's order. There the first triple of Image
Orientation (Patient) is the direction of growing *column* index (DICOM PS3.3 C.7.6.2.1.1).
"""

from __future__ import annotations

import math
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.pixels import get_decoder
from pydicom.uid import UID, ExplicitVRBigEndian

from t4e_utils.scans.dicom_checks import NATIVE, check_pixels
from t4e_utils.scans.dicom_decoding import DecodingError, decode
from t4e_utils.scans.dicom_elements import READ_ERRORS, Header
from t4e_utils.scans.dicom_telling import told_by, without_pixels
from t4e_utils.scans.dicom_values import (
    lookup_table,
    padding,
    report_high_bit,
    rescale,
    stored_bits,
)
from t4e_utils.scans.dicom_walk import read_header
from t4e_utils.scans.folders import last_number
from t4e_utils.scans.geometry import LPS_TO_RAS
from t4e_utils.scans.problems import Problem, VolumeError, one_line, warnings_as_problems
from t4e_utils.scans.stacks import SLICE_MM, Frame

GREY = ("MONOCHROME1", "MONOCHROME2")
# The distance of pixels in mm. Films are scanned with 0.04, micro-CT of animals measures 0.01 and
# planar scintigraphy up to 10. Metres and micrometres fall out of this range.
PIXEL_MM = (0.01, 50.0)
LARGEST_POSITION_MM = 1e4  # no scanner is 10 m long


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
            "padding": padding(header),
            "is_inverted": header.text("PhotometricInterpretation") == "MONOCHROME1",
            "bits": (0, 0) if pixels is None else stored_bits(header, pixels),
            "table": lookup_table(header),
        }
        n, teller = header.n_frames, without_pixels(header)
        frames = [
            _frame(
                header.of_frame(i),
                i,
                is_only=n == 1,
                teller=teller,
                pixels=None if pixels is None else pixels[i],
                **values,
            )
            for i in range(n)
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
    if "MOSAIC" in header.text("ImageType"):  # of Siemens: many slices as the tiles of one image
        problems.append(
            Problem(
                "mosaic",
                str(path),
                "The image is a mosaic of slices, and was read as one: export one slice a file.",
            )
        )
    header.refuse_too_large()
    check_pixels(header)
    report_high_bit(header)
    return header


def _pixels(header: Header) -> np.ndarray:
    """Return the pixels of all frames (N, H, W) as stored, also bits that are not part of them."""
    syntax = header.transfer_syntax
    try:
        if syntax in NATIVE:
            pixels = _native_pixels(header, syntax)
        else:
            pixels = decode(header.path, header.pixel_bytes, header.n_frames)
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
    # bytes may be swapped in big endian, where they pass for words
    is_plain = cell is not None and (cell.itemsize > 1 or syntax != ExplicitVRBigEndian)
    # an odd number is padded
    if data is not None and is_plain and len(data) - header.pixel_bytes in (0, 1):
        return np.frombuffer(data, cell, header.pixel_bytes // cell.itemsize)
    options = {"allow_excess_frames": False, "correct_unused_bits": False}
    return get_decoder(syntax).as_array(header.dataset, **options)[0]


def _frame(header: Header, i: int, *, is_only: bool, teller: Header, **values: Any) -> Frame:
    position = header.numbers("ImagePositionPatient", 3)
    if position is not None and max(map(abs, position.tolist())) > LARGEST_POSITION_MM:
        position = header.left_out("ImagePositionPatient", "a place in a scanner")
    cosines = header.numbers("ImageOrientationPatient", 6)
    slope, intercept = (1.0, 0.0) if values["table"] else rescale(header)
    uid = header.text("SOPInstanceUID")
    return Frame(
        path=str(header.path),
        series=header.text("SeriesInstanceUID"),
        uid=uid if is_only or not uid else f"{uid} {i}",
        number=header.integer("InstanceNumber") if is_only else i + 1,
        file_number=last_number(header.path),
        position=None if position is None else position * LPS_TO_RAS,
        directions=None if cosines is None else _directions(header, *cosines.tolist()),
        spacing_mm=_pixel_mm(header),
        slice_mm=_slice_mm(header),
        slope=slope,
        intercept=intercept,
        told=partial(told_by, teller, header.groups),
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


def _pixel_mm(header: Header) -> tuple[float, float] | None:
    spacing = header.numbers("PixelSpacing", 2)
    if spacing is None:
        return None
    row_mm, column_mm = spacing.tolist()
    if min(row_mm, column_mm) < PIXEL_MM[0] or max(row_mm, column_mm) > PIXEL_MM[1]:
        stated = f"{row_mm:g} x {column_mm:g}"
        return header.left_out("PixelSpacing", _distance(PIXEL_MM), stated)
    return row_mm, column_mm


def _slice_mm(header: Header) -> float | None:
    for keyword in ("SpacingBetweenSlices", "SliceThickness"):
        mm = abs(header.number(keyword) or 0.0)  # some write it negative
        if SLICE_MM[0] <= mm <= SLICE_MM[1]:
            return mm
        if mm:
            header.left_out(keyword, _distance(SLICE_MM), f"{mm:g}")
    return None


def _distance(limits: tuple[float, float]) -> str:
    return f"a distance of {limits[0]:g} to {limits[1]:g} mm"


def _shape(header: Header) -> tuple[int, int]:
    return header.integer("Rows") or 0, header.integer("Columns") or 0


def _facts(header: Header) -> dict[str, Any]:
    return {
        "modality": header.text("Modality") or None,
        "transfer_syntax": header.transfer_syntax.name,
        "bits_stored": header.integer("BitsStored"),
    }
