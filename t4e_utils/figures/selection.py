"""Pictures of slices and how they are chosen.

Areas along a series, kept and dropped slices, the three stored channels, chunks.

Stored slices are 8-bit images `(H, W, 3)`: R the image, G the whole tumour (WT), B the enhancing
tumour (ET), masks 0 or 255. Measures are tables as `annotations.measure_slices` returns them: a row
a slice with slice, brain_area, wt_area, et_area, n_components.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from t4e_utils.annotations.regions import area_shares
from t4e_utils.figures import slices, style
from t4e_utils.sampling.pictures import split_channels

COUNT_COLOURS = LinearSegmentedColormap.from_list(
    "counts", ["#EAF2F8", "#7FB3D5", "#0072B2", "#023858"]
)


@style.styled
def area_profile(
    measures: pd.DataFrame,
    *,
    threshold: float,
    kept: Sequence[bool] | None = None,
    max_components: int | None = None,
    title: str = "",
    axes: Axes | None = None,
) -> Figure:
    """Show the tumour's share of the brain along a series, the threshold and the slices that are
    kept.

    Args:
        measures: A row a slice, with the columns slice, brain_area, wt_area, et_area (and
            n_components).
        threshold: Share of the brain above which a slice passes.
        kept: Whether each slice is kept; by default the column is_kept, if there is one.
        max_components: Slices with more separate tumours are marked.
        title: Title of the picture, such as patient, MRI type and plane.
        axes: Axes to draw into.
    """
    style.require_columns(measures, ["slice", "brain_area", "wt_area", "et_area"])
    kept = measures["is_kept"] if kept is None and "is_kept" in measures else kept
    if measures.empty:
        return style.sentence(f"{title}: no slice was measured.".lstrip(": "), axes=axes)
    axes = style.axes_or_new(axes, height=3.2)
    shares, where = area_shares(measures), measures["slice"].to_numpy()
    for name in shares:
        axes.plot(where, shares[name], color=style.colour_of(name), label=name)
        axes.fill_between(where, shares[name], color=style.colour_of(name), alpha=0.18, linewidth=0)
    axes.axhline(
        threshold,
        color=style.INK,
        linewidth=1.1,
        linestyle=(0, (4, 3)),
        label=f"threshold {threshold:.3g}",
    )
    if kept is not None:
        _mark_kept(axes, where, shares["WT"].to_numpy(), np.asarray(kept, dtype=bool), threshold)
    if max_components is not None and (measures["n_components"] > max_components).any():
        many = (measures["n_components"] > max_components).to_numpy()
        axes.plot(
            where[many],
            shares["WT"][many],
            "x",
            color=style.WARM,
            markersize=7,
            zorder=4,
            label=f"more than {max_components} separate tumours",
        )
    axes.set(
        title=title,
        xlabel="slice",
        ylabel="share of the brain",
        xlim=(where.min() - 0.5, where.max() + 0.5),
    )
    axes.set_ylim(bottom=0, top=max(axes.get_ylim()[1], threshold * 1.4))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return axes.figure


def _mark_kept(
    axes: Axes, where: np.ndarray, heights: np.ndarray, kept: np.ndarray, threshold: float
) -> None:
    """Mark kept slices with dots on the curve and lines down to the axis, and say the step
    between them.
    """
    few, steps = kept.sum() <= 40, np.diff(np.flatnonzero(kept[heights > threshold]))
    step = (
        f",\n1 in {steps[0]} of those above"
        if len(steps) and steps[0] > 1 and (steps == steps[0]).all()
        else ""
    )
    axes.vlines(
        where[kept],
        0,
        heights[kept],
        color=style.INK,
        linewidth=1 if few else 0.7,
        alpha=0.6 if few else 0.35,
    )
    axes.plot(
        where[kept],
        heights[kept],
        "o",
        color=style.INK,
        markersize=4.5 if few else 3,
        zorder=3,
        label=f"{kept.sum()} of {len(kept)} slices kept{step}",
    )


@style.styled
def slices_kept(
    table: pd.DataFrame,
    *,
    by: Sequence[str] = ("plane", "series"),
    patients: Sequence[str] | None = None,
    groups: Sequence | None = None,
    title: str = "Slices kept",
    axes: Axes | None = None,
) -> Figure:
    """Show how many slices are kept of each patient as a heat map; who has none is named below.

    Args:
        table: A row a slice, with the columns patient_id and those of `by`; of a table with the
            column is_kept, the kept ones count.
        by: What makes a column of the heat map.
        patients: All patients, so that those without a slice are seen; by default those of the
            table.
        groups: All columns, values of `by` (tuples if there are several); by default those of the
            table.
        title: Title of the picture.
        axes: Axes to draw into.
    """
    style.require_columns(table, ["patient_id", *by])
    table = table[table["is_kept"].astype(bool)] if "is_kept" in table else table
    counted = (
        table.groupby(["patient_id", *by], observed=True).size().unstack(list(by), fill_value=0)
    )
    rows = sorted(counted.index if patients is None else patients)
    names = list(counted.columns if groups is None else groups)
    if not rows or not names:
        return style.sentence("No slice was kept.", axes=axes)
    columns = pd.MultiIndex.from_tuples(names, names=list(by)) if len(by) > 1 else pd.Index(names)
    counted = counted.reindex(index=rows, columns=columns, fill_value=0)
    axes = style.axes_or_new(
        axes, width=min(1.8 + 0.95 * len(names), style.WIDTH), height=min(1.6 + 0.24 * len(rows), 6)
    )
    _heat_map(axes, counted)
    axes.set_title(f"{title}: {int(counted.to_numpy().sum()):,} of {len(rows):,} patients")
    _name_zeros(axes, counted)
    return axes.figure


def _heat_map(axes: Axes, counted: pd.DataFrame, *, most_named: int = 24) -> None:
    """Draw a table of counts; numbers and patient ids are written while there is room for them."""
    if len(counted) > most_named:
        counted = counted.loc[counted.sum(axis=1).sort_values(ascending=False, kind="stable").index]
    values = counted.to_numpy()
    image = axes.imshow(values, aspect="auto", cmap=COUNT_COLOURS, vmin=0, interpolation="nearest")
    axes.set_xticks(
        range(values.shape[1]),
        ["\n".join(map(str, np.atleast_1d(name))) for name in counted.columns],
    )
    axes.xaxis.tick_top()
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    if len(values) > most_named:
        axes.set_yticks([])
        axes.set_ylabel(f"{len(values):,} patients, sorted by their slices")
        axes.figure.colorbar(
            image, ax=axes, label="slices", pad=0.02, aspect=30
        ).outline.set_visible(False)
        return
    axes.set_yticks(range(len(values)), counted.index)
    for (row, column), n in np.ndenumerate(values):
        axes.text(
            column,
            row,
            f"{n}",
            ha="center",
            va="center",
            fontsize=8.5,
            fontweight="normal" if n else "bold",
            color="white" if n > 0.45 * values.max() else (style.INK if n else style.WARM),
        )


def _name_zeros(axes: Axes, counted: pd.DataFrame, *, most: int = 6) -> None:
    """Write below a heat map which patients have no slice in which column."""
    zeros = [
        (patient, " ".join(map(str, np.atleast_1d(name))))
        for patient, row in counted.iterrows()
        for name in row.index[row == 0]
    ]
    named = ", ".join(f"{patient} {name}" for patient, name in zeros[:most])
    more = f" and {len(zeros) - most} more" if len(zeros) > most else ""
    said = f"none kept: {named}{more}" if zeros else "every patient has slices in every column"
    room = int(axes.figure.get_figure(root=True).get_figwidth() * 13)
    axes.set_xlabel(
        textwrap.fill(said, room),
        color=style.WARM if zeros else style.MUTED,
        fontsize=8.5,
        loc="left",
        labelpad=8,
    )


@style.styled
def kept_and_dropped(
    images: np.ndarray,
    masks: np.ndarray,
    measures: pd.DataFrame,
    kept: Sequence[bool],
    *,
    n: int = 6,
    reasons: Sequence[str] | None = None,
    regions: Sequence[str] = slices.REGIONS,
    spacing_mm: tuple[float, float] = (1.0, 1.0),
    plane: str | None = None,
    title: str = "",
) -> Figure:
    """Show examples of slices that were kept, above, and dropped, below, each with its share of
    tumour.

    Args:
        images: Slices (D, H, W), 8 bit.
        masks: Regions (R, D, H, W).
        measures: A row a slice, as for `area_profile`.
        kept: Whether each slice is kept.
        n: Examples of each kind, in equal steps along the series; blank slices are no examples.
        reasons: Why each slice was dropped, a few words; written under its number.
        regions: Names of the regions.
        spacing_mm: Distance of rows and of columns.
        plane: Plane of the slices, for the letters.
        title: Title of the picture.
    """
    kept, shares = np.asarray(kept, dtype=bool), area_shares(measures)["WT"].to_numpy()
    if not len(kept):
        return style.sentence("There is no slice to choose from.")
    height, width = (size * mm for size, mm in zip(images.shape[1:], spacing_mm, strict=True))
    picture, axes = slices.slice_grid(
        [height, height], [width] * n, title=slices.stated(title), text=0.5, left=0.3
    )
    for row, kind, wanted in zip(axes, ("kept", "dropped"), (kept, ~kept), strict=True):
        row[0].set_ylabel(f"{kind} ({wanted.sum()})", fontweight="bold")
        if not wanted.any():
            style.sentence("no slice", axes=row[0])
        shown = wanted & (measures["brain_area"].to_numpy() > 0)
        for each, index in zip(row, _examples(np.flatnonzero(shown), n), strict=False):
            why = "" if reasons is None or wanted is kept else f"\n{reasons[index]}"
            slices.draw_slice(
                each,
                images[index],
                truth=masks[:, index],
                regions=regions,
                spacing_mm=spacing_mm,
                letters=slices.PLANE_LETTERS.get(plane, {}),
                title=f"slice {index}: {shares[index]:.1%}{why}",
            )
    return picture


def _examples(indices: np.ndarray, n: int) -> np.ndarray:
    """Return at most n of the indices, from the first to the last in equal steps."""
    return (
        indices[np.unique(np.linspace(0, len(indices) - 1, n).round().astype(int))]
        if len(indices)
        else indices
    )


@style.styled
def slice_channels(
    stored: np.ndarray,
    *,
    regions: Sequence[str] = slices.REGIONS,
    spacing_mm: tuple[float, float] = (1.0, 1.0),
    plane: str | None = None,
    title: str = "",
) -> Figure:
    """Show the three channels of a stored slice, the file as it looks, and the masks over the
    image.

    Args:
        stored: 8-bit slice (H, W, 3).
        regions: Names of channels 2 and 3.
        spacing_mm: Distance of rows and of columns.
        plane: Plane of the slice, for the letters.
        title: Title of the picture, such as patient, MRI type and slice.
    """
    image, masks = split_channels(stored)
    height, width = (size * mm for size, mm in zip(image.shape, spacing_mm, strict=True))
    picture, axes = slices.slice_grid([height], [width] * 5, title=title, text=0.35)
    letters = slices.PLANE_LETTERS.get(plane, {})
    slices.draw_slice(
        axes[0, 0], image, spacing_mm=spacing_mm, letters=letters, title="R: image, 0 to 255"
    )
    for each, name, channel, mask in zip(axes[0, 1:], regions, "GB", masks, strict=False):
        n, black = int(mask.sum()), np.zeros(mask.shape, np.uint8)
        said = f"{channel}: {name}, {n:,} pixel{'s' * (n != 1)}"
        slices.draw_slice(each, black, spacing_mm=spacing_mm, title=said)
        slices.draw_overlay(each, mask[None], colours=[style.colours_of(regions)[name]], alpha=1.0)
    axes[0, 3].imshow(stored, aspect=spacing_mm[0] / spacing_mm[1])
    axes[0, 3].set_title("the file, in RGB", loc="center", fontsize=9, fontweight="normal", pad=4)
    slices.draw_slice(
        axes[0, 4],
        image,
        prediction=masks,
        regions=regions,
        spacing_mm=spacing_mm,
        letters=letters,
        title="masks over image",
    )
    return picture


@style.styled
def film_strip(
    images: np.ndarray,
    *,
    positions: Sequence[int] | None = None,
    columns: int = 9,
    regions: Sequence[str] = slices.REGIONS,
    channels: bool = False,
    spacing_mm: tuple[float, float] = (1.0, 1.0),
    plane: str | None = None,
    title: str = "",
) -> Figure:
    """Show a sequence of 3-channel slices in order, as the classifier receives it.

    Empty frames are zero images.

    Args:
        images: Sequence (T, 3, H, W) or (T, H, W, 3), 8 bit.
        positions: Number of each slice in its series, shorter than T where zero images fill the
            end.
        columns: Frames in a row.
        regions: Names of channels 2 and 3.
        channels: Draw each channel by itself, in three rows of `columns` frames in equal steps.
        spacing_mm: Distance of rows and of columns; equal ones show what a network receives.
        plane: Plane of the slices, for the letters at the first frame.
        title: Title of the picture.
    """
    if not len(images):
        return style.sentence("The sequence is empty.")
    grey, masks = split_channels(images)
    shown = _examples(np.arange(len(grey)), columns) if channels else np.arange(len(grey))
    n_rows = 3 if channels else -(-len(shown) // columns)
    height, width = (size * mm for size, mm in zip(grey.shape[1:], spacing_mm, strict=True))
    picture, axes = slices.slice_grid(
        [height] * n_rows,
        [width] * columns,
        title=slices.stated(title),
        text=0.24,
        left=0.3,
        legend=not channels,
    )
    for place, frame in enumerate(shown):
        name = _frame_name(frame, positions, grey[frame])
        if channels:
            for each, channel, kind in zip(
                axes[:, place], (grey, *masks), ("image", *regions), strict=True
            ):
                slices.draw_slice(
                    each,
                    channel[frame].astype(np.uint8) * (1 if kind == "image" else 255),
                    interpolation="nearest",
                    spacing_mm=spacing_mm,
                    title=name if kind == "image" else "",
                )
                axes[("image", *regions).index(kind), 0].set_ylabel(kind, fontweight="bold")
        else:
            slices.draw_slice(
                axes.flat[place],
                grey[frame],
                prediction=masks[:, frame],
                regions=regions,
                spacing_mm=spacing_mm,
                letters={} if place else slices.PLANE_LETTERS.get(plane, {}),
                title=name,
                interpolation="nearest",
            )
    if not channels:
        slices.region_legend(picture, regions, truth=False, prediction=True)
    return picture


def _frame_name(frame: int, positions: Sequence[int] | None, image: np.ndarray) -> str:
    if positions is None:
        return f"{frame}" if image.any() else "zero"
    return f"slice {positions[frame]}" if frame < len(positions) else "zero"


@style.styled
def chunk_windows(
    bounds: Sequence[tuple[int, int]],
    n_slices: int,
    *,
    length: int = 35,
    positions: Sequence[int] | None = None,
    title: str = "",
    axes: Axes | None = None,
) -> Figure:
    """Show the chunks of a series as windows on its kept slices.

    The part that zero images fill is hatched.

    Args:
        bounds: Start and stop of each chunk, as `sampling.chunk_bounds` returns them.
        n_slices: Kept slices of the series.
        length: Steps of a sequence.
        positions: Number of each kept slice in its series; the windows then lie on the axis of the
            series, a dot a slice.
        title: Title of the picture.
        axes: Axes to draw into.
    """
    if not len(bounds):
        return style.sentence(
            f"{title}: no slice was kept, so there is no chunk.".lstrip(": "), axes=axes
        )
    axes = style.axes_or_new(axes, height=min(1.3 + 0.22 * len(bounds), 5))
    starts, stops = np.array(bounds).T
    numbers = np.arange(len(bounds))
    if positions is not None:
        return _windows_on_series(
            axes, bounds, np.asarray(positions), title or f"{len(bounds)} chunks of {length}"
        )
    axes.barh(numbers, stops - starts, left=starts, height=0.66, color=style.ACCENT, label="slices")
    short = stops - starts < length
    if short.any():
        axes.barh(
            numbers[short],
            (starts + length - stops)[short],
            left=stops[short],
            height=0.66,
            facecolor="none",
            hatch="////",
            edgecolor=style.PALE,
            label="zero images",
        )
    axes.axvline(
        n_slices,
        color=style.INK,
        linewidth=1.2,
        linestyle=(0, (4, 3)),
        label=f"{n_slices} kept slices",
    )
    axes.set(
        title=title
        or f"{len(bounds)} chunk{'s' * (len(bounds) > 1)} of {length} from {n_slices} slices",
        xlabel="position among the kept slices",
        ylabel="chunk",
        xlim=(0, max(n_slices, stops.max(), (starts + length).max()) + 1),
        ylim=(len(bounds) - 0.4, -0.6),
    )
    axes.set_yticks(numbers[:: max(len(bounds) // 10, 1)])
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return axes.figure


def _windows_on_series(
    axes: Axes, bounds: Sequence[tuple[int, int]], positions: np.ndarray, title: str
) -> Figure:
    """Draw each chunk from its first to its last slice on the axis of the series, with a dot for
    each slice in it.
    """
    for number, (start, stop) in enumerate(bounds):
        own = positions[start:stop]
        axes.barh(
            number,
            own[-1] - own[0] + 1,
            left=own[0] - 0.5,
            height=0.66,
            color=style.ACCENT,
            alpha=0.25,
        )
        axes.plot(own, np.full(len(own), number), "o", color=style.ACCENT, markersize=3)
        axes.text(
            own[-1] + 1, number, f"{len(own)} slices", va="center", fontsize=8.5, color=style.MUTED
        )
    axes.set(
        title=title, xlabel="slice of the series", ylabel="chunk", ylim=(len(bounds) - 0.4, -0.6)
    )
    axes.set_xlim(positions.min() - 1, positions.max() + 0.12 * np.ptp(positions) + 2)
    axes.set_yticks(np.arange(len(bounds))[:: max(len(bounds) // 10, 1)])
    return axes.figure
