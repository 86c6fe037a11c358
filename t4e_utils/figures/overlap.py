"""Pictures of how good masks are: cases side by side, overlap by group, thresholds.

Images are `(H, W)`, masks `(R, H, W)`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from t4e_utils.figures import slices, style
from t4e_utils.metrics import overlap


@style.styled
def triptychs(
    images: Sequence[np.ndarray],
    truths: Sequence[np.ndarray],
    predictions: Sequence[np.ndarray],
    *,
    names: Sequence[str] = (),
    regions: Sequence[str] = slices.REGIONS,
    spacings_mm: Sequence[tuple[float, float]] | None = None,
    planes: Sequence[str] = (),
    title: str = "",
) -> Figure:
    """Show cases side by side.

    Image, expert, prediction with the expert's contour and the Dice of the slice.

    Args:
        images: A slice (H, W) for each case.
        truths: The expert's regions (R, H, W) of each.
        predictions: The predicted regions (R, H, W) of each, boolean.
        names: What each case is: best, median, worst, patient, slice.
        regions: Names of the regions.
        spacings_mm: Distance of rows and columns of each.
        planes: Plane of each, for the letters.
        title: Title of the picture.
    """
    if not len(images):
        return style.sentence("There is no case to show.")
    spacings = spacings_mm or [(1.0, 1.0)] * len(images)
    heights = [image.shape[0] * mm[0] for image, mm in zip(images, spacings, strict=True)]
    width = max(image.shape[1] * mm[1] for image, mm in zip(images, spacings, strict=True))
    picture, axes = slices.slice_grid(
        heights,
        [width] * 3,
        title=slices.stated(title),
        width=8.4,
        text=0.42,
        left=0.5,
        legend=True,
    )
    for place, row in enumerate(axes):
        options = {
            "regions": regions,
            "spacing_mm": spacings[place],
            "letters": slices.PLANE_LETTERS.get(planes[place] if len(planes) else "", {}),
        }
        figures = " · ".join(
            f"{name} {overlap.dice(p, t):.2f}"
            for name, t, p in zip(regions, truths[place], predictions[place], strict=True)
        )
        slices.draw_slice(row[0], images[place], title="image", **options)
        slices.draw_slice(row[1], images[place], truth=truths[place], title="expert", **options)
        slices.draw_slice(
            row[2],
            images[place],
            truth=truths[place],
            prediction=predictions[place],
            title=f"Dice {figures}",
            **options,
        )
        row[0].set_ylabel(names[place] if len(names) else "", fontweight="bold")
    slices.region_legend(picture, regions, prediction=True)
    return picture


@style.styled
def dice_distribution(
    table: pd.DataFrame,
    *,
    by: Sequence[str] = ("plane", "series"),
    score: str = "dice",
    size: str = "truth_ml",
    title: str = "",
) -> Figure:
    """Show how good the masks are per patient.

    By region within planes, MRI types and, where it is known, tumour size.

    Args:
        table: A row a patient, series, plane and region, with the columns patient_id, region, the
            score and those of `by`.
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
    picture = style.new_picture(
        height=3.8,
        title=title
        or f"{score.capitalize()} of {table['patient_id'].nunique()} patients not trained on",
    )
    axes = picture.subplots(
        1,
        len(by) + with_size,
        sharey=True,
        squeeze=False,
        width_ratios=[max(len(g), 2) for g in groups] + [4] * with_size,
    )[0]
    for each, column, values in zip(axes, by, groups, strict=False):
        _grouped_dots(each, table, column, values, score, colours)
    if with_size:
        _score_by_size(axes[-1], table[table[size] > 0], size, score, colours)
    axes[0].set(ylabel=score.capitalize(), ylim=(-0.03, 1.03))
    for each in axes:
        style.light_grid(each)
    picture.legend(handles=style.patches(colours), loc="outside lower center", ncols=len(colours))
    return picture


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
    """Draw a score as dots, groups by the values of a column and regions side by side, medians
    written below.
    """
    for place, value in enumerate(values):
        for number, (region, colour) in enumerate(colours.items()):
            found = table.loc[
                (table[column] == value) & (table["region"] == region), score
            ].dropna()
            centre = place + 0.8 * ((number + 0.5) / len(colours) - 0.5)
            style.dots(axes, found, centre, colour=colour, width=0.55 / len(colours))
            if len(found):
                axes.text(
                    centre,
                    -0.01,
                    f"{found.median():.2f}",
                    ha="center",
                    va="bottom",
                    fontsize=8,
                    color=style.INK,
                )
    axes.set(
        title=column.replace("series", "MRI type"),
        xticks=range(len(values)),
        xticklabels=values,
        xlim=(-0.55, len(values) - 0.45),
    )
    axes.tick_params(axis="x", length=0)


@style.styled
def threshold_sweep(
    table: pd.DataFrame, *, chosen: float = 0.5, score: str = "dice", axes: Axes | None = None
) -> Figure:
    """Show the score against the threshold on the predicted probability, per region, with the best
    and the chosen one.

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
        axes.plot(
            best["threshold"], best[score], "o", color=colour, markersize=7, markeredgecolor="white"
        )
    axes.axvline(
        chosen, color=style.INK, linewidth=1.1, linestyle=(0, (4, 3)), label=f"in use: {chosen:g}"
    )
    axes.set(
        title="Threshold on the predicted probability",
        xlabel="threshold",
        ylabel=score.capitalize(),
        xlim=(0, 1),
    )
    style.light_grid(axes)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return axes.figure
