"""From the pixels of a stack to its values: rescaled, the right way up, padding as background."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from t4e_utils.scans.stacks import Frame


def values_of(frames: Sequence[Frame]) -> np.ndarray:
    """Return the stack (D, H, W) in the units of the scanner, highest brightest.

    Integers stay integers where slope and intercept are whole (int16 or uint16), otherwise float32.
    Inverted images are turned over between their own smallest and largest value. Padding becomes 0,
    or the smallest value if that is below 0.
    """
    stack = np.stack([frame.pixels for frame in frames])
    is_padding = _padding(frames, stack)
    values = _rescaled(frames, stack)
    inside = values if is_padding is None else values[~is_padding]
    low, high = (inside.min(), inside.max()) if inside.size else (0, 0)
    if frames[0].is_inverted:
        values = (
            (low + high) - values
            if values.dtype.kind == "f"
            else _narrowed(int(low) + int(high) - values.astype(np.int64))
        )
    if is_padding is not None:
        values[is_padding] = min(0, low)
    return values


def _padding(frames: Sequence[Frame], stack: np.ndarray) -> np.ndarray | None:
    if all(frame.padding is None for frame in frames):
        return None
    bounds = np.array([frame.padding or (np.inf, -np.inf) for frame in frames])[:, :, None, None]
    is_padding = (stack >= bounds[:, 0]) & (stack <= bounds[:, 1])
    return is_padding if is_padding.any() else None


def _rescaled(frames: Sequence[Frame], stack: np.ndarray) -> np.ndarray:
    slopes, intercepts = (
        np.array([getattr(f, name) for f in frames]) for name in ("slope", "intercept")
    )
    if (slopes == 1).all() and (intercepts == 0).all():
        return stack if stack.dtype.kind == "f" or stack.dtype.itemsize <= 2 else _narrowed(stack)
    if stack.dtype.kind in "iu" and (slopes % 1 == 0).all() and (intercepts % 1 == 0).all():
        return _narrowed(
            stack * slopes.astype(np.int64)[:, None, None]
            + intercepts.astype(np.int64)[:, None, None]
        )
    return (stack * slopes[:, None, None] + intercepts[:, None, None]).astype(np.float32)


def _narrowed(values: np.ndarray) -> np.ndarray:
    """Return integers as int16 or uint16 where they fit, else as float32."""
    low, high = values.min(), values.max()
    fits = (t for t in (np.uint16, np.int16) if np.iinfo(t).min <= low and high <= np.iinfo(t).max)
    return values.astype(next(fits, np.float32))
