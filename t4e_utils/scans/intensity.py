"""From scanner values to 8 bits: percentiles of a volume, and a window to grey levels.

Arrays have any shape and any real dtype; a window is `(low, high)` in the units of the array.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from t4e_utils import T4EError

PERCENTILES = (0.5, 99.5)  # of a window; one bright vessel does not blacken the rest
CHUNK_VALUES = 1 << 20  # converted at a time, so that a volume is never in memory as float


def window_from_percentiles(
    array: np.ndarray, percentiles: Sequence[float] = PERCENTILES, *, nonzero: bool = True
) -> tuple[float, float]:
    """Return the values that become black and white: percentiles of a volume.

    Args:
        array: the whole volume, so that all its slices get the same window.
        percentiles: low and high, 0 to 100, interpolated linearly. (0, 100) is minimum and maximum
            of the whole array, whatever `nonzero`.
        nonzero: leave zeros out, as they are background in MR; an array of zeros only gives (0, 0).

    Returns:
        `(low, high)`; equal for a constant array. What is not finite is left out; (0, 0) if nothing
        is left.

    Raises:
        T4EError: percentiles that do not grow from 0 to 100.
    """
    if len(percentiles) != 2 or not 0 <= percentiles[0] < percentiles[1] <= 100:
        raise T4EError(
            f"The percentiles {tuple(percentiles)} are not two growing numbers of 0 to 100: "
            "correct them."
        )
    values = array[np.isfinite(array)] if array.dtype.kind == "f" else array
    is_minmax = tuple(percentiles) == (0, 100)
    if nonzero and not is_minmax:
        values = values[values != 0]
    if values.size == 0:
        return 0.0, 0.0
    if is_minmax:
        return float(values.min()), float(values.max())
    low, high = _percentiles(values, percentiles)
    return float(low), float(high)


def to_uint8(array: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """Return the array as grey levels: clipped to the window, low becomes 0 and high 255, rounded.

    Args:
        array: any shape.
        window: `(low, high)`; if both are equal there is nothing to see and all becomes 0.

    Returns:
        uint8, shape of `array`; 0 where a value is not finite.

    Raises:
        T4EError: a window that is not finite or whose high end is below the low end.
    """
    low, high = window
    if not (np.isfinite(low) and np.isfinite(high) and low <= high):
        raise T4EError(
            f"The window {window} is not (low, high) with low <= high: take it from "
            "window_from_percentiles."
        )
    grey = np.zeros(array.shape, np.uint8)
    if low == high:
        return grey
    per_chunk = max(1, CHUNK_VALUES // max(1, array[:1].size))
    for start in range(0, len(array), per_chunk):
        grey[start : start + per_chunk] = _grey(array[start : start + per_chunk], low, high)
    return grey


def window_to_uint8(array: ArrayLike, percentiles: Sequence[float]) -> np.ndarray:
    """Return a volume in 8 bits, windowed by its own percentiles: the one way to pictures.

    Args:
        array: the whole volume, (D, H, W); a `Volume` too.
        percentiles: low and high, as in `window_from_percentiles`.

    Raises:
        T4EError: percentiles that do not grow from 0 to 100.
    """
    values = np.asarray(array)
    return to_uint8(values, window_from_percentiles(values, percentiles))


def _percentiles(values: np.ndarray, percentiles: Sequence[float]) -> np.ndarray:
    """Return linear percentiles; of 16-bit integers from their counts, faster than sorting."""
    if values.dtype.kind not in "iu" or values.dtype.itemsize > 2:
        return np.percentile(values, percentiles)
    lowest = int(values.min())
    counts = np.bincount(values.ravel().astype(np.int64) - lowest)
    ranks = np.asarray(percentiles, dtype=float) / 100 * (values.size - 1)
    below, above = (
        np.searchsorted(np.cumsum(counts), rank, side="right") + lowest
        for rank in (np.floor(ranks), np.ceil(ranks))
    )
    return below + (above - below) * (ranks - np.floor(ranks))


def _grey(values: np.ndarray, low: float, high: float) -> np.ndarray:
    levels = (values.astype(np.float32) - np.float32(low)) * np.float32(255.0 / (high - low))
    levels = (
        np.nan_to_num(levels, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
        if values.dtype.kind == "f"
        else levels
    )
    return np.rint(np.clip(levels, 0.0, 255.0, out=levels), out=levels).astype(np.uint8)
