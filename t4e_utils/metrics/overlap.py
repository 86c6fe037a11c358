"""Overlap of masks.

Masks are arrays of any shape, true where not zero.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from t4e_utils import T4EError


class MetricError(T4EError, ValueError):
    """Arrays that cannot be compared."""


def dice(prediction: ArrayLike, truth: ArrayLike) -> float:
    """Dice coefficient, 2 |P and T| / (|P| + |T|); 1 if both masks are empty.

    >>> dice([1, 1, 0, 0], [1, 0, 0, 0])
    0.6666666666666666
    """
    return float(dice_from_counts(*_counts(prediction, truth)))


def iou(prediction: ArrayLike, truth: ArrayLike) -> float:
    """Intersection over union (Jaccard index), |P and T| / |P or T|; 1 if both masks are empty."""
    both, predicted, true = _counts(prediction, truth)
    return float(_share(both, predicted + true - both))


def dice_from_counts(both: ArrayLike, predicted: ArrayLike, true: ArrayLike) -> np.ndarray:
    """Dice from numbers of pixels: in both masks, in the predicted one, in the true one.

    Arrays of the same shape.
    """
    return _share(2 * np.asarray(both), np.asarray(predicted) + np.asarray(true))


def iou_from_counts(both: ArrayLike, predicted: ArrayLike, true: ArrayLike) -> np.ndarray:
    """Intersection over union from numbers of pixels, as in `dice_from_counts`."""
    return _share(np.asarray(both), np.asarray(predicted) + np.asarray(true) - np.asarray(both))


def _counts(prediction: ArrayLike, truth: ArrayLike) -> tuple[int, int, int]:
    prediction, truth = np.asarray(prediction) != 0, np.asarray(truth) != 0
    if prediction.shape != truth.shape:
        raise MetricError(
            f"A mask {prediction.shape} and its truth {truth.shape} differ in shape: bring "
            "both to one grid."
        )
    return (
        np.count_nonzero(prediction & truth),
        np.count_nonzero(prediction),
        np.count_nonzero(truth),
    )


def _share(part: ArrayLike, whole: ArrayLike) -> np.ndarray:
    part, whole = np.asarray(part, float), np.asarray(whole, float)
    return np.divide(part, whole, out=np.ones(np.broadcast(part, whole).shape), where=whole > 0)
