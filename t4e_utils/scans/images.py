"""A folder of JPEG images as one volume, of which nothing is known but its values."""

from __future__ import annotations

import io
import math
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from t4e_utils.files import open_file
from t4e_utils.scans.folders import files_of, last_number
from t4e_utils.scans.geometry import display_affine
from t4e_utils.scans.grouping import largest_group
from t4e_utils.scans.limits import LARGEST_IMAGE
from t4e_utils.scans.problems import Problem, VolumeError, merged, nothing_read
from t4e_utils.scans.stacks import Frame
from t4e_utils.scans.volume import SPACING_KEYS, Volume, in_display

JPEG_SUFFIXES = (".jpg", ".jpeg")
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"  # ITU-T T.81 B.1.1.3
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")  # what is called .jpg by mistake, too
JPEG_TRAILER_BYTES = 1024  # some programs write more after the end


def read_jpeg_series(folder: str | Path) -> Volume:
    """Read a folder of JPEG images as one volume, ordered by the last number in the file names.

    Nothing is known about the geometry: 1 mm spacing and the affine of an axial display are made
    up. Images of another size than most, and damaged ones, are left out and reported; so are those
    that claim more than `LARGEST_IMAGE`.

    Returns:
        uint8, grey. Meta: plane, sorted_by ("file number"), n_files, problems.

    Raises:
        VolumeError: no folder, no files, no readable image.
    """
    files, where = files_of(folder, JPEG_SUFFIXES), str(folder)
    problems: list[Problem] = []
    frames = []
    for file in files:
        try:
            image = _jpeg(file)
        except VolumeError as error:
            problems.append(error.as_problem())
            continue
        number = last_number(file)
        frames.append(Frame(str(file), image.shape, file_number=number, pixels=image))
    if not frames:
        raise nothing_read(where, problems)
    kept, mixed = largest_group(frames, where)
    kept.sort(key=lambda frame: -1 if frame.file_number is None else frame.file_number)
    array = np.stack([frame.pixels for frame in kept])
    problems = merged([*problems, *mixed])
    meta = {"sorted_by": "file number", "n_files": len(files), "problems": problems}
    return in_display(array, display_affine("axial"), "axial", meta)


def jpeg_series_header(folder: str | Path) -> dict[str, Any]:
    """Return what is known of a folder of JPEG images without reading all.

    From the one in the middle, or the nearest to it that can be read.

    Returns:
        The keys of `reading.series_header`; None for all that a JPEG image does not say.

    Raises:
        VolumeError: no folder, no files, or no image can be read.
    """
    files, problems = files_of(folder, JPEG_SUFFIXES), []
    middle = len(files) // 2
    for k in sorted(range(len(files)), key=lambda k: abs(k - middle)):
        try:
            rows, columns = _jpeg(files[k]).shape
            break
        except VolumeError as error:
            problems.append(error.as_problem())
    else:
        raise nothing_read(str(folder), problems)
    return {
        "n_files": len(files),
        "n_slices": len(files) - len(problems),
        "plane": None,
        "rows": rows,
        "columns": columns,
        **dict.fromkeys(SPACING_KEYS),
        "modality": None,
        "transfer_syntax": "JPEG",
        "bits_stored": 8,
        "problems": merged(problems),
    }


def _jpeg(path: Path) -> np.ndarray:
    """Return an image (H, W) in grey.

    What ends too early is refused, since decoders may fill it up with grey.

    Raises:
        VolumeError: no file, no image, a damaged one, or one of more than `LARGEST_IMAGE`.
    """
    try:
        with open_file(path) as file:
            data = file.read()
    except OSError as error:
        sentence = f"The file cannot be read ({error.strerror}): correct the path or its rights."
        raise VolumeError("damaged", path, sentence) from error
    if data.startswith(JPEG_START) and JPEG_END not in data[-JPEG_TRAILER_BYTES:]:
        raise VolumeError("truncated", path, "The image ends too early: get the file again.")
    try:
        if _n_pixels(data) > LARGEST_IMAGE:
            sentence = (
                f"The image claims more than {LARGEST_IMAGE:,} pixels: take it out of the folder."
            )
            raise VolumeError("too_large", path, sentence)
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    except (cv2.error, OSError, SyntaxError, ValueError):  # the last three by Pillow
        image = None
    if image is None:
        raise VolumeError("damaged", path, "The image cannot be decoded: get the file again.")
    return image


def _n_pixels(data: bytes) -> float:
    """Return the number of pixels as the header of an image says, without decoding it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a number that is large
        try:
            width, height = Image.open(io.BytesIO(data), formats=FORMATS).size
        except Image.DecompressionBombError:
            return math.inf
    return width * height
