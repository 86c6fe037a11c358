"""One slice drawn right: grey with its window, true proportions, directions, truth and prediction.

Images are `(H, W)`, masks `(R, H, W)` in the order of their regions, volumes `(D, H, W)` with masks
`(R, D, H, W)`. Spacing is in mm, in the order of the axes. A truth is drawn as a contour, a
prediction as a filled overlay, in the colours of the palette.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from t4e_utils.figures import style
from t4e_utils.scans import geometry

# Edges of the image of each plane in the display convention of `geometry` (radiological: the
# patient's right is on the left).
PLANE_LETTERS = {
    "axial": {"left": "R", "right": "L", "top": "A", "bottom": "P"},
    "coronal": {"left": "R", "right": "L", "top": "S", "bottom": "I"},
    "sagittal": {"left": "A", "right": "P", "top": "S", "bottom": "I"},
}
EDGES = {
    "left": (0.02, 0.5, "left", "center"),
    "right": (0.98, 0.5, "right", "center"),
    "top": (0.5, 0.98, "center", "top"),
    "bottom": (0.5, 0.02, "center", "bottom"),
}


class Cut(NamedTuple):
    """A slice of a volume in a plane, with what is needed to draw it."""

    image: np.ndarray  # (H, W), cropped to what is not background
    masks: np.ndarray | None  # (R, H, W), cropped like it
    index: int  # of the slice, from 0
    n: int  # slices of the volume in this plane
    spacing_mm: tuple[float, float]  # row, column
    letters: dict[str, str]
    plane: str

    @property
    def where(self) -> str:
        """Plane and number of the slice in words."""
        return f"{self.plane} slice {self.index} of {self.n}"


def busiest_slice(array: np.ndarray, masks: np.ndarray | None = None) -> int:
    """Return the slice with the largest area of the first region, else with most bright voxels.

    Args:
        array: Volume of shape (D, H, W).
        masks: Regions of shape (R, D, H, W), or None.
    """
    has_mask = masks is not None and len(masks)
    areas = np.asarray(masks[0], bool).sum(axis=(1, 2)) if has_mask else np.zeros(len(array))
    if not areas.any():
        finite = np.nan_to_num(np.asarray(array, dtype=np.float32))
        areas = (finite > finite.mean()).sum(axis=(1, 2))
    return int(np.argmax(areas))


def filled_box(array: np.ndarray, *, margin: float = 0.06) -> tuple[slice, slice]:
    """Return the rows and columns of a volume (D, H, W) that are not background, with a margin.

    The margin is in shares of their number. Background is what has the value of the first voxel;
    where it is noise nothing is cut off.
    """
    filled = (array != array[0, 0, 0]).any(axis=0)
    if not filled.any():
        return slice(None), slice(None)
    box = []
    for axis in (1, 0):
        first, last = np.flatnonzero(filled.any(axis=axis))[[0, -1]]
        room = round(margin * (last - first + 1))
        box.append(slice(max(first - room, 0), last + room + 1))
    return tuple(box)


def cut(
    volume,
    plane: str | None = None,
    *,
    masks: np.ndarray | None = None,
    index: int | None = None,
    is_cropped: bool = True,
) -> Cut:
    """Cut a volume in a plane, by default its own, through the slice with most of the first region.

    Args:
        volume: A `Volume`, with an array of shape (D, H, W) and an affine.
        plane: One of `geometry.PLANES`.
        masks: Regions of shape (R, D, H, W) on the grid of the volume.
        index: Slice to take instead, counted in the plane's display convention.
        is_cropped: Leave out rows and columns in which the whole volume is background.
    """
    plane = plane or geometry.plane_of(volume.affine)
    array, affine = geometry.reorient(volume.array, volume.affine, plane)
    if masks is not None:
        masks = np.stack(
            [geometry.reorient(np.asarray(mask), volume.affine, plane)[0] for mask in masks]
        )
    index = busiest_slice(array, masks) if index is None else index
    box = filled_box(array) if is_cropped else (slice(None), slice(None))
    return Cut(
        image=array[index][box],
        masks=None if masks is None else masks[(slice(None), index, *box)],
        index=index,
        n=len(array),
        spacing_mm=tuple(geometry.spacing_of(affine)[1:]),
        letters=geometry.orientation_letters(affine),
        plane=plane,
    )


def draw_slice(
    axes: Axes,
    image: np.ndarray,
    *,
    window: tuple[float, float] | None = None,
    spacing_mm: tuple[float, float] = (1.0, 1.0),
    letters: Mapping[str, str] | None = None,
    title: str = "",
    state_window: bool = False,
    interpolation: str = "bilinear",
) -> None:
    """Draw a slice in grey.

    Args:
        axes: Axes to draw into.
        image: Shape (H, W).
        window: Grey values drawn black and white; 0 and 255 for 8-bit images and the extremes of
            the image otherwise.
        spacing_mm: Distance of rows and of columns.
        letters: Directions at the edges, as `geometry.orientation_letters` returns them.
        title: Text above the slice.
        state_window: Write the window below the slice.
        interpolation: Between pixels, as in matplotlib; "nearest" shows what a network receives.
    """
    image = np.asarray(image)
    low, high = window_of(image) if window is None else window
    look = {"aspect": spacing_mm[0] / spacing_mm[1], "interpolation": interpolation}
    axes.imshow(image, cmap="gray", vmin=low, vmax=high if high > low else low + 1, **look)
    draw_letters(axes, letters or {})
    style.bare(axes)
    axes.set_title(title, loc="center", fontsize=9, fontweight="normal", pad=4)
    if state_window:
        axes.set_xlabel(window_text((low, high)), fontsize=8, color=style.MUTED, labelpad=3)


def draw_masks(
    axes: Axes,
    *,
    truth: np.ndarray | None = None,
    prediction: np.ndarray | None = None,
    regions: Sequence[str] = (),
) -> None:
    """Draw masks over a slice: truth as contours, prediction as filled overlays.

    Args:
        axes: Axes that hold the slice.
        truth: Regions of shape (R, H, W).
        prediction: Regions of shape (R, H, W).
        regions: Names of the R regions, which fix the colours; by default those of the palette.
    """
    if prediction is not None:
        draw_overlay(axes, prediction, colours=mask_colours(prediction, regions))
    if truth is not None:
        for mask, colour in zip(truth, mask_colours(truth, regions), strict=True):
            draw_contour(axes, mask, colour=colour)


def mask_colours(masks: Sequence, regions: Sequence[str] = ()) -> list[str]:
    """Return a colour for each mask, those of its region."""
    names = regions or style.region_names(len(masks))
    return [style.colour_of(name, place) for place, name in enumerate(names)]


def window_of(image: np.ndarray) -> tuple[float, float]:
    """Return 0 and 255 for 8-bit images, else the finite extremes."""
    return (0, 255) if image.dtype == np.uint8 else extremes(image, default=(0.0, 1.0))


def extremes(
    array: np.ndarray, *, default: tuple[float, float] = (0.0, 0.0)
) -> tuple[float, float]:
    """Return the lowest and the highest finite value, or the default where there is none."""
    finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array
    return (float(finite.min()), float(finite.max())) if finite.size else default


def window_text(window: tuple[float, float]) -> str:
    """Write a window in words; numbers of 10 and more without decimals."""
    low, high = (f"{value:,.0f}" if abs(value) >= 10 else f"{value:.3g}" for value in window)
    return f"window {low} to {high}"


def draw_contour(axes: Axes, mask: np.ndarray, *, colour: str, width: float = 1.4) -> None:
    """Draw the outline of a mask (H, W) in pixel coordinates; an empty mask draws nothing."""
    mask = np.asarray(mask).astype(bool)
    if not mask.any():
        return
    limits = axes.get_xlim(), axes.get_ylim()
    padded = np.pad(mask, 1).astype(float)  # so that a mask at the border has a closed outline
    rows, columns = (np.arange(-1, n + 1) for n in mask.shape)
    axes.contour(columns, rows, padded, levels=[0.5], colors=[colour], linewidths=width)
    axes.set(xlim=limits[0], ylim=limits[1])


def draw_overlay(axes: Axes, masks: np.ndarray, *, colours: Sequence, alpha: float = 0.5) -> None:
    """Fill masks (R, H, W) with see-through colours, a later mask over an earlier one.

    Empty masks draw nothing.
    """
    masks = np.asarray(masks).astype(bool)
    if masks.any():
        filled = np.zeros((*masks.shape[1:], 4), dtype=np.float32)
        for mask, colour in zip(masks, colours, strict=False):
            filled[mask] = to_rgba(colour, alpha)
        axes.imshow(filled, aspect=axes.get_aspect(), interpolation="nearest")


def draw_letters(axes: Axes, letters: Mapping[str, str]) -> None:
    """Write the direction letters inside the edges of an image."""
    look = {"color": "white", "fontsize": 9, "fontweight": "bold", "family": "DejaVu Sans Mono"}
    look["path_effects"] = [patheffects.withStroke(linewidth=2, foreground="black")]
    for edge, letter in letters.items():
        x, y, ha, va = EDGES[edge]
        axes.text(x, y, letter, ha=ha, va=va, transform=axes.transAxes, **look)


def draw_cut(
    axes: Axes,
    piece: Cut,
    *,
    title: str,
    window: tuple[float, float] | None = None,
    prediction: np.ndarray | None = None,
    regions: Sequence[str] = (),
    state_window: bool = False,
) -> None:
    """Draw a cut with its masks as the truth; options as in `draw_slice` and `draw_masks`."""
    look = {"spacing_mm": piece.spacing_mm, "letters": piece.letters, "window": window}
    draw_slice(axes, piece.image, title=title, state_window=state_window, **look)
    draw_masks(axes, truth=piece.masks, prediction=prediction, regions=regions)


def slice_grid(
    heights: Sequence[float],
    widths: Sequence[float],
    *,
    title: str = "",
    width: float = style.WIDTH,
    text: float = 0.45,
    left: float = 0.1,
    legend: bool = False,
) -> tuple[Figure, np.ndarray]:
    """Make a figure whose axes have the proportions of the images they will hold.

    Args:
        heights: Height of each row of images in mm (or any one unit for both).
        widths: Width of each column in the same unit.
        title: Title of the figure.
        width: Of the figure, in inches.
        text: Space for the text above and below each row, in inches.
        left: Space for text on the left, in inches.
        legend: Leave space for a legend below.

    Returns:
        The figure and its axes, shape (rows, columns).
    """
    scale = min((width - left - 0.1 * len(widths)) / sum(widths), 4.2 / max(heights))
    height = (
        sum(heights) * scale
        + text * len(heights)
        + (0.35 if title else 0.05)
        + (0.3 if legend else 0)
    )
    wide = sum(widths) * scale + left + 0.1 * len(widths) + 0.1
    figure = style.new_figure(min(width, wide), height, title=title)
    axes = figure.subplots(
        len(heights), len(widths), squeeze=False, width_ratios=widths, height_ratios=heights
    )
    for each in axes.flat:
        style.bare(each)
        each.set_anchor("N")
    return figure, axes


def region_legend(
    figure: Figure, regions: Sequence[str], *, truth: bool = True, prediction: bool = False
) -> None:
    """Explain contours and overlays in a line below the images."""
    colours = style.colours_of(regions)
    lines = {f"{name} expert" if prediction else name: c for name, c in colours.items()}
    filled = {f"{name} predicted": colour for name, colour in colours.items()}
    entries = style.lines(lines) if truth else []
    entries += style.patches(filled, alpha=0.6) if prediction else []
    if entries:
        figure.legend(handles=entries, loc="outside lower center", ncols=len(entries))
