"""From label maps to regions, and what the slices of a volume show: areas and separate pieces.

Label maps are integers `(D, H, W)`, regions are bool `(R, D, H, W)` in the order of their mapping. Areas are
in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import ndimage

MEASURES = ("slice", "brain_area", "wt_area", "et_area", "n_components")
NEIGHBOURS_8 = np.ones((3, 3), dtype=bool)  # pixels that touch at a corner are one piece


def regions_from_labels(labels: np.ndarray, regions: Mapping[str, Sequence[int]]) -> np.ndarray:
    """Return a mask a region; regions may overlap.

    Args:
        labels: (D, H, W) integers.
        regions: name to the labels it consists of, such as `{"WT": (1, 2, 4), "ET": (4,)}`.

    Returns:
        (R, D, H, W) bool, in the order of `regions`.
    """
    masks = np.zeros((len(regions), *labels.shape), dtype=bool)
    for mask, values in zip(masks, regions.values(), strict=True):
        for value in values:
            mask |= labels == value
    return masks


def labels_of(regions: Mapping[str, Sequence[int]]) -> set[int]:
    """Return the labels that a map of these regions may hold, 0 for the background among them; another one belongs to another convention."""
    return {0}.union(*regions.values())


def count_components(mask: np.ndarray) -> int:
    """Return the number of pieces of a 2D mask; pixels that touch at a corner are one, holes do not count."""
    _, n = ndimage.label(mask, structure=NEIGHBOURS_8)
    return int(n)


def measure_slices(image: np.ndarray, masks: np.ndarray) -> pd.DataFrame:
    """Measure every slice of a volume.

    Args:
        image: (D, H, W) uint8; brain is what is not black.
        masks: (2, D, H, W) bool, whole tumour and enhancing tumour.

    Returns:
        A row a slice: slice (index), brain_area, wt_area, et_area, n_components (of the whole tumour).
    """
    wt, et = masks
    areas = [np.count_nonzero(volume, axis=(1, 2)) for volume in (image, wt, et)]
    n_components = [count_components(mask) if area else 0 for mask, area in zip(wt, areas[1], strict=True)]
    return pd.DataFrame(dict(zip(MEASURES, (np.arange(len(image)), *areas, n_components), strict=True)))
