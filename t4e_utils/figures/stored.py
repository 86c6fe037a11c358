"""Stored slices: read, made of what a data set gives, and drawn.

A stored slice is a `sampling.pictures.Picture`: channels `(H, W, C)`, the image first, then masks.
It brings names, spacing, plane and title along.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from t4e_utils.figures import slices, style
from t4e_utils.sampling.pictures import MAKER, Picture, picture_of


def pictures_of(rows: pd.DataFrame, root: Path, *, made_by: str = MAKER) -> list[Picture]:
    """Read the pictures of a table of slices, each with the number of its slice as title.

    Args:
        rows: One row per slice, with the columns path, row_mm, column_mm, plane and slice.
        root: That the paths are relative to.
        made_by: The notebook that wrote them, named in an error.
    """
    names = ("image", *style.palette().regions)
    return [
        picture_of(row, root, names=names, title=f"slice {row['slice']}", made_by=made_by)
        for row in rows.to_dict("records")
    ]


def as_pictures(items: Iterable) -> list[Picture]:
    """Return pictures of what a data set gives; a `Picture` stays as it is.

    Args:
        items: `Picture`s; items of a data set, mappings with "inputs" (C, H, W) and "targets",
            masks (R, H, W) of the first channel or labels (n,); or channels, (C, H, W) or
            (H, W, C).
    """
    return [item if isinstance(item, Picture) else _as_picture(item) for item in items]


def _as_picture(item) -> Picture:
    targets = np.asarray(item["targets"]) if isinstance(item, Mapping) else np.empty(0)
    channels = np.asarray(item["inputs"] if isinstance(item, Mapping) else item)
    if targets.ndim == 3:
        channels = np.stack([channels[0], *(targets.astype(bool) * np.uint8(255))], axis=-1)
    elif channels.shape[-1] > 4:
        channels = np.moveaxis(channels, 0, -1)
    return Picture(channels, ("image", *style.region_names(channels.shape[-1] - 1)))


def draw_picture(
    axes: Axes,
    picture: Picture,
    *,
    masks: str = "",
    title: str = "",
    letters: bool = True,
    interpolation: str = "bilinear",
) -> None:
    """Draw a stored slice.

    Args:
        axes: Axes to draw into.
        picture: Slice with its masks, spacing and plane.
        masks: What its masks are, "truth" or "prediction"; "" leaves them out.
        title: Text above the slice.
        letters: Write the directions at the edges where the plane is known.
        interpolation: As in `slices.draw_slice`.
    """
    known = slices.PLANE_LETTERS.get(picture.plane, {}) if letters else {}
    look = {"letters": known, "title": title, "interpolation": interpolation}
    slices.draw_slice(axes, picture.image, spacing_mm=picture.spacing_mm, **look)
    if masks:
        slices.draw_masks(axes, **{masks: picture.masks}, regions=picture.regions)


def stated(title: str, pictures: Sequence[Picture]) -> str:
    """Return the title of a figure of stored slices with the grey values they are drawn between."""
    is_8_bit = all(each.image.dtype == np.uint8 for each in pictures)
    said = "grey values 0 to 255" if is_8_bit else "each from its darkest to its brightest value"
    return " · ".join(filter(None, (title, said)))


def extent_mm(pictures: Sequence[Picture]) -> tuple[float, float]:
    """Return the height and the width in mm that hold each of the pictures."""
    sizes = [np.multiply(each.image.shape, each.spacing_mm) for each in pictures]
    height, width = np.max(sizes, axis=0)
    return float(height), float(width)


def in_steps(indices: Sequence[int], n: int) -> np.ndarray:
    """Return at most n of the indices, from the first to the last in equal steps."""
    if not len(indices):
        return np.array([], int)
    return np.asarray(indices)[np.unique(np.linspace(0, len(indices) - 1, n).round().astype(int))]
