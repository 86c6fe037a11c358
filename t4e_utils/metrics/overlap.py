"""Overlap of masks, which are arrays of any shape, true where not zero."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from t4e_utils.metrics import MetricError


def dice(prediction: ArrayLike, truth: ArrayLike) -> float:
    """Return the Dice coefficient, 2 |P and T| / (|P| + |T|); 1 if both masks are empty.

    Raises:
        MetricError: masks of different shapes.

    >>> dice([1, 1, 0, 0], [1, 0, 0, 0])
    0.6666666666666666
    """
    return float(dice_from_counts(*_counts(prediction, truth)))


def iou(prediction: ArrayLike, truth: ArrayLike) -> float:
    """Return intersection over union, |P and T| / |P or T|; 1 if both masks are empty.

    Raises:
        MetricError: masks of different shapes.
    """
    both, predicted, true = _counts(prediction, truth)
    return float(_share(both, predicted + true - both))


def dice_from_counts(both: ArrayLike, predicted: ArrayLike, true: ArrayLike) -> np.ndarray:
    """Return Dice from numbers of pixels, in arrays of one shape.

    Args:
        both: pixels in both masks.
        predicted: pixels in the predicted mask.
        true: pixels in the true mask.
    """
    return _share(2 * np.asarray(both), np.asarray(predicted) + np.asarray(true))


def _counts(prediction: ArrayLike, truth: ArrayLike) -> tuple[int, int, int]:
    prediction, truth = np.asarray(prediction) != 0, np.asarray(truth) != 0
    if prediction.shape != truth.shape:
        raise MetricError(
            f"A mask {prediction.shape} and its truth {truth.shape} differ in shape: bring "
            "both to one grid."
        )
    return tuple(np.count_nonzero(mask) for mask in (prediction & truth, prediction, truth))


def _share(part: ArrayLike, whole: ArrayLike) -> np.ndarray:
    part, whole = np.asarray(part, float), np.asarray(whole, float)
    return np.divide(part, whole, out=np.ones(np.broadcast(part, whole).shape), where=whole > 0)
