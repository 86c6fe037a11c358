"""From the pixels of a stack to its values: rescaled, the right way up, padding as background.

Each image goes by what it says of itself. They are converted one by one, since a stack may fill a
good part of the memory.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from t4e_utils.scans.geometry import display_axes, reorient
from t4e_utils.scans.stacks import Frame


def values_of(frames: list[Frame], affine: np.ndarray, plane: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of images in order (D, H, W), in the display of `plane`, and their affine.

    Integers stay integers where slope and intercept are whole (int16 or uint16), otherwise float32.
    Inverted images are turned over, highest brightest: between the smallest and largest value if
    all are inverted, otherwise so that what is black is as in the others. Padding becomes 0, or the
    smallest value if that is below 0; what covers every image is none.

    Args:
        frames: the images; used up, so that their pixels need no memory beside their values.
        affine: (slice, row, column) index to RAS mm.
        plane: see `geometry`.
    """
    look = _look(frames)
    axes, flips = display_axes(affine, plane)
    shape = (len(frames), *frames[0].pixels.shape)
    display, affine = reorient(np.broadcast_to(np.uint8(0), shape), affine, plane)
    display = np.empty(display.shape, look.dtype)
    stack = display[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
    stack = stack.transpose(np.argsort(axes))
    while frames:
        frame = frames.pop()
        values, is_padding = _values(frame, look), _is_padding(frame)
        stack[len(frames)] = values
        if is_padding is not None:
            stack[len(frames)][is_padding] = look.background
    return display, affine


class _Look(NamedTuple):
    """What the images of a stack have in common."""

    dtype: np.dtype
    pivot: float = 0  # an inverted value is taken from it
    background: float = 0


def _look(frames: list[Frame]) -> _Look:
    """Find the type that holds all values, and where inverted images are turned over."""
    types = {frame.pixels.dtype.newbyteorder("=") for frame in frames}
    if len(types) == 1 and max(types).itemsize <= 2 and all(map(_is_plain, frames)):
        return _Look(types.pop())
    if not any(map(_ends, frames)):  # what covers every image is no padding
        frames[:] = [replace(frame, padding=None) for frame in frames]
    upright, inverted, pivot = [], [], 0
    for frame in frames:
        (inverted if frame.is_inverted else upright).extend(_ends(frame))
    if inverted:
        pivot = max(high for _, high in inverted) + min(low for low, _ in upright or inverted)
    ends = upright + [(pivot - high, pivot - low) for low, high in inverted]
    low, high = min((low for low, _ in ends), default=0), max((high for _, high in ends), default=0)
    background = min(0, low)
    if any(frame.padding for frame in frames):
        low, high = background, max(0, high)
    is_whole = all(map(_is_whole, frames))
    fits = (t for t in (np.uint16, np.int16) if np.iinfo(t).min <= low and high <= np.iinfo(t).max)
    dtype = np.dtype(next(fits, np.float32) if is_whole else np.float32)
    return _Look(dtype, pivot, background)


def _is_plain(frame: Frame) -> bool:
    """Return whether the values are the pixels."""
    is_rescaled = frame.slope != 1 or frame.intercept != 0 or frame.table is not None
    is_integer = frame.pixels.dtype.kind in "iu"
    return is_integer and not (is_rescaled or frame.padding or frame.is_inverted)


def _is_whole(frame: Frame) -> bool:
    return (
        frame.pixels.dtype.kind in "iu"
        and frame.slope % 1 == frame.intercept % 1 == 0
        and abs(frame.slope) < 1 << 31  # products with 32 bits fit into 64
    )


def _ends(frame: Frame) -> list[tuple[float, float]]:
    """Return the lowest and highest value before it is turned over; none where all is padding."""
    pixels, is_padding = _looked_up(frame), _is_padding(frame)
    inside = pixels if is_padding is None else pixels[~is_padding]
    if not inside.size:
        return []
    slope, intercept = _line(frame)
    ends = [inside.min().item() * slope + intercept, inside.max().item() * slope + intercept]
    return [(min(ends), max(ends))]


def _line(frame: Frame) -> tuple[float, float]:
    """Return slope and intercept, as integers where values stay integers."""
    is_whole = _is_whole(frame)
    return (int(frame.slope), int(frame.intercept)) if is_whole else (frame.slope, frame.intercept)


def _values(frame: Frame, look: _Look) -> np.ndarray:
    slope, intercept = _line(frame)
    values = _looked_up(frame)
    if frame.is_inverted:
        slope, intercept = -slope, look.pivot - intercept
    if (slope, intercept) == (1, 0):
        return values
    is_whole = isinstance(slope, int) and isinstance(intercept, int)
    values = values.astype(np.int64 if is_whole else np.float64)
    values *= slope
    values += intercept
    return values


def _looked_up(frame: Frame) -> np.ndarray:
    """Return the stored bits as values, of a table if the image has one."""
    pixels, (up, down) = frame.pixels, frame.bits
    if up or down:
        pixels = (pixels << up) >> down
    if frame.table is not None:
        entries, first = frame.table
        pixels = entries[np.clip(pixels.astype(np.int64) - first, 0, len(entries) - 1)]
    return pixels


def _is_padding(frame: Frame) -> np.ndarray | None:
    """Return which pixels mean "outside of the image", None if no pixel does."""
    if frame.padding is None:
        return None
    first, n_more, bits = frame.padding
    pixels, (up, down) = frame.pixels, frame.bits
    if bits == 0:
        is_padding = (pixels >= first) & (pixels <= first + n_more)
    else:
        cell_bits = pixels.dtype.itemsize * 8
        if bits < cell_bits:
            pixels = (pixels << up) >> down
        unsigned = np.dtype(f"u{pixels.dtype.itemsize}").newbyteorder(pixels.dtype.byteorder)
        # modulo 2^bits, so that it does not matter whether a value is written with a sign
        steps = pixels.view(unsigned) - unsigned.type(int(first) % (1 << cell_bits))
        is_padding = (steps & unsigned.type((1 << bits) - 1)) <= unsigned.type(int(n_more))
    return is_padding if is_padding.any() else None
