"""Masks of slices: squares through the segmenter, and back to the slices' own grid.

Slices are (N, H, W) uint8 of any size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from t4e_utils.learning.devices import device_of
from t4e_utils.learning.networks import normalise
from t4e_utils.prediction.tta import turn, undo_view
from t4e_utils.sampling.squares import from_square, to_square


def parts_of(n: int, batch_size: int) -> Iterator[slice]:
    return (slice(start, min(start + batch_size, n)) for start in range(0, n, batch_size))


@torch.inference_mode()
def region_probabilities(
    segmenter: nn.Module,
    images: np.ndarray,
    *,
    size: int,
    is_stretched: bool = False,
    zoom: float = 1.0,
    views: Sequence[str] = ("identity",),
    batch_size: int = 32,
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield the probabilities of the regions in the slices' own grid, a batch at a time.

    Args:
        segmenter: logits (B, R, size, size) from images (B, 3, size, size); in evaluation mode.
        images: (N, H, W) uint8.
        size: side of the square that the segmenter sees.
        is_stretched: stretch to the square; otherwise pad.
        zoom: about the centre, before segmenting; what it cuts off counts as not tumour.
        views: some of `MASK_VIEWS`; the maps are turned back and averaged.
        batch_size: slices a pass.

    Yields:
        Range of slices, and (n, R, H, W) float32 probabilities.
    """
    device = device_of(segmenter)
    for part in parts_of(len(images), batch_size):
        squares = to_square(images[part], size, stretch=is_stretched, zoom=zoom)
        maps = np.mean(
            [undo_view(_maps(segmenter, turn(squares, view), device), view) for view in views],
            axis=0,
        ).transpose(0, 3, 1, 2)
        n, n_regions = maps.shape[:2]
        flat = from_square(
            maps.reshape(n * n_regions, size, size),
            images.shape[1:],
            stretch=is_stretched,
            zoom=zoom,
        )
        yield part, flat.reshape(n, n_regions, *images.shape[1:])


def _maps(segmenter: nn.Module, squares: np.ndarray, device: torch.device) -> np.ndarray:
    """Probabilities (N, S, S, R) of squares (N, S, S) uint8."""
    images = torch.from_numpy(np.ascontiguousarray(squares)).unsqueeze(1).to(device)
    return segmenter(normalise(images)).float().sigmoid().permute(0, 2, 3, 1).cpu().numpy()


def segment_slices(
    segmenter: nn.Module,
    images: np.ndarray,
    *,
    threshold: float = 0.5,
    n_regions: int = 2,
    **options: Any,
) -> np.ndarray:
    """Return masks (R, N, H, W) bool of slices (N, H, W) uint8.

    Options as in `region_probabilities`.
    """
    masks = np.zeros((n_regions, *images.shape), bool)
    for part, maps in region_probabilities(segmenter, images, **options):
        masks[:, part] = (maps > threshold).transpose(1, 0, 2, 3)
    return masks
