"""Slices of any shape to the squares that a network takes, and back.

Images are uint8 or float32, `(N, H, W)` or `(N, H, W, C)`.
"""

from __future__ import annotations

import cv2
import numpy as np


def to_square(
    images: np.ndarray,
    size: int,
    *,
    stretch: bool = False,
    zoom: float = 1.0,
    nearest: bool = False,
) -> np.ndarray:
    """Bring slices of any shape to squares, as a network takes them.

    Args:
        images: (N, H, W) or (N, H, W, C), uint8 or float32.
        size: side of the result in pixels.
        stretch: resize to the square as it is; otherwise pad with zeros to a centred square first,
            which keeps proportions.
        zoom: magnification about the centre: resized to `round(zoom * size)`, then the centre cut
            out.
        nearest: take the nearest pixel instead of a mean, for masks.

    Returns:
        (N, size, size) or (N, size, size, C), dtype as `images`.
    """
    side = round(zoom * size)
    squares = images if stretch else _pad_to_square(images)
    rows, columns = squares.shape[1:3]
    is_shrinking = side * side < rows * columns
    how = (
        cv2.INTER_NEAREST_EXACT if nearest else cv2.INTER_AREA if is_shrinking else cv2.INTER_LINEAR
    )
    return _centre(_resize(squares, (side, side), how), (size, size))


def from_square(
    maps: np.ndarray, shape: tuple[int, int], *, stretch: bool = False, zoom: float = 1.0
) -> np.ndarray:
    """Bring square maps back to slices.

    The inverse of `to_square`, with zeros where a zoom had cut something off.

    Args:
        maps: (N, S, S) or (N, S, S, C), usually float probabilities.
        shape: height and width of the slices the squares were made of.
        stretch: as given to `to_square`.
        zoom: as given to `to_square`.

    Returns:
        (N, H, W) or (N, H, W, C), dtype as `maps`.
    """
    side = round(zoom * maps.shape[1])
    whole = _centre(maps, (side, side))
    square = shape if stretch else (max(shape), max(shape))
    return _centre(_resize(whole, square, cv2.INTER_LINEAR), shape)


def _pad_to_square(images: np.ndarray) -> np.ndarray:
    side = max(images.shape[1:3])
    return _centre(images, (side, side))


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
