"""A folder of JPEG images as one volume."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from t4e_utils.scans import folders, stacks
from t4e_utils.scans.folders import files_of, no_images
from t4e_utils.scans.geometry import display_affine
from t4e_utils.scans.problems import Problem, VolumeError, merged
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
            frames.append(
                stacks.Frame(
                    str(file), image.shape, file_number=folders.last_number(file), pixels=image
                )
            )
        except VolumeError as error:
            problems.append(error.as_problem())
    if not frames:
        raise no_images(where, problems)
    kept, mixed = stacks.largest_group(frames, where)
    kept.sort(key=lambda frame: -1 if frame.file_number is None else frame.file_number)
    array = np.stack([frame.pixels for frame in kept])
    meta = {
        "sorted_by": "file number",
        "n_files": len(files),
        "problems": merged([*problems, *mixed]),
    }
    return in_display(array, display_affine("axial"), "axial", meta)


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


def jpeg_header(files: Sequence[Path]) -> dict[str, Any]:
    image = _jpeg(files[len(files) // 2])
    facts = {
        "plane": None,
        "rows": image.shape[0],
        "columns": image.shape[1],
        **dict.fromkeys(SPACING_KEYS),
    }
    return {
        "n_files": len(files),
        "n_slices": len(files),
        **facts,
        "modality": None,
        "transfer_syntax": "JPEG",
        "bits_stored": 8,
        "problems": (),
    }


def write_jpeg_series(
    volume: Volume, folder: str | Path, *, name_pattern: str = "Image-{}.jpg"
) -> None:
    """Write the slices of a uint8 volume as grey JPEG images, numbered from 1."""
    if volume.array.dtype != np.uint8:
        raise VolumeError(
            "out_of_range",
            folder,
            f"JPEG takes uint8, not {volume.array.dtype}: use intensity.to_uint8.",
        )
    Path(folder).mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(volume.array, start=1):
        path = Path(folder) / name_pattern.format(number)
        path.write_bytes(
            cv2.imencode(".jpg", np.ascontiguousarray(image), [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
        )
