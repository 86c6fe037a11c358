"""From label maps to regions, and what the slices of a volume show: areas and separate pieces.

Label maps are integers `(D, H, W)`, regions are bool `(R, D, H, W)` in the order of their mapping.
Areas are in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import pandas as pd
from scipy.ndimage import label

MEASURES = ("slice", "brain_area", "wt_area", "et_area", "n_components")


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
    """Return the labels that a map of these regions may hold, 0 for the background among them.

    Another one belongs to another convention.
    """
    return {0}.union(*regions.values())


def count_components(mask: np.ndarray) -> int:
    """Return the number of pieces of a 2D mask.

    Pixels that touch at a corner are one, holes do not count.
    """
    n_labels, _ = cv2.connectedComponents(
        np.ascontiguousarray(mask, dtype=np.uint8), connectivity=8
    )
    return n_labels - 1  # the background is one of them


def measure_slices(image: np.ndarray, masks: np.ndarray) -> pd.DataFrame:
    """Measure every slice of a volume.

    Args:
        image: (D, H, W) uint8; brain is what is not black.
        masks: (2, D, H, W) bool, whole tumour and enhancing tumour.

    Returns:
        A row a slice: slice (index), brain_area, wt_area, et_area, n_components (of the whole
        tumour).
    """
    return measure_masks(masks).assign(brain_area=areas_of(image))[list(MEASURES)]


def measure_masks(masks: np.ndarray, areas: Sequence[np.ndarray] | None = None) -> pd.DataFrame:
    """Return what `measure_slices` says of the masks alone: all its columns but brain_area.

    `areas` (2, D) if they are known.
    """
    wt_area, et_area = [areas_of(mask) for mask in masks] if areas is None else areas
    n_components = [
        count_components(mask) if area else 0 for mask, area in zip(masks[0], wt_area, strict=True)
    ]
    return pd.DataFrame(
        {
            "slice": np.arange(len(wt_area)),
            "wt_area": wt_area,
            "et_area": et_area,
            "n_components": n_components,
        }
    )


def largest_component(mask: np.ndarray) -> np.ndarray:
    """Return the largest 26-connected piece of a mask (D, H, W), the first of equals.

    Bool, empty if the mask is.
    """
    pieces, n = label(mask, structure=np.ones((3, 3, 3)))
    return (
        pieces == 1 + np.bincount(pieces.ravel())[1:].argmax() if n else np.zeros(mask.shape, bool)
    )


def areas_of(volume: np.ndarray) -> np.ndarray:
    """Return the number of pixels of each slice (D, H, W) that are not 0, (D,)."""
    return np.array(
        [np.count_nonzero(each) for each in np.ascontiguousarray(volume)], dtype=np.intp
    )


def areas_along_axes(volume: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what `areas_of` says of a volume (D, H, W) cut along each of its axes, (D,), (H,)
    and (W,), in one pass and without turning it.
    """
    ahead = np.zeros(len(volume), np.intp)
    through = np.zeros(volume.shape[1:], np.intp)  # how often each row and column is not 0
    for start in range(0, len(volume), 255):  # as many as 8 bits can count
        block = np.zeros(volume.shape[1:], np.uint8)
        for index, each in enumerate(volume[start : start + 255], start):
            is_filled = (each != 0).view(np.uint8)
            ahead[index] = np.count_nonzero(is_filled)
            block += is_filled
        through += block
    return ahead, through.sum(axis=1), through.sum(axis=0)


def area_shares(measures: pd.DataFrame) -> pd.DataFrame:
    """Return the share of the brain that WT and ET cover in each slice, 0 where there is no brain.

    Columns WT and ET.
    """
    brain = measures["brain_area"].to_numpy(float)
    shares = {
        n: np.divide(measures[c].to_numpy(float), brain, out=np.zeros(len(brain)), where=brain > 0)
        for n, c in (("WT", "wt_area"), ("ET", "et_area"))
    }
    return pd.DataFrame(shares, index=measures.index)
