"""Pictures of how good masks are: cases side by side, overlap by group, thresholds.

Masks are `(R, H, W)`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from t4e_utils.figures import slices, stored, style
from t4e_utils.metrics import overlap
from t4e_utils.sampling.pictures import Picture


@style.styled
def triptychs(cases: Sequence[tuple[Picture, np.ndarray]], *, title: str = "") -> Figure:
    """Show cases side by side: image, expert, and prediction with the Dice of the slice.

    Args:
        cases: For each, the slice with the expert's regions, and the predicted ones (R, H, W). The
            title of the slice says what the case is: best, worst, patient, slice.
        title: Title of the figure.
    """
    if not len(cases):
        return style.sentence("There is no case to show.")
    shown = [picture for picture, _ in cases]
    sizes = [np.multiply(each.image.shape, each.spacing_mm) for each in shown]
    figure, axes = slices.slice_grid(
        [height for height, _ in sizes],
        [max(width for _, width in sizes)] * 3,
        title=stored.stated(title, shown),
        width=8.4,
        text=0.42,
        left=0.5,
        legend=True,
    )
    for row, (picture, predicted) in zip(axes, cases, strict=True):
        pairs = zip(picture.regions, picture.masks, predicted, strict=True)
        said = " · ".join(f"{name} {overlap.dice(p, t):.2f}" for name, t, p in pairs)
        stored.draw_picture(row[0], picture, title="image")
        stored.draw_picture(row[1], picture, masks="truth", title="expert")
        stored.draw_picture(row[2], picture, masks="truth", title=f"Dice {said}")
        slices.draw_masks(row[2], prediction=predicted, regions=picture.regions)
        row[0].set_ylabel(picture.title, fontweight="bold")
    slices.region_legend(figure, shown[0].regions, prediction=True)
    return figure


@style.styled
def dice_distribution(
    table: pd.DataFrame,
    *,
    by: Sequence[str] = ("plane", "series"),
    score: str = "dice",
    size: str = "truth_ml",
    title: str = "",
) -> Figure:
    """Show how good the masks are per patient, by region within groups and by size.

    Args:
        table: One row per patient, region and group, with the columns patient_id, region, the score
            and those of `by`.
        by: Columns that make a panel each.
        score: Column drawn.
        size: Column with the size of the true region in ml; a panel of its own if it is there.
        title: Title of the picture.
    """
    style.require_columns(table, ["patient_id", "region", score, *by])
    if table.empty:
        return style.sentence("No patient was scored.")
    with_size, colours = size in table, style.colours_of(dict.fromkeys(table["region"]))
    groups = [list(dict.fromkeys(table[column])) for column in by]
    said = f"{score.capitalize()} of {table['patient_id'].nunique()} patients not trained on"
    figure = style.new_figure(height=3.8, title=title or said)
    widths = [max(len(group), 2) for group in groups] + [4] * with_size
    axes = figure.subplots(1, len(widths), sharey=True, squeeze=False, width_ratios=widths)[0]
    for each, column, values in zip(axes, by, groups, strict=False):
        _grouped_dots(each, table, column, values, score, colours)
    if with_size:
        _score_by_size(axes[-1], table[table[size] > 0], size, score, colours)
    axes[0].set(ylabel=score.capitalize(), ylim=(-0.03, 1.03))
    for each in axes:
        style.light_grid(each)
    figure.legend(handles=style.patches(colours), loc="outside lower center", ncols=len(colours))
    return figure


def _score_by_size(
    axes: Axes, table: pd.DataFrame, size: str, score: str, colours: Mapping[str, str]
) -> None:
    """Draw a score against the size of the true region; regions that are not there have no size."""
    for name, group in table.groupby("region", sort=False):
        axes.scatter(group[size], group[score], s=14, color=colours[name], alpha=0.7, linewidths=0)
    axes.set(title="size", xlabel="true region, ml", xscale="log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _grouped_dots(
    axes: Axes, table: pd.DataFrame, column: str, values: Sequence, score: str, colours: Mapping
) -> None:
    """Draw a score as dots with medians: groups by the values of a column, regions side by side."""
    for place, value in enumerate(values):
        for number, (region, colour) in enumerate(colours.items()):
            is_here = (table[column] == value) & (table["region"] == region)
            found = table.loc[is_here, score].dropna()
            centre = place + 0.8 * ((number + 0.5) / len(colours) - 0.5)
            style.dots(axes, found, centre, colour=colour, width=0.55 / len(colours))
            if len(found):
                look = {"ha": "center", "va": "bottom", "fontsize": 8, "color": style.INK}
                axes.text(centre, -0.01, f"{found.median():.2f}", **look)
    axes.set(title=column, xlim=(-0.55, len(values) - 0.45))
    axes.set_xticks(range(len(values)), values)
    axes.tick_params(axis="x", length=0)


@style.styled
def threshold_sweep(
    table: pd.DataFrame, *, chosen: float, score: str = "dice", axes: Axes | None = None
) -> Figure:
    """Show the score of each region against the threshold, with the best and the chosen one.

    Args:
        table: Columns threshold, region and the score.
        chosen: Threshold in use.
        score: Column drawn.
        axes: Axes to draw into.
    """
    style.require_columns(table, ["threshold", "region", score])
    if table.empty:
        return style.sentence("No threshold was tried.", axes=axes)
    axes = style.axes_or_new(axes, width=7, height=3.2)
    known = table.dropna(subset=[score]).sort_values("threshold", kind="stable")
    for name, colour in style.colours_of(dict.fromkeys(known["region"])).items():
        group = known[known["region"] == name]
        best = group.loc[group[score].idxmax()]
        said = f"{name}: best {best[score]:.3f} at {best['threshold']:.2f}"
        axes.plot(group["threshold"], group[score], color=colour, label=said)
        look = {"color": colour, "markersize": 7, "markeredgecolor": "white"}
        axes.plot(best["threshold"], best[score], "o", **look)
    axes.axvline(chosen, label=f"in use: {chosen:g}", **style.dashed())
    axes.set(title="Threshold on the predicted probability", xlabel="threshold")
    axes.set(ylabel=score.capitalize(), xlim=(0, 1))
    style.light_grid(axes)
    style.legend_beside(axes)
    return axes.figure
