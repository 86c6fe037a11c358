"""From label maps to regions, and what the slices of a volume show: areas and components.

Label maps are integers `(D, H, W)`, regions are bool `(R, D, H, W)` in the order of their mapping.
Areas are in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import pandas as pd
from scipy.ndimage import binary_fill_holes, label


def regions_from_labels(labels: np.ndarray, regions: Mapping[str, Sequence[int]]) -> np.ndarray:
    """Return one mask per region; regions may overlap.

    Args:
        labels: (D, H, W) integers.
        regions: name to the labels it consists of, such as `{"whole": (1, 2), "core": (2,)}`.

    Returns:
        (R, D, H, W) bool, in the order of `regions`.
    """
    masks = np.zeros((len(regions), *labels.shape), dtype=bool)
    for mask, values in zip(masks, regions.values(), strict=True):
        for value in values:
            mask |= labels == value
    return masks


def labels_of(regions: Mapping[str, Sequence[int]]) -> set[int]:
    """Return the labels that a map of these regions may hold, 0 for the background among them."""
    return {0}.union(*regions.values())


def count_components(mask: np.ndarray) -> int:
    """Return the number of 8-connected components of a 2D mask; holes do not count."""
    n_labels, _ = cv2.connectedComponents(
        np.ascontiguousarray(mask, dtype=np.uint8), connectivity=8
    )
    return n_labels - 1  # the background is one of them


def measure_slices(
    image: np.ndarray, masks: np.ndarray, *, regions: Sequence[str], foreground: str
) -> pd.DataFrame:
    """Measure every slice of a volume.

    Args:
        image: (D, H, W) uint8; the foreground is what is not black.
        masks: (R, D, H, W) bool.
        regions: their names.
        foreground: name of what is not black.

    Returns:
        One row per slice: slice (index), `<foreground>_area`, `<region>_area` for each region in
        lower case, n_components (of the first region).
    """
    measures = measure_masks(masks, regions=regions)
    measures.insert(1, f"{foreground}_area", areas_of(image))
    return measures


def measure_masks(
    masks: np.ndarray, areas: Sequence[np.ndarray] | None = None, *, regions: Sequence[str]
) -> pd.DataFrame:
    """Return what `measure_slices` says of the masks alone; `areas` (R, D) if they are known."""
    areas = [areas_of(mask) for mask in masks] if areas is None else areas
    components = [
        count_components(mask) if area else 0 for mask, area in zip(masks[0], areas[0], strict=True)
    ]
    columns = {f"{name.lower()}_area": area for name, area in zip(regions, areas, strict=True)}
    return pd.DataFrame({"slice": np.arange(len(areas[0])), **columns, "n_components": components})


def area_shares(measures: pd.DataFrame, *, regions: Sequence[str], foreground: str) -> pd.DataFrame:
    """Return the share of the foreground that each region covers, 0 where there is no foreground.

    Args:
        measures: from `measure_slices`.
        regions: which become the columns.
        foreground: as there.
    """
    whole = measures[f"{foreground}_area"].to_numpy(float)
    shares = {
        name: np.divide(
            measures[f"{name.lower()}_area"].to_numpy(float),
            whole,
            out=np.zeros(len(whole)),
            where=whole > 0,
        )
        for name in regions
    }
    return pd.DataFrame(shares, index=measures.index)


def largest_component(mask: np.ndarray) -> np.ndarray:
    """Return the largest 26-connected component of a mask (D, H, W), bool; empty if the mask is.

    Of equally large ones it is the first.
    """
    components, n = label(mask, structure=np.ones((3, 3, 3)))
    if not n:
        return np.zeros(mask.shape, bool)
    return components == 1 + np.bincount(components.ravel())[1:].argmax()


def areas_of(volume: np.ndarray) -> np.ndarray:
    """Return the number of pixels of each slice (D, H, W) that are not 0, (D,)."""
    return np.array([np.count_nonzero(each) for each in np.ascontiguousarray(volume)], np.intp)


def areas_along_axes(volume: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what `areas_of` says of a volume (D, H, W) cut along each axis, (D,), (H,) and (W,).

    In one pass and without turning it.
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


def filled_outline(image: np.ndarray) -> np.ndarray:
    """Return what lies inside the outline of what is not 0, slice by slice, (D, H, W) bool.

    Black holes within are part of it: necrosis and cysts can have the value of the background.
    """
    filled = [binary_fill_holes(each) for each in image != 0]
    return np.array(filled, bool).reshape(image.shape)
