"""Pictures of stored slices: their channels, a sequence as a film strip, its chunks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from t4e_utils.figures import slices, stored, style
from t4e_utils.sampling.pictures import Picture


@style.styled
def slice_channels(picture: Picture) -> Figure:
    """Show the channels of a stored slice, the file as it looks, and the masks over the image.

    Args:
        picture: The slice; its title is that of the figure.
    """
    n_channels = picture.channels.shape[-1]
    is_colour = n_channels == 3 and picture.channels.dtype == np.uint8
    letters, (height, width) = "RGB" if is_colour else "1234", stored.extent_mm([picture])
    n_panels = n_channels + is_colour + (n_channels > 1)
    figure, axes = slices.slice_grid([height], [width] * n_panels, title=picture.title, text=0.35)
    panels = list(axes[0])
    low, high = slices.window_of(picture.image)
    said = f"{letters[0]}: {picture.names[0]}, {low:g} to {high:g}"
    stored.draw_picture(panels.pop(0), picture, title=said)
    for letter, name, mask, colour in zip(
        letters[1:],
        picture.regions,
        picture.masks,
        slices.mask_colours(picture.masks, picture.regions),
        strict=False,
    ):
        each, n, black = panels.pop(0), int(mask.sum()), np.zeros(mask.shape, np.uint8)
        said = f"{letter}: {name}, {n:,} pixel{'s' * (n != 1)}"
        slices.draw_slice(each, black, spacing_mm=picture.spacing_mm, title=said)
        slices.draw_overlay(each, mask[None], colours=[colour], alpha=1.0)
    if is_colour:
        each, (row_mm, column_mm) = panels.pop(0), picture.spacing_mm
        each.imshow(picture.channels, aspect=row_mm / column_mm)
        each.set_title("the file, in RGB", loc="center", fontsize=9, fontweight="normal", pad=4)
    if panels:
        stored.draw_picture(panels[0], picture, masks="prediction", title="masks over image")
    return figure


@style.styled
def film_strip(
    pictures: Iterable, *, columns: int = 9, channels: bool = False, title: str = ""
) -> Figure:
    """Show a sequence of slices in order, as a classifier receives it.

    Args:
        pictures: `Picture`s, whose titles stand above them, or what `stored.as_pictures` takes,
            such as the channels (T, C, H, W) of a data set. Empty frames are zero images.
        columns: Frames in a row.
        channels: Draw each channel by itself, one row for each, `columns` frames in equal steps.
        title: Title of the figure.
    """
    pictures = stored.as_pictures(pictures)
    if not pictures:
        return style.sentence("The sequence is empty.")
    names, (height, width) = pictures[0].names, stored.extent_mm(pictures)
    chosen = stored.in_steps(range(len(pictures)), columns) if channels else range(len(pictures))
    n_rows = len(names) if channels else -(-len(pictures) // columns)
    figure, axes = slices.slice_grid(
        [height] * n_rows,
        [width] * columns,
        title=stored.stated(title, pictures),
        text=0.24,
        left=0.3,
        legend=not channels,
    )
    for place, frame in enumerate(chosen):
        picture = pictures[frame]
        said = picture.title or (f"{frame}" if picture.image.any() else "zero")
        if channels:
            _channel_column(axes[:, place], picture, said)
        else:
            look = {"title": said, "letters": not place, "interpolation": "nearest"}
            stored.draw_picture(axes.flat[place], picture, masks="prediction", **look)
    for row, name in zip(axes if channels else (), names, strict=False):
        row[0].set_ylabel(name, fontweight="bold")
    if not channels:
        slices.region_legend(figure, names[1:], truth=False, prediction=True)
    return figure


def _channel_column(column: Sequence[Axes], picture: Picture, title: str) -> None:
    """Draw the channels of a slice below each other."""
    shown = [picture.image, *(mask * np.uint8(255) for mask in picture.masks)]
    for place, (each, channel) in enumerate(zip(column, shown, strict=True)):
        look = {"spacing_mm": picture.spacing_mm, "interpolation": "nearest"}
        slices.draw_slice(each, channel, title="" if place else title, **look)


@style.styled
def chunk_windows(
    bounds: Sequence[tuple[int, int]],
    n_slices: int,
    *,
    length: int,
    positions: Sequence[int] | None = None,
    title: str = "",
    axes: Axes | None = None,
) -> Figure:
    """Show the chunks of a series as windows on its kept slices; what zeros fill is hatched.

    Args:
        bounds: Start and stop of each chunk, as `sampling.chunks.chunk_bounds` returns them.
        n_slices: Kept slices of the series.
        length: Steps of a sequence.
        positions: Number of each kept slice in its series; the windows then lie on the axis of the
            series, with one dot for each slice.
        title: Title of the picture.
        axes: Axes to draw into.
    """
    if not len(bounds):
        said = f"{title}: no slice was kept, so there is no chunk.".lstrip(": ")
        return style.sentence(said, axes=axes)
    axes = style.axes_or_new(axes, height=min(1.3 + 0.22 * len(bounds), 5))
    n = f"{len(bounds)} chunk{'s' * (len(bounds) > 1)} of {length}"
    if positions is None:
        _windows_on_kept(axes, np.array(bounds), n_slices, length)
        axes.set(title=title or f"{n} from {n_slices} slices")
    else:
        _windows_on_series(axes, bounds, np.asarray(positions))
        axes.set(title=title or n)
    axes.set(ylabel="chunk", ylim=(len(bounds) - 0.4, -0.6))
    axes.set_yticks(np.arange(len(bounds))[:: max(len(bounds) // 10, 1)])
    return axes.figure


def _windows_on_kept(axes: Axes, bounds: np.ndarray, n_slices: int, length: int) -> None:
    """Draw each chunk on the axis of the kept slices, and the part that zero images fill."""
    (starts, stops), numbers = bounds.T, np.arange(len(bounds))
    axes.barh(numbers, stops - starts, left=starts, height=0.66, color=style.ACCENT, label="slices")
    short = stops - starts < length
    if short.any():
        missing = (starts + length - stops)[short]
        look = {"facecolor": "none", "hatch": "////", "edgecolor": style.PALE, "height": 0.66}
        axes.barh(numbers[short], missing, left=stops[short], label="zero images", **look)
    axes.axvline(n_slices, label=f"{n_slices} kept slices", **style.dashed(width=1.2))
    axes.set_xlabel("position among the kept slices")
    axes.set_xlim(0, max(n_slices, stops.max(), (starts + length).max()) + 1)
    style.legend_beside(axes)


def _windows_on_series(
    axes: Axes, bounds: Sequence[tuple[int, int]], positions: np.ndarray
) -> None:
    """Draw each chunk from its first to its last slice on the axis of the series."""
    for number, (start, stop) in enumerate(bounds):
        own = positions[start:stop]
        look = {"height": 0.66, "color": style.ACCENT, "alpha": 0.25}
        axes.barh(number, own[-1] - own[0] + 1, left=own[0] - 0.5, **look)
        axes.plot(own, np.full(len(own), number), "o", color=style.ACCENT, markersize=3)
        look = {"va": "center", "fontsize": 8.5, "color": style.MUTED}
        axes.text(own[-1] + 1, number, f"{len(own)} slices", **look)
    axes.set_xlabel("slice of the series")
    axes.set_xlim(positions.min() - 1, positions.max() + 0.12 * np.ptp(positions) + 2)
