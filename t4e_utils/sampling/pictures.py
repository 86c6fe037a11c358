"""Stored slices: PNG files of one to four channels that anyone can open.

Channels are `(H, W, C)`, 8 or 16 bit, in the order of their names: first the image, then what lies
on its grid (masks as 0 and the largest value, other windows, neighbours). In a file of three
channels red is the first, green the second and blue the third.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from t4e_utils.files import atomic_write, open_file
from t4e_utils.sampling import SamplingError

MAKER = "the notebook that writes it"  # where a caller does not name it
SIGNATURE = b"\x89PNG\r\n\x1a\n"  # the first bytes of a PNG file
MASK_THRESHOLD = 128  # of 255: resizing and turning blur the borders of masks
TO_FILE = {1: [0], 2: [1, 0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}  # OpenCV orders colours B, G, R, A


@dataclass(frozen=True, eq=False)
class Picture:
    """A slice with what is needed to draw it."""

    channels: np.ndarray  # (H, W, C)
    names: tuple[str, ...]  # of the channels, such as ("image", "WT", "ET")
    spacing_mm: tuple[float, float] = (1.0, 1.0)  # between rows, between columns
    plane: str | None = None
    title: str = ""

    @property
    def image(self) -> np.ndarray:
        """The first channel, (H, W)."""
        return self.channels[..., 0]

    @property
    def masks(self) -> np.ndarray:
        """The other channels as masks, (C - 1, H, W) bool."""
        return split_channels(self.channels)[1]

    @property
    def regions(self) -> tuple[str, ...]:
        """Names of the masks."""
        return self.names[1:]


def picture_of(
    row: Mapping[str, Any],
    root: Path,
    *,
    names: Sequence[str],
    title: str = "",
    made_by: str = MAKER,
) -> Picture:
    """Read the picture of a row of a table of slices.

    Args:
        row: with path, row_mm, column_mm and plane.
        root: that the path is relative to.
        names: of the channels.
        title: for drawings.
        made_by: as for `read_picture`.

    Raises:
        SamplingError: as `read_picture`.
    """
    channels = read_picture(root / row["path"], n_channels=len(names), made_by=made_by)
    return Picture(channels, tuple(names), (row["row_mm"], row["column_mm"]), row["plane"], title)


def stack_channels(image: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return an image (..., H, W) uint8 and masks (R, ..., H, W) as channels (..., H, W, 1 + R)."""
    return np.stack([image, *(np.asarray(mask, bool) * np.uint8(255) for mask in masks)], axis=-1)


def split_channels(channels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return image (..., H, W) and masks (R, ..., H, W) bool of channels (..., H, W, 1 + R)."""
    return channels[..., 0], np.moveaxis(channels[..., 1:], -1, 0) >= MASK_THRESHOLD


def write_picture(path: str | Path, channels: np.ndarray) -> Path:
    """Write a picture as PNG, complete or not at all.

    Args:
        path: ends in `.png`; its folder is made.
        channels: (H, W, C) uint8 or uint16, one to four; PNG has no place for two, so a third of
            zeros is stored with them.

    Raises:
        SamplingError: shape or dtype do not fit.
        WriteError: the file cannot be written.
    """
    path = Path(path)
    is_picture = channels.ndim == 3 and channels.shape[2] in TO_FILE and channels.size
    if not is_picture or channels.dtype not in (np.uint8, np.uint16):
        raise SamplingError(
            f"{path.name}: a picture is (H, W, 1 to 4) uint8 or uint16, not {channels.dtype} "
            f"{channels.shape}: convert it with intensity.to_uint8 and stack the channels last."
        )
    if channels.shape[2] == 2:
        channels = np.concatenate([channels, np.zeros_like(channels[..., :1])], axis=2)
    _, data = cv2.imencode(".png", channels[..., TO_FILE[channels.shape[2]]])
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)
    return path


def read_picture(path: str | Path, *, n_channels: int = 3, made_by: str = MAKER) -> np.ndarray:
    """Read a stored picture, (H, W, C) uint8 or uint16.

    Args:
        path: of the PNG file.
        n_channels: that it must have.
        made_by: the notebook that writes what is missing again, named in the error.

    Raises:
        SamplingError: the file is missing, damaged or has another number of channels.
    """
    try:
        with open_file(path) as file:
            data = np.fromfile(file, np.uint8)
    except FileNotFoundError as error:
        raise SamplingError(f"The slice {path} is not there: run {made_by} again.") from error
    except OSError as error:
        raise SamplingError(
            f"The slice {path} cannot be read ({error.strerror}): make it readable, or delete it "
            f"and run {made_by} again."
        ) from error
    image = _decoded(data)
    found = 0 if image is None else 1 if image.ndim == 2 else image.shape[2]
    if found != max(n_channels, 3 if n_channels == 2 else 1):
        raise SamplingError(
            f"The slice {path} is damaged or no PNG of {n_channels} channels: delete it and run "
            f"{made_by} again, it writes what is missing."
        )
    image = image.reshape(*image.shape[:2], found)[..., TO_FILE[found]]
    return np.ascontiguousarray(image[..., :n_channels])


def _decoded(data: np.ndarray) -> np.ndarray | None:
    """Return what a PNG file holds; None if it is damaged or none: its checksums are looked at."""
    if data[:8].tobytes() != SIGNATURE:
        return None
    try:
        return cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except cv2.error:  # it claims more pixels than OpenCV takes
        return None


def choose_channels(pictures: np.ndarray, chosen: Sequence[int]) -> np.ndarray:
    """Return channels (..., C) of pictures by number; -1 is a channel of zeros.

    As a control, (0, 0, 0) leaves a network the image alone, and (-1, 1, 2) takes it away.
    """
    if list(chosen) == list(range(pictures.shape[-1])):
        return pictures
    return pictures[..., [max(k, 0) for k in chosen]] * np.array([k >= 0 for k in chosen], np.uint8)
