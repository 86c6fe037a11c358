"""Masks of slices: squares through a segmenter, and back to the slices' own grid.

Slices are (N, H, W) uint8 of any size; what the segmenter sees of them stands in its recipe.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from t4e_utils.learning.devices import predicting
from t4e_utils.prediction.tta import apply_view, undo_view
from t4e_utils.sampling.squares import from_square, to_square


@dataclass(frozen=True)
class MaskReading:
    """How a segmenter is used on slices."""

    threshold: float = 0.5  # probability above which a pixel belongs to a region
    zoom: float = 1.0  # about the centre; what it cuts off belongs to no region
    views: Sequence[str] = ("identity",)  # some of `MASK_VIEWS`, averaged
    batch_size: int = 8  # slices per pass; results do not depend on it


def region_probabilities(
    segmenter: nn.Module, images: np.ndarray, reading: MaskReading
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield the probabilities of the regions in the slices' own grid, a batch at a time.

    Args:
        segmenter: logits (B, R, S, S) from images (B, 1, S, S) uint8; in evaluation mode.
        images: (N, H, W) uint8.
        reading: zoom, views and size of a batch.

    Yields:
        Range of slices, and (n, R, H, W) float32 probabilities.
    """
    square = replace(segmenter.recipe.square, zoom=reading.zoom)
    for part in parts_of(len(images), reading.batch_size):
        squares = to_square(images[part], square)
        views = [undo_view(_maps(segmenter, apply_view(squares, v)), v) for v in reading.views]
        maps = np.mean(views, axis=0).transpose(0, 3, 1, 2)
        flat = from_square(maps.reshape(-1, *maps.shape[2:]), images.shape[1:], square)
        yield part, flat.reshape(*maps.shape[:2], *images.shape[1:])


def parts_of(n: int, batch_size: int) -> Iterator[slice]:
    """Yield the parts of n items that pass at once."""
    return (slice(start, min(start + batch_size, n)) for start in range(0, n, batch_size))


def _maps(segmenter: nn.Module, squares: np.ndarray) -> np.ndarray:
    """Probabilities (N, S, S, R) of squares (N, S, S) uint8."""
    with predicting(segmenter) as device:
        images = torch.from_numpy(np.ascontiguousarray(squares)).unsqueeze(1).to(device)
        return segmenter(images).float().sigmoid().permute(0, 2, 3, 1).cpu().numpy()


def segment_slices(segmenter: nn.Module, images: np.ndarray, reading: MaskReading) -> np.ndarray:
    """Return masks (R, N, H, W) bool of slices (N, H, W) uint8."""
    masks = np.zeros((segmenter.recipe.n_outputs, *images.shape), bool)
    for part, maps in region_probabilities(segmenter, images, reading):
        masks[:, part] = (maps > reading.threshold).transpose(1, 0, 2, 3)
    return masks
