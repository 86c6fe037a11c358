"""Pictures of how slices are chosen: areas along a series, kept and dropped slices.

Measures are tables as `annotations.regions.measure_slices` returns them: one row per slice with
slice, <foreground>_area, <region>_area for each region, n_components.
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
from t4e_utils.figures import slices, stored, style
from t4e_utils.sampling.pictures import Picture

COUNT_COLOURS = LinearSegmentedColormap.from_list(
    "counts", ["#EAF2F8", "#7FB3D5", "#0072B2", "#023858"]
)


def _shares(measures: pd.DataFrame) -> pd.DataFrame:
    """Return the share of the foreground that each region covers, one column per region."""
    foreground = style.palette().foreground
    style.require_columns(measures, ["slice", f"{foreground}_area"])
    regions = style.regions_in(measures, "_area")
    return area_shares(measures, regions=regions, foreground=foreground)


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
    """Show the share of each region along a series, the threshold and the slices that are kept.

    Args:
        measures: One row per slice, with the columns slice, <foreground>_area and those of the
            regions, such as <region>_area (and n_components).
        threshold: Share of the foreground above which the first region lets a slice pass.
        kept: Whether each slice is kept; by default the column is_kept, if there is one.
        max_components: Slices with more separate findings are marked.
        title: Title of the picture; by default patient, series and plane of the table.
        axes: Axes to draw into.
    """
    shares, title = _shares(measures), title or style.title_of(measures)
    kept = measures["is_kept"] if kept is None and "is_kept" in measures else kept
    if measures.empty:
        return style.sentence(f"{title}: no slice was measured.".lstrip(": "), axes=axes)
    axes, where = style.axes_or_new(axes, height=3.2), measures["slice"].to_numpy()
    for name, colour in style.colours_of(shares).items():
        axes.plot(where, shares[name], color=colour, label=name)
        axes.fill_between(where, shares[name], color=colour, alpha=0.18, linewidth=0)
    axes.axhline(threshold, label=f"threshold {threshold:.3g}", **style.dashed())
    first = shares.iloc[:, 0].to_numpy()
    if kept is not None:
        _mark_kept(axes, where, first, np.asarray(kept, dtype=bool), threshold)
    if max_components is not None and (measures["n_components"] > max_components).any():
        many = (measures["n_components"] > max_components).to_numpy()
        said = f"more than {max_components} separate {style.palette().finding}s"
        look = {"color": style.WARM, "markersize": 7, "zorder": 4}
        axes.plot(where[many], first[many], "x", label=said, **look)
    axes.set(title=title, xlabel="slice", ylabel=f"share of the {style.palette().foreground}")
    axes.set_xlim(where.min() - 0.5, where.max() + 0.5)
    axes.set_ylim(bottom=0, top=max(axes.get_ylim()[1], threshold * 1.4))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    style.legend_beside(axes)
    return axes.figure


def _mark_kept(
    axes: Axes, where: np.ndarray, heights: np.ndarray, kept: np.ndarray, threshold: float
) -> None:
    """Mark kept slices with dots and lines down to the axis, and say the step between them."""
    few, steps = kept.sum() <= 40, np.diff(np.flatnonzero(kept[heights > threshold]))
    is_even = len(steps) and steps[0] > 1 and (steps == steps[0]).all()
    step = f",\n1 in {steps[0]} of those above" if is_even else ""
    look = {"linewidth": 1, "alpha": 0.6} if few else {"linewidth": 0.7, "alpha": 0.35}
    axes.vlines(where[kept], 0, heights[kept], color=style.INK, **look)
    said = f"{kept.sum()} of {len(kept)} slices kept{step}"
    look = {"color": style.INK, "markersize": 4.5 if few else 3, "zorder": 3}
    axes.plot(where[kept], heights[kept], "o", label=said, **look)


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
        table: One row per slice, with the columns patient_id and those of `by`; of a table with the
            column is_kept, the kept ones count.
        by: What makes a column of the heat map.
        patients: All patients, so that those without a slice are seen; each once, however often
            it is named. By default those of the table.
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
    rows = sorted({*(counted.index if patients is None else patients)})
    names = list(counted.columns if groups is None else groups)
    if not rows or not names:
        return style.sentence("No slice was kept.", axes=axes)
    columns = pd.MultiIndex.from_tuples(names, names=list(by)) if len(by) > 1 else pd.Index(names)
    counted = counted.reindex(index=rows, columns=columns, fill_value=0)
    width, height = min(1.8 + 0.95 * len(names), style.WIDTH), min(1.6 + 0.24 * len(rows), 6)
    axes = style.axes_or_new(axes, width=width, height=height)
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
    names = ["\n".join(map(str, np.atleast_1d(name))) for name in counted.columns]
    axes.set_xticks(range(values.shape[1]), names)
    axes.xaxis.tick_top()
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    if len(values) > most_named:
        axes.set_yticks([])
        axes.set_ylabel(f"{len(values):,} patients, sorted by their slices")
        bar = axes.figure.colorbar(image, ax=axes, label="slices", pad=0.02, aspect=30)
        bar.outline.set_visible(False)
        return
    axes.set_yticks(range(len(values)), counted.index)
    for (row, column), n in np.ndenumerate(values):
        ink = "white" if n > 0.45 * values.max() else (style.INK if n else style.WARM)
        look = {"ha": "center", "va": "center", "fontsize": 8.5, "color": ink}
        axes.text(column, row, f"{n}", fontweight="normal" if n else "bold", **look)


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
    ink = style.WARM if zeros else style.MUTED
    axes.set_xlabel(textwrap.fill(said, room), color=ink, fontsize=8.5, loc="left", labelpad=8)


@style.styled
def kept_and_dropped(
    pictures: Sequence[Picture],
    measures: pd.DataFrame,
    kept: Sequence[bool] | None = None,
    *,
    n: int = 6,
    reasons: Sequence[str] | None = None,
    title: str = "",
) -> Figure:
    """Show slices that were kept, above, and dropped, below, with their share of the first region.

    Args:
        pictures: All slices of a series with their regions, such as `scans.slice_pictures`.
        measures: One row per slice, as for `area_profile`.
        kept: Whether each slice is kept; by default the column is_kept.
        n: Examples of each kind, in equal steps along the series; blank slices are no examples.
        reasons: Why each slice was dropped, a few words; written under its number.
        title: Title of the picture; by default patient, series and plane of the table.
    """
    if not len(pictures):
        return style.sentence("There is no slice to choose from.")
    kept = np.asarray(measures["is_kept"] if kept is None else kept, dtype=bool)
    shares = _shares(measures).iloc[:, 0].to_numpy()
    is_filled = measures[f"{style.palette().foreground}_area"].to_numpy() > 0
    height, width = stored.extent_mm(pictures)
    title = stored.stated(title or style.title_of(measures), pictures)
    figure, axes = slices.slice_grid([height] * 2, [width] * n, title=title, text=0.5, left=0.3)
    for row, kind, wanted in zip(axes, ("kept", "dropped"), (kept, ~kept), strict=True):
        row[0].set_ylabel(f"{kind} ({wanted.sum()})", fontweight="bold")
        if not wanted.any():
            style.sentence("no slice", axes=row[0])
        shown = stored.in_steps(np.flatnonzero(wanted & is_filled), n)
        for each, index in zip(row, shown, strict=False):
            why = "" if reasons is None or wanted is kept else f"\n{reasons[index]}"
            said = f"slice {index}: {shares[index]:.1%}{why}"
            stored.draw_picture(each, pictures[index], masks="truth", title=said)
    return figure
