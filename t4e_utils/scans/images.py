"""A folder of JPEG images as one volume, of which nothing is known but its values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from t4e_utils.scans.folders import files_of, last_number
from t4e_utils.scans.geometry import display_affine
from t4e_utils.scans.grouping import largest_group
from t4e_utils.scans.problems import Problem, VolumeError, merged, nothing_read
from t4e_utils.scans.stacks import Frame
from t4e_utils.scans.volume import SPACING_KEYS, Volume, in_display

JPEG_SUFFIXES = (".jpg", ".jpeg")
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"  # ITU-T T.81 B.1.1.3
JPEG_TRAILER_BYTES = 1024  # some programs write more after the end


def read_jpeg_series(folder: str | Path) -> Volume:
    """Read a folder of JPEG images as one volume, ordered by the last number in the file names.

    Nothing is known about the geometry: 1 mm spacing and the affine of an axial display are made
    up. Images of another size than most, and damaged ones, are left out and reported.

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
            number = last_number(file)
            frames.append(Frame(str(file), image.shape, file_number=number, pixels=image))
        except VolumeError as error:
            problems.append(error.as_problem())
    if not frames:
        raise nothing_read(where, problems)
    kept, mixed = largest_group(frames, where)
    kept.sort(key=lambda frame: -1 if frame.file_number is None else frame.file_number)
    array = np.stack([frame.pixels for frame in kept])
    problems = merged([*problems, *mixed])
    meta = {"sorted_by": "file number", "n_files": len(files), "problems": problems}
    return in_display(array, display_affine("axial"), "axial", meta)


def jpeg_series_header(folder: str | Path) -> dict[str, Any]:
    """Return what is known of a folder of JPEG images without reading all, from the middle one.

    Returns:
        The keys of `reading.series_header`; None for all that a JPEG image does not say.

    Raises:
        VolumeError: no folder, no files, or the image cannot be read.
    """
    files = files_of(folder, JPEG_SUFFIXES)
    rows, columns = _jpeg(files[len(files) // 2]).shape
    return {
        "n_files": len(files),
        "n_slices": len(files),
        "plane": None,
        "rows": rows,
        "columns": columns,
        **dict.fromkeys(SPACING_KEYS),
        "modality": None,
        "transfer_syntax": "JPEG",
        "bits_stored": 8,
        "problems": (),
    }


def _jpeg(path: Path) -> np.ndarray:
    """Return an image (H, W) in grey.

    What ends too early is refused, since decoders may fill it up with grey.
    """
    data = path.read_bytes()
    if data.startswith(JPEG_START) and JPEG_END not in data[-JPEG_TRAILER_BYTES:]:
        raise VolumeError("truncated", path, "The image ends too early: get the file again.")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE) if data else None
    except cv2.error:
        image = None
    if image is None:
        raise VolumeError("damaged", path, "The image cannot be decoded: get the file again.")
    return image
