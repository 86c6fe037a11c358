"""One slice drawn right.

Grey with its window, true proportions, the letters of the body's directions, truth and prediction.

Images are `(H, W)`, masks `(R, H, W)` in the order of `regions`, volumes `(D, H, W)` with masks
`(R, D, H, W)`. Spacing is in mm, in the order of the axes. A truth is drawn as a contour, a
prediction as a filled overlay, in the colours of `style.REGION_COLOURS`.
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

REGIONS = ("WT", "ET")
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

    image: np.ndarray  # (H, W), cropped to the head
    masks: np.ndarray | None  # (R, H, W), cropped like it
    index: int  # of the slice, from 0
    n: int  # slices of the volume in this plane
    spacing_mm: tuple[float, float]  # row, column
    letters: dict[str, str]
    plane: str


def busiest_slice(array: np.ndarray, masks: np.ndarray | None = None) -> int:
    """Return the slice with the largest area of the first region.

    Without a tumour, the one with the most bright voxels.

    Args:
        array: Volume of shape (D, H, W).
        masks: Regions of shape (R, D, H, W), or None.
    """
    areas = (
        np.zeros(len(array))
        if masks is None
        else np.asarray(masks[0]).astype(bool).sum(axis=(1, 2))
    )
    if not areas.any():
        finite = np.nan_to_num(np.asarray(array, dtype=np.float32))
        areas = (finite > finite.mean()).sum(axis=(1, 2))
    return int(np.argmax(areas))


def head_box(array: np.ndarray, *, margin: float = 0.06) -> tuple[slice, slice]:
    """Return the rows and columns of a volume (D, H, W) that hold the head, with a margin in shares
    of its size.

    Background is what has the value of the first voxel; where it is noise nothing is cut off.
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
    """Cut a volume in a plane, by default its own and through the slice with the most tumour.

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
    box = head_box(array) if is_cropped else (slice(None), slice(None))
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
    truth: np.ndarray | None = None,
    prediction: np.ndarray | None = None,
    regions: Sequence[str] = REGIONS,
    spacing_mm: tuple[float, float] = (1.0, 1.0),
    letters: Mapping[str, str] | None = None,
    title: str = "",
    state_window: bool = False,
    interpolation: str = "bilinear",
) -> None:
    """Draw a slice in grey, with truth as contours and prediction as filled overlays.

    Args:
        axes: Axes to draw into.
        image: Shape (H, W).
        window: Grey values drawn black and white; 0 and 255 for 8-bit images and the extremes of
            the image otherwise.
        truth: Regions of shape (R, H, W) drawn as contours.
        prediction: Regions of shape (R, H, W) drawn as overlays.
        regions: Names of the R regions, which fix the colours.
        spacing_mm: Distance of rows and of columns.
        letters: Directions at the edges, as `geometry.orientation_letters` returns them.
        title: Text above the slice.
        state_window: Write the window below the slice.
        interpolation: Between pixels, as in matplotlib; "nearest" shows what a network receives.
    """
    image = np.asarray(image)
    low, high = window_of(image) if window is None else window
    axes.imshow(
        image,
        cmap="gray",
        vmin=low,
        vmax=high if high > low else low + 1,
        aspect=spacing_mm[0] / spacing_mm[1],
        interpolation=interpolation,
    )
    colours = style.colours_of(regions)
    if prediction is not None:
        draw_overlay(axes, prediction, colours=list(colours.values()))
    for name, mask in zip(regions, () if truth is None else truth, strict=False):
        draw_contour(axes, mask, colour=colours[name])
    draw_letters(axes, letters or {})
    style.bare(axes)
    axes.set_title(title, loc="center", fontsize=9, fontweight="normal", pad=4)
    if state_window:
        axes.set_xlabel(window_text((low, high)), fontsize=8, color=style.MUTED, labelpad=3)


def window_of(image: np.ndarray) -> tuple[float, float]:
    """Return 0 and 255 for 8-bit images, else the finite extremes."""
    if image.dtype == np.uint8:
        return 0, 255
    finite = image[np.isfinite(image)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)


def window_text(window: tuple[float, float]) -> str:
    """Write a window in words; numbers of 10 and more without decimals."""
    low, high = (f"{value:,.0f}" if abs(value) >= 10 else f"{value:.3g}" for value in window)
    return f"window {low} to {high}"


def stated(title: str) -> str:
    """Return the title of a picture of 8-bit slices with their window.

    Their volume's own became grey values 0 to 255 before they were stored.
    """
    return " · ".join(filter(None, (title, "grey values 0 to 255")))


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
    shade = [patheffects.withStroke(linewidth=2, foreground="black")]
    for edge, letter in letters.items():
        x, y, ha, va = EDGES[edge]
        axes.text(
            x,
            y,
            letter,
            ha=ha,
            va=va,
            transform=axes.transAxes,
            color="white",
            fontsize=9,
            fontweight="bold",
            family="DejaVu Sans Mono",
            path_effects=shade,
        )


def draw_cut(axes: Axes, piece: Cut, *, title: str = "", **options) -> None:
    """Draw a cut; its masks are the truth unless the options say otherwise.

    The slice number follows the title.
    """
    where = f"{piece.plane} slice {piece.index} of {piece.n}"
    options = {"truth": piece.masks} | options
    draw_slice(
        axes,
        piece.image,
        spacing_mm=piece.spacing_mm,
        letters=piece.letters,
        title=f"{title}\n{where}" if title else where,
        **options,
    )


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
    """Make a picture whose axes have the proportions of the images they will hold.

    Args:
        heights: Height of each row of images in mm (or any one unit for both).
        widths: Width of each column in the same unit.
        title: Title of the picture.
        width: Of the picture, in inches.
        text: Space for the text above and below each row, in inches.
        left: Space for text on the left, in inches.
        legend: Leave space for a legend below.

    Returns:
        The picture and its axes, shape (rows, columns).
    """
    scale = min((width - left - 0.1 * len(widths)) / sum(widths), 4.2 / max(heights))
    height = (
        sum(heights) * scale
        + text * len(heights)
        + (0.35 if title else 0.05)
        + (0.3 if legend else 0)
    )
    picture = style.new_picture(
        min(width, sum(widths) * scale + left + 0.1 * len(widths) + 0.1), height, title=title
    )
    axes = picture.subplots(
        len(heights), len(widths), squeeze=False, width_ratios=widths, height_ratios=heights
    )
    for each in axes.flat:
        style.bare(each)
        each.set_anchor("N")
    return picture, axes


def region_legend(
    picture: Figure, regions: Sequence[str], *, truth: bool = True, prediction: bool = False
) -> None:
    """Explain contours and overlays in a line below the images."""
    colours = style.colours_of(regions)
    entries = (
        style.lines({f"{name} expert" if prediction else name: c for name, c in colours.items()})
        if truth
        else []
    )
    entries += (
        style.patches({f"{name} predicted": c for name, c in colours.items()}, alpha=0.6)
        if prediction
        else []
    )
    picture.legend(handles=entries, loc="outside lower center", ncols=len(entries))
