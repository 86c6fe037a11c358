"""Pictures of tables about patients and series: inventory, labels, folds, sizes, problems.

Each function takes a pandas table whose columns its docstring names, one row per series or one row
per patient.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from t4e_utils.figures import style

PLANE_COLOURS = {"axial": "#0072B2", "coronal": "#E69F00", "sagittal": "#009E73"}
INVENTORY = (
    "patient_id",
    "series",
    "n_slices",
    "plane",
    "rows",
    "columns",
    "spacing_slice_mm",
    "spacing_row_mm",
    "transfer_syntax",
)


@style.styled
def series_overview(inventory: pd.DataFrame, *, title: str = "") -> Figure:
    """Show the state of a data set: lengths, planes, spacing, matrix and transfer syntax by series.

    Args:
        inventory: One row per series, with the columns patient_id, series, n_slices, plane, rows,
            columns, spacing_slice_mm, spacing_row_mm, transfer_syntax.
        title: Title of the picture.
    """
    style.require_columns(inventory, INVENTORY)
    if inventory.empty:
        return style.sentence("No series was found.")
    counted = f"{inventory['patient_id'].nunique():,} patients, {len(inventory):,} series"
    figure = style.new_figure(height=6.2, title=f"{title} · {counted}" if title else counted)
    axes = figure.subplots(2, 3)
    _by_series(axes[0, 0], inventory, "n_slices", "Slices of a series", "slices")
    _by_series(axes[0, 1], inventory, "spacing_slice_mm", "Distance of slices", "mm")
    _by_series(axes[0, 2], inventory, "spacing_row_mm", "Size of a pixel", "mm")
    _shares(axes[1, 0], inventory, inventory["plane"].fillna("unknown"), "Plane")
    sides = inventory[["rows", "columns"]].astype(float)
    matrix = sides["rows"].map("{:.0f}".format) + " × " + sides["columns"].map("{:.0f}".format)
    _shares(axes[1, 1], inventory, matrix.where(sides.notna().all(axis=1), "unknown"), "Matrix")
    syntax = inventory["transfer_syntax"].fillna("unknown")
    _shares(axes[1, 2], inventory, syntax, "Transfer syntax")
    return figure


def _by_series(axes: Axes, inventory: pd.DataFrame, column: str, title: str, unit: str) -> None:
    """Draw the values of a column as dots, one group per series name."""
    groups = {name: group[column].dropna() for name, group in inventory.groupby("series")}
    for place, (name, values) in enumerate(groups.items()):
        style.dots(axes, values, place, colour=style.colour_of(name, place), width=0.5)
    axes.set(title=title, ylabel=unit, xlim=(-0.6, len(groups) - 0.4))
    axes.set_xticks(range(len(groups)), groups)
    axes.set_ylim(bottom=0)
    style.light_grid(axes)


def _shares(
    axes: Axes, inventory: pd.DataFrame, values: pd.Series, title: str, *, most: int = 5
) -> None:
    """Draw how often each value occurs per series name as stacked bars; rare values are one."""
    common = values.value_counts().index[:most]
    counts = pd.crosstab(inventory["series"], values.where(values.isin(common), "other"))
    counts = counts[[name for name in [*common, "other"] if name in counts]]
    left = np.zeros(len(counts))
    for place, name in enumerate(counts):
        colour = style.PALE if name == "other" else style.OTHER_COLOURS[place % 8]
        look = {"color": PLANE_COLOURS.get(name, colour), "height": 0.62, "edgecolor": "white"}
        axes.barh(counts.index, counts[name], left=left, label=name, **look)
        left += counts[name].to_numpy()
    axes.set(title=title, xlabel="series")
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    style.whole_numbers(axes.xaxis, 5)
    axes.legend(loc="upper center", bbox_to_anchor=(0.45, -0.2), ncols=2, fontsize=8.5)


@style.styled
def label_balance(
    patients: pd.DataFrame, *, label: str = "label", axes: Axes | None = None
) -> Figure:
    """Show how many patients have each label.

    Args:
        patients: One row per patient, with the label column; missing labels are counted apart.
        label: Name of that column.
        axes: Axes to draw into.
    """
    style.require_columns(patients, [label])
    if patients.empty:
        return style.sentence("No patient has a label.", axes=axes)
    colours = _label_colours()
    counts = _kinds(patients[label]).value_counts()
    counts = counts.reindex([name for name in colours if name in counts])
    axes = style.axes_or_new(axes, width=7, height=0.9 + 0.45 * len(counts))
    texts = [f"{n:,}  ({n / len(patients):.0%})" for n in counts]
    own = [colours[name] for name in counts.index]
    style.named_bars(axes, counts.to_dict(), texts, colours=own)
    axes.set(title=f"Labels of {len(patients):,} patients", xlabel="patients")
    style.whole_numbers(axes.xaxis, 6)
    return axes.figure


def _kinds(labels: pd.Series) -> pd.Series:
    """Return the name of the class of each label, or that there is none."""
    return labels.map(dict(style.palette().classes)).fillna("no label")


def _label_colours() -> dict[str, str]:
    """Return a colour for each name that `_kinds` gives, in order."""
    return style.class_colours() | {"no label": style.PALE}


@style.styled
def folds(patients: pd.DataFrame, *, label: str = "label", axes: Axes | None = None) -> Figure:
    """Show the patients of each fold and, where labels are known, their balance.

    Args:
        patients: One row per patient, with the columns patient_id, fold and, if known, the label.
        label: Name of the label column.
        axes: Axes to draw into.
    """
    style.require_columns(patients, ["patient_id", "fold"])
    if patients.empty:
        return style.sentence("No patient has a fold.", axes=axes)
    patients = patients.drop_duplicates("patient_id")
    unlabelled = pd.Series("patients", index=patients.index)
    kinds = _kinds(patients[label]) if label in patients else unlabelled
    counts = pd.crosstab(patients["fold"], kinds)
    colours = _label_colours() | {"patients": style.ACCENT}
    axes = style.axes_or_new(axes, width=7, height=3.2)
    bottom = np.zeros(len(counts))
    for name in [name for name in colours if name in counts]:
        look = {"color": colours[name], "label": name, "width": 0.62, "edgecolor": "white"}
        bars = axes.bar(counts.index.astype(str), counts[name], bottom=bottom, **look)
        ink = style.INK if name == "no label" else "white"
        texts = [f"{n}" if n else "" for n in counts[name]]
        axes.bar_label(bars, labels=texts, label_type="center", fontsize=9, color=ink)
        bottom += counts[name].to_numpy()
    title = f"{len(patients):,} patients in {len(counts)} folds"
    axes.set(title=title, xlabel="fold", ylabel="patients")
    style.whole_numbers(axes.yaxis, 5)
    if len(counts.columns) > 1:
        style.legend_beside(axes)
    return axes.figure


@style.styled
def patient_overlap(
    first: Collection[str],
    second: Collection[str],
    *,
    names: tuple[str, str] = ("first", "second"),
    axes: Axes | None = None,
) -> Figure:
    """Show two sets of patients as bars of true length that overlap where they share patients.

    Args:
        first: Patient ids of one data set.
        second: Patient ids of the other.
        names: Names of the two.
        axes: Axes to draw into.
    """
    first, second = set(first), set(second)
    both, total = len(first & second), len(first | second)
    if not total:
        return style.sentence("Neither data set has a patient.", axes=axes)
    axes = style.axes_or_new(axes, width=9, height=2.0)
    start = len(first) - both
    sizes, colours = [len(first), len(second)], [style.ACCENT, style.WARM]
    axes.barh([1, 0], sizes, left=[0, start], color=colours, height=0.55)
    axes.axvspan(start, len(first), color=style.INK, alpha=0.12, linewidth=0)
    for x, y, text in ((len(first) / 2, 1, len(first)), (start + len(second) / 2, 0, len(second))):
        axes.text(x, y, f"{text:,}", ha="center", va="center", color="white", fontweight="bold")
    axes.set(
        yticks=[1, 0],
        yticklabels=names,
        xlabel="patients",
        xlim=(0, total),
        ylim=(-0.5, 1.5),
        title=f"{both:,} patients are in both; {start:,} only in {names[0]}, "
        f"{len(second) - both:,} only in {names[1]}",
    )
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    return axes.figure


@style.styled
def region_sizes(table: pd.DataFrame) -> Figure:
    """Show the sizes of the regions and, of several, which share of the first the last covers.

    Args:
        table: One row per patient, or per study with its patient_id, with the volume of each
            region in ml in a column such as <region>_ml.
    """
    regions, finding = style.regions_in(table, "_ml"), style.palette().finding
    if table.empty:
        return style.sentence(f"No {finding} was measured.")
    n_patients = table["patient_id"].nunique() if "patient_id" in table else len(table)
    rows = "patients" if n_patients == len(table) else "studies"
    title = f"{finding.capitalize()}s of {n_patients:,} patients"
    title += f" in {len(table):,} studies" if rows == "studies" else ""
    figure = style.new_figure(height=3.3, title=title)
    axes = figure.subplots(1, len(regions) + (len(regions) > 1), squeeze=False)[0]
    sizes = {name: table[f"{name.lower()}_ml"].to_numpy(float) for name in regions}
    for place, (each, (name, values)) in enumerate(zip(axes, sizes.items(), strict=False)):
        bins = "auto" if len(values) > 20 else 8
        each.hist(values, bins=bins, color=style.colour_of(name, place), edgecolor="white")
        each.axvline(np.median(values), color=style.INK, linewidth=1.4)
        each.set(title=f"{name}: median {np.median(values):.3g} ml", xlabel=f"{name}, ml")
        each.set_ylabel(rows)
        style.whole_numbers(each.yaxis, 5)
    if len(regions) > 1:
        _part_of_whole(axes[-1], {name: sizes[name] for name in (regions[0], regions[-1])})
    return figure


def _part_of_whole(axes: Axes, sizes: dict[str, np.ndarray]) -> None:
    """Draw which share of a region another one covers against the size of the former."""
    (whole, whole_ml), (part, part_ml) = sizes.items()
    share = np.divide(part_ml, whole_ml, out=np.zeros(len(whole_ml)), where=whole_ml > 0)
    axes.scatter(whole_ml, share, s=18, color=style.INK, alpha=0.6, linewidths=0)
    axes.set(title=f"{part} share: median {np.median(share):.0%}", xlabel=f"{whole}, ml")
    axes.set(ylabel=f"{part} / {whole}", ylim=(-0.03, 1.03))
    style.light_grid(axes)


@style.styled
def counts(
    values: Sequence | pd.Series,
    *,
    title: str = "",
    unit: str = "findings",
    nothing: str = "There is nothing to report.",
    axes: Axes | None = None,
) -> Figure:
    """Show how often each value occurs, the most frequent on top: codes, fallbacks, reasons.

    Args:
        values: One value for each finding.
        title: Title of the picture.
        unit: What is counted.
        nothing: Sentence to draw when there is no value.
        axes: Axes to draw into.
    """
    counted = pd.Series(list(values), dtype=object).value_counts()
    if counted.empty:
        return style.sentence(nothing, axes=axes)
    axes = style.axes_or_new(axes, width=8, height=0.9 + 0.36 * len(counted))
    counted.index = counted.index.astype(str)
    style.named_bars(axes, counted.to_dict(), [f"{n:,}" for n in counted], room=0.08)
    axes.set(title=title, xlabel=unit)
    style.whole_numbers(axes.xaxis, 6)
    return axes.figure
