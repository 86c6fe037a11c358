"""Cut a volume into slices, choose among them, group them into chunks, store them, and put them
back.

Images are uint8, `(N, H, W)` or `(N, H, W, C)`. A stored slice is a PNG of three 8-bit channels
that anyone can open: R image, G whole tumour (0 or 255), B enhancing tumour (0 or 255). The tables
of slices have the columns of `annotations.measure_slices`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from t4e_utils import T4EError
from t4e_utils.files import whole_file

SEQUENCE_LENGTH = 35  # steps of a chunk, T4E
SEQUENCE_STRIDE = 5


class SliceError(T4EError):
    """A stored slice cannot be written or read."""


def sample_every(indices: Sequence[Any], *, step: float = 0.1) -> Sequence[Any]:
    """Return every `max(round(step * n), 1)`-th of n indices.

    About ten of many, as neighbours look alike.
    """
    return indices[:: max(round(step * len(indices)), 1)]


def select_tumour_slices(
    measures: pd.DataFrame,
    *,
    min_tumour_share: float = 0.01,
    sampling_step: float = 0.1,
    empty_step: float | None = None,
) -> np.ndarray:
    """Choose the slices to learn segmentation from: enough tumour, and not all of them (stage 1).

    Args:
        measures: a row a slice in order, columns brain_area and wt_area in pixels, of one volume
            cut in one plane.
        min_tumour_share: smallest share (exclusive) of the brain that is tumour.
        sampling_step: see `sample_every`.
        empty_step: likewise, of the slices that show brain but no tumour; None chooses none of
            them, as the team did.

    Returns:
        Bool (n,), true where the slice is chosen.
    """
    candidates = np.flatnonzero(_tumour_share(measures) > min_tumour_share)
    chosen = _chosen(sample_every(candidates, step=sampling_step), len(measures))
    if empty_step is not None:
        is_empty = (measures["brain_area"].to_numpy() > 0) & (measures["wt_area"].to_numpy() == 0)
        chosen[sample_every(np.flatnonzero(is_empty), step=empty_step)] = True
    return chosen


def select_sequence_slices(
    measures: pd.DataFrame,
    n_pixels_per_slice: int,
    *,
    min_brain_fraction: float = 0.1,
    min_tumour_share: float = 0.025,
    max_components: int = 5,
    sequence_length: int = SEQUENCE_LENGTH,
) -> tuple[np.ndarray, str]:
    """Choose the slices of a series that go into the sequence to classify (stage 2).

    Never none of them.

    Args:
        measures: a row a slice in order, columns brain_area, wt_area (pixels) and n_components of
            the predicted tumour.
        n_pixels_per_slice: height x width.
        min_brain_fraction: smallest share (exclusive) of the slice that is not black.
        min_tumour_share: smallest share (exclusive) of the brain that is tumour.
        max_components: more separate pieces than this are taken for noise.
        sequence_length: slices to take when the filter leaves none.

    Returns:
        Bool (n,), true where the slice is kept, and why: "" the filter left some; "largest tumour"
        it left none, so the slices with the most tumour; "central slices" no tumour was predicted,
        so the middle of the series.
    """
    is_brain = measures["brain_area"].to_numpy() > min_brain_fraction * n_pixels_per_slice
    is_tumour = _tumour_share(measures) > min_tumour_share
    kept = is_brain & is_tumour & (measures["n_components"].to_numpy() <= max_components)
    if kept.any():
        return kept, ""
    wt_area, n = measures["wt_area"].to_numpy(), len(measures)
    if (wt_area > 0).any():
        most = np.argsort(-wt_area, kind="stable")[:sequence_length]
        return _chosen(most[wt_area[most] > 0], n), "largest tumour"
    first = max((n - sequence_length) // 2, 0)
    return _chosen(np.arange(first, min(first + sequence_length, n)), n), "central slices"


def _tumour_share(measures: pd.DataFrame) -> np.ndarray:
    brain = measures["brain_area"].to_numpy(dtype=float)
    return np.divide(
        measures["wt_area"].to_numpy(dtype=float), brain, out=np.zeros_like(brain), where=brain > 0
    )


def _chosen(indices: np.ndarray, n: int) -> np.ndarray:
    chosen = np.zeros(n, dtype=bool)
    chosen[indices] = True
    return chosen


def chunk_bounds(
    n: int, *, length: int = SEQUENCE_LENGTH, stride: int = SEQUENCE_STRIDE
) -> list[tuple[int, int]]:
    """Return the half-open bounds of the chunks that cover a sequence of n steps.

    One chunk, maybe short, for at most `length` steps; otherwise one every `stride` steps until the
    end is covered, the last maybe short.

    >>> chunk_bounds(41)
    [(0, 35), (5, 40), (10, 41)]
    """
    if n <= 0:
        return []
    n_chunks = 1 + -(-max(n - length, 0) // stride)
    return [(i * stride, min(i * stride + length, n)) for i in range(n_chunks)]


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


def write_slice(path: str | Path, image: np.ndarray, masks: np.ndarray) -> Path:
    """Write a slice as PNG: R image, G whole tumour, B enhancing tumour; complete or not at all.

    Args:
        path: ends in `.png`; its folder is made.
        image: (H, W) uint8.
        masks: (2, H, W), order WT, ET; stored as 0 and 255.

    Raises:
        SliceError: shapes or dtype do not fit.
        WriteError: the file cannot be written.
    """
    path, masks = Path(path), np.asarray(masks)
    if image.dtype != np.uint8 or image.ndim != 2 or masks.shape != (2, *image.shape):
        raise SliceError(
            f"{path.name}: a slice is a uint8 image (H, W) with masks (2, H, W), not "
            f"{image.dtype} {image.shape} with "
            f"{masks.shape}: convert it with intensity.to_uint8 and "
            "annotations.regions_from_labels."
        )
    wt, et = (mask.astype(bool) * np.uint8(255) for mask in masks)
    # cv2 orders colours B, G, R
    _, data = cv2.imencode(".png", cv2.merge([et, wt, np.ascontiguousarray(image)]))
    with whole_file(path) as temporary:
        temporary.write_bytes(data)
    return path


def read_slice(path: str | Path) -> np.ndarray:
    """Read a stored slice: (H, W, 3) uint8, image, whole tumour, enhancing tumour.

    Raises:
        SliceError: the file is missing, damaged or not a slice of three channels.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise SliceError(
            f"The slice {path} cannot be read ({error.strerror}): run the notebook that writes it."
        ) from error
    image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if image is None or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise SliceError(
            f"The slice {path} is damaged or no 8-bit PNG of three channels: delete it and "
            "write it again."
        )
    return np.ascontiguousarray(image[..., ::-1])


def stack_slices(slices: np.ndarray, indices: Sequence[int], n: int) -> np.ndarray:
    """Put slices back where they were cut from: (n, H, W, ...) with zeros where no slice is given.

    Args:
        slices: (K, H, W) or (K, H, W, C).
        indices: the place of each slice in the volume.
        n: number of slices of the volume.
    """
    volume = np.zeros((n, *slices.shape[1:]), slices.dtype)
    volume[np.asarray(indices, dtype=int)] = slices
    return volume
