"""Pictures of how far predictions agree: the chunks of a patient, the series of all patients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from t4e_utils.figures import style


@style.styled
def chunk_spread(
    chunks: pd.DataFrame,
    *,
    by: str | None = None,
    label: str = "label",
    title: str = "",
    axes: Axes | None = None,
) -> Figure:
    """Show how far the chunks of a patient disagree, one line per patient, sorted by the mean.

    The spread that is named is the median of the n patients with more than one chunk.

    Args:
        chunks: One row per chunk, with the columns patient_id, probability and, if known, the
            label.
        by: Column that makes a panel each, such as the series; `axes` is not used then.
        label: Name of the label column.
        title: Title of the picture.
        axes: Axes to draw into.
    """
    style.require_columns(chunks, ["patient_id", "probability", *([by] if by else [])])
    if chunks.empty:
        return style.sentence("No chunk was predicted.", axes=axes)
    groups = {"": chunks} if by is None else dict(iter(chunks.groupby(by, sort=False)))
    if by is None:
        panels = [style.axes_or_new(axes, height=3.4)]
    else:
        n_columns = min(len(groups), 2)
        n_rows = -(-len(groups) // n_columns)
        figure = style.new_figure(height=0.6 + 2.5 * n_rows, title=title)
        panels = figure.subplots(n_rows, n_columns, squeeze=False, sharey=True).ravel()
    for each, (name, own) in zip(panels, groups.items(), strict=False):
        _spread(each, own, label, name or title)
    for unused in panels[len(groups) :]:
        unused.set_axis_off()
    if label in chunks:
        style.legend_beside(panels[min(1, len(panels) - 1)], style.class_colours())
    return panels[0].figure


def _spread(axes: Axes, chunks: pd.DataFrame, label: str, name: str) -> None:
    """Draw the chunks of each patient as dots on a line."""
    grouped = chunks.groupby("patient_id")
    patients = grouped["probability"].agg(["min", "mean", "max", "size"])
    patients = patients.sort_values("mean", kind="stable")
    known = grouped[label].first() if label in chunks else {}
    class_colours = style.palette().class_colours
    colours = [class_colours.get(known.get(one), style.ACCENT) for one in patients.index]
    places, width = np.arange(len(patients)), np.clip(300 / len(patients), 1, 4)
    look = {"colors": colours, "linewidth": width, "alpha": 0.45}
    axes.vlines(places, patients["min"], patients["max"], **look)
    if len(patients) <= 150:
        at = chunks["patient_id"].map(dict(zip(patients.index, places, strict=True)))
        axes.scatter(at, chunks["probability"], s=6, color=style.INK, alpha=0.35, linewidths=0)
    size = np.clip(1500 / len(patients), 8, 34)
    axes.scatter(places, patients["mean"], s=size, color=colours, zorder=3)
    several = patients[patients["size"] > 1]
    spread = (several["max"] - several["min"]).median()
    said = f"median spread {spread:.2f}, n = {len(several)}"
    said = said if len(several) else "one chunk per patient"
    who = name or f"Chunks within {len(patients)} patients"
    axes.set(title=f"{who}: {said}", xlabel="patients, sorted by their mean", xticks=[])
    axes.set(ylabel="probability", ylim=(-0.03, 1.03), xlim=(-1, len(patients)))
    style.light_grid(axes)


@style.styled
def series_agreement(
    table: pd.DataFrame, *, series: Sequence[str], label: str = "label", title: str = ""
) -> Figure:
    """Compare the series pairwise: scatter below, Spearman's correlation above, histograms between.

    Args:
        table: One row per patient, with a column of probabilities for each series and, if known,
            the label.
        series: Those columns.
        label: Name of the label column.
        title: Title of the picture.
    """
    style.require_columns(table, series)
    if table.empty or not len(series):
        return style.sentence("No patient was predicted.")
    colours = pd.Series(style.ACCENT, index=table.index)
    if label in table:
        colours = table[label].map(dict(style.palette().class_colours)).fillna(style.ACCENT)
    size = min(1.9 * len(series) + 0.6, 8.5)
    said = f"Agreement of series, n = {len(table)}; numbers are Spearman's correlations"
    figure = style.new_figure(size, size, title=title or said)
    axes = figure.subplots(len(series), len(series), squeeze=False)
    for (row, column), each in np.ndenumerate(axes):
        if row == column:
            _histogram(each, table[series[row]], style.colour_of(series[row], row))
        elif row > column:
            look = {"s": 14, "c": colours, "alpha": 0.75, "linewidths": 0}
            each.scatter(table[series[column]], table[series[row]], **look)
            each.set(ylim=(-0.04, 1.04), yticks=[0, 0.5, 1])
        else:
            _correlation(each, table[[series[row], series[column]]])
        each.set(xlim=(-0.04, 1.04), xticks=[0, 0.5, 1] if row >= column else [])
        each.set_xlabel(series[column] if row == len(series) - 1 else "", fontweight="bold")
        each.set_ylabel(series[row] if column == 0 else "", fontweight="bold")
    if label in table:
        entries = style.patches(style.class_colours())
        figure.legend(handles=entries, loc="outside lower center", ncols=len(entries))
    return figure


def _histogram(axes: Axes, values: pd.Series, colour: str) -> None:
    """Draw how probabilities are spread."""
    axes.hist(values.dropna(), bins=np.linspace(0, 1, 13), color=colour, edgecolor="white")
    axes.set_yticks([])


def _correlation(axes: Axes, pair: pd.DataFrame) -> None:
    """Write Spearman's correlation of two columns, a dash where it is not defined."""
    style.bare(axes)
    found = pair.rank().corr(min_periods=3).iloc[0, 1]
    said = f"{found:.2f}".replace("-", "−") if np.isfinite(found) else "–"
    look = {"ha": "center", "va": "center", "fontsize": 15, "color": style.INK}
    axes.text(0.5, 0.5, said, transform=axes.transAxes, **look)
