"""Test-time augmentation: views of squares, and back.

Squares are (N, S, S) or (N, S, S, C).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import cv2
import numpy as np

from t4e_utils.sampling.squares import Square, to_square

ROTATIONS = {"rotate_10": 10.0, "rotate_-10": -10.0}  # degrees, counter-clockwise
MASK_VIEWS = ("identity", "hflip", "vflip", *ROTATIONS)  # what a mask can be turned back from
ZOOMS = {"zoom_1.2": 1.2}  # about the centre
VIEWS = (*MASK_VIEWS, *ZOOMS)


def apply_view(squares: np.ndarray, view: str) -> np.ndarray:
    """Turn squares as a view says; a zoom turns nothing."""
    if view == "hflip":
        return squares[:, :, ::-1]
    if view == "vflip":
        return squares[:, ::-1]
    return _rotate(squares, ROTATIONS[view]) if view in ROTATIONS else squares


def undo_view(squares: np.ndarray, view: str) -> np.ndarray:
    """Undo `apply_view`: exactly for flips, up to interpolation for rotations.

    What a rotation moved out stays 0.
    """
    return _rotate(squares, -ROTATIONS[view]) if view in ROTATIONS else apply_view(squares, view)


def squares_of(pictures: Iterable[np.ndarray], square: Square, view: str) -> np.ndarray:
    """Return one view of pictures as a classifier sees it.

    Args:
        pictures: K arrays (H, W, C) uint8.
        square: size and proportions.
        view: one of `VIEWS`.

    Returns:
        (K, C, S, S) uint8.
    """
    square = replace(square, zoom=ZOOMS.get(view, 1.0))
    squares = np.concatenate([to_square(picture[None], square) for picture in pictures])
    return np.ascontiguousarray(apply_view(squares, view).transpose(0, 3, 1, 2))


def _rotate(squares: np.ndarray, degrees: float) -> np.ndarray:
    side = squares.shape[1]
    matrix = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), degrees, 1.0)
    turned = [cv2.warpAffine(square, matrix, (side, side)) for square in squares]
    return np.stack([own.reshape(squares.shape[1:]) for own in turned])
