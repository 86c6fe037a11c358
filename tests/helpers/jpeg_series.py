"""JPEG series for tests; the package only reads them."""

from __future__ import annotations

from pathlib import Path

import cv2

from t4e_utils.scans.volume import Volume


def write_jpeg_series(volume: Volume, folder: Path) -> None:
    """Write the slices of a uint8 volume as grey JPEG images, numbered from 1."""
    for number, image in enumerate(volume.array, start=1):
        path = str(folder / f"Image-{number}.jpg")
        assert cv2.imwrite(path, image, [cv2.IMWRITE_JPEG_QUALITY, 95])
