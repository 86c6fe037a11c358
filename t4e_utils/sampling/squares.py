"""Slices of any shape to the squares that a network takes, and back.

Images are uint8 or float32, `(N, H, W)` or `(N, H, W, C)`.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Square:
    """The square that a network sees of a slice."""

    size: int  # pixels per side
    is_stretched: bool = False  # resized as it is; otherwise padded with zeros to a square first
    # magnification about the centre: resized to zoom * size, rounded down, then the centre cut out
    zoom: float = 1.0

    @property
    def side(self) -> int:
        """Side of the whole slice before the centre is cut out, pixels."""
        return int(self.zoom * self.size + 1e-6)  # 268 of 1.2 and 224; 115 of 1.15 and 100


def to_square(images: np.ndarray, square: Square, *, is_nearest: bool = False) -> np.ndarray:
    """Bring slices of any shape to squares, as a network takes them.

    Args:
        images: (N, H, W) or (N, H, W, C), uint8 or float32.
        square: size, proportions and zoom.
        is_nearest: take the nearest pixel instead of a mean, for masks.

    Returns:
        (N, size, size) or (N, size, size, C), dtype as `images`.
    """
    side = square.side
    squares = images if square.is_stretched else _centre(images, (max(images.shape[1:3]),) * 2)
    rows, columns = squares.shape[1:3]
    smooth = cv2.INTER_AREA if side * side < rows * columns else cv2.INTER_LINEAR
    how = cv2.INTER_NEAREST_EXACT if is_nearest else smooth
    return _centre(_resize(squares, (side, side), how), (square.size, square.size))


def from_square(maps: np.ndarray, shape: tuple[int, int], square: Square) -> np.ndarray:
    """Bring square maps back to slices, with zeros where a zoom had cut something off.

    Args:
        maps: (N, S, S) or (N, S, S, C), usually float probabilities.
        shape: height and width of the slices that the squares were made of.
        square: as given to `to_square`, of which this is the inverse.

    Returns:
        (N, H, W) or (N, H, W, C), dtype as `maps`.
    """
    whole = _centre(maps, (square.side, square.side))
    padded = shape if square.is_stretched else (max(shape), max(shape))
    return _centre(_resize(whole, padded, cv2.INTER_LINEAR), shape)


def _centre(images: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Cut or pad with zeros about the centre.

    Cutting undoes padding to the pixel, whatever the parity.
    """
    cut, widths = [slice(None)], [(0, 0)]
    for has, wanted in zip(images.shape[1:3], shape, strict=True):
        start, before = max(has - wanted, 0) // 2, max(wanted - has, 0) // 2
        cut.append(slice(start, start + min(has, wanted)))
        widths.append((before, max(wanted - has, 0) - before))
    part = images[tuple(cut)]
    is_padded = any(sum(width) for width in widths)
    return np.pad(part, [*widths, *[(0, 0)] * (images.ndim - 3)]) if is_padded else part


def _resize(images: np.ndarray, shape: tuple[int, int], how: int) -> np.ndarray:
    if images.shape[1:3] == tuple(shape):
        return images
    resized = np.empty((len(images), *shape, *images.shape[3:]), images.dtype)
    for source, target in zip(images, resized, strict=True):
        target[...] = cv2.resize(source, shape[::-1], interpolation=how).reshape(target.shape)
    return resized
