"""Stored slices: PNG files of 8-bit channels that anyone can open."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from t4e_utils import T4EError
from t4e_utils.files import atomic_write


def split_channels(stored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split stored slices into images and masks.

    Args:
        stored: 8-bit slices of shape (..., H, W, 3) or (..., 3, H, W).

    Returns:
        Images (..., H, W) and boolean masks (2, ..., H, W).
    """
    stored = np.asarray(stored)
    last = stored if stored.shape[-1] == 3 else np.moveaxis(stored, -3, -1)
    return last[..., 0], np.stack([last[..., 1], last[..., 2]]) > 127


class SliceError(T4EError):
    """A stored slice cannot be written or read."""


def write_slice(path: str | Path, image: np.ndarray, masks: np.ndarray) -> Path:
    """Write a slice as PNG: R image, G whole tumour, B enhancing tumour; complete or not at all.

    Args:
        path: ends in `.png`; its folder is made.
        image: (H, W) uint8.
        masks: (2, H, W), order WT, ET; stored as 0 and 255.

    Raises:
        SliceError: shapes or dtype do not fit.
        WriteError: the file cannot be written.
    """
    path, masks = Path(path), np.asarray(masks)
    if image.dtype != np.uint8 or image.ndim != 2 or masks.shape != (2, *image.shape):
        raise SliceError(
            f"{path.name}: a slice is a uint8 image (H, W) with masks (2, H, W), not "
            f"{image.dtype} {image.shape} with "
            f"{masks.shape}: convert it with intensity.to_uint8 and "
            "annotations.regions_from_labels."
        )
    wt, et = (mask.astype(bool) * np.uint8(255) for mask in masks)
    # cv2 orders colours B, G, R
    _, data = cv2.imencode(".png", cv2.merge([et, wt, np.ascontiguousarray(image)]))
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)
    return path


def read_slice(path: str | Path) -> np.ndarray:
    """Read a stored slice: (H, W, 3) uint8, image, whole tumour, enhancing tumour.

    Raises:
        SliceError: the file is missing, damaged or not a slice of three channels.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise SliceError(
            f"The slice {path} cannot be read ({error.strerror}): run the notebook that writes it."
        ) from error
    image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if image is None or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise SliceError(
            f"The slice {path} is damaged or no 8-bit PNG of three channels: delete it and "
            "write it again."
        )
    return np.ascontiguousarray(image[..., ::-1])
