"""Test-time augmentation: views of squares, and back."""

from __future__ import annotations

import cv2
import numpy as np

# degrees, counter-clockwise; within the 45 of the augmentation
ROTATIONS = {"rotate_10": 10.0, "rotate_-10": -10.0}
MASK_VIEWS = ("identity", "hflip", "vflip", *ROTATIONS)  # what a mask can be turned back from
VIEWS = (*MASK_VIEWS, "zoom_1.2")


def turn(squares: np.ndarray, view: str) -> np.ndarray:
    """Turn squares (N, S, S) or (N, S, S, C) as a view says; "zoom_1.2" turns nothing."""
    if view == "hflip":
        return squares[:, :, ::-1]
    if view == "vflip":
        return squares[:, ::-1]
    return _rotate(squares, ROTATIONS[view]) if view in ROTATIONS else squares


def undo_view(squares: np.ndarray, view: str) -> np.ndarray:
    """Undo `turn`: exactly for flips, up to interpolation for rotations.

    What a rotation moved out stays 0.
    """
    return _rotate(squares, -ROTATIONS[view]) if view in ROTATIONS else turn(squares, view)


def _rotate(squares: np.ndarray, degrees: float) -> np.ndarray:
    side = squares.shape[1]
    matrix = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), degrees, 1.0)
    return np.stack(
        [cv2.warpAffine(square, matrix, (side, side)).reshape(square.shape) for square in squares]
    )
