"""Pictures of tables about patients and series.

Inventory, labels, folds, overlap of data sets, tumour sizes, problems.

Each function takes a pandas table whose columns its docstring names, a row a series or a row a
patient.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

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
    """Show the state of a data set.

    Lengths, planes, spacing, matrix and transfer syntax per MRI type.

    Args:
        inventory: A row a series, with the columns patient_id, series, n_slices, plane, rows,
            columns, spacing_slice_mm, spacing_row_mm, transfer_syntax.
        title: Title of the picture.
    """
    style.require_columns(inventory, INVENTORY)
    if inventory.empty:
        return style.sentence("No series was found.")
    counted = f"{inventory['patient_id'].nunique():,} patients, {len(inventory):,} series"
    picture = style.new_picture(height=6.2, title=f"{title} · {counted}" if title else counted)
    axes = picture.subplots(2, 3)
    _by_series(axes[0, 0], inventory, "n_slices", "Slices of a series", "slices")
    _by_series(axes[0, 1], inventory, "spacing_slice_mm", "Distance of slices", "mm")
    _by_series(axes[0, 2], inventory, "spacing_row_mm", "Size of a pixel", "mm")
    _shares(axes[1, 0], inventory, inventory["plane"].fillna("unknown"), "Plane")
    sides = inventory[["rows", "columns"]].astype(float)
    matrix = sides["rows"].map("{:.0f}".format) + " × " + sides["columns"].map("{:.0f}".format)
    _shares(axes[1, 1], inventory, matrix.where(sides.notna().all(axis=1), "unknown"), "Matrix")
    _shares(
        axes[1, 2], inventory, inventory["transfer_syntax"].fillna("unknown"), "Transfer syntax"
    )
    return picture


def _by_series(axes: Axes, inventory: pd.DataFrame, column: str, title: str, unit: str) -> None:
    """Draw the values of a column as dots, a group an MRI type."""
    groups = {name: group[column].dropna() for name, group in inventory.groupby("series")}
    for place, (name, values) in enumerate(groups.items()):
        style.dots(axes, values, place, colour=style.colour_of(name, place), width=0.5)
    axes.set(
        title=title,
        ylabel=unit,
        xticks=range(len(groups)),
        xticklabels=groups,
        xlim=(-0.6, len(groups) - 0.4),
    )
    axes.set_ylim(bottom=0)
    style.light_grid(axes)


def _shares(
    axes: Axes, inventory: pd.DataFrame, values: pd.Series, title: str, *, most: int = 5
) -> None:
    """Draw how often each value occurs per MRI type as stacked bars; rare values are one."""
    common = values.value_counts().index[:most]
    counts = pd.crosstab(inventory["series"], values.where(values.isin(common), "other"))
    counts = counts[[name for name in [*common, "other"] if name in counts]]
    left = np.zeros(len(counts))
    for place, name in enumerate(counts):
        colour = PLANE_COLOURS.get(
            name, "#C5CDD5" if name == "other" else style.OTHER_COLOURS[place % 8]
        )
        axes.barh(
            counts.index,
            counts[name],
            left=left,
            color=colour,
            label=name,
            height=0.62,
            edgecolor="white",
        )
        left += counts[name].to_numpy()
    axes.set(title=title, xlabel="series")
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.legend(loc="upper center", bbox_to_anchor=(0.45, -0.2), ncols=2, fontsize=8.5)


@style.styled
def label_balance(
    patients: pd.DataFrame,
    *,
    label: str = "label",
    names: dict = style.CLASS_NAMES,
    axes: Axes | None = None,
) -> Figure:
    """Show how many patients have each label.

    Args:
        patients: A row a patient, with the label column; missing labels are counted apart.
        label: Name of that column.
        names: What the labels mean.
        axes: Axes to draw into.
    """
    style.require_columns(patients, [label])
    if patients.empty:
        return style.sentence("No patient has a label.", axes=axes)
    counts = patients[label].map(names).fillna("no label").value_counts()
    counts = counts.reindex([name for name in [*names.values(), "no label"] if name in counts])
    colours = [
        dict(zip(names.values(), style.CLASS_COLOURS.values(), strict=False)).get(name, style.PALE)
        for name in counts.index
    ]
    axes = style.axes_or_new(axes, width=7, height=0.9 + 0.45 * len(counts))
    bars = axes.barh(counts.index, counts, color=colours, height=0.62)
    style.label_bars(axes, bars, [f"{n:,}  ({n / len(patients):.0%})" for n in counts])
    axes.set(title=f"Labels of {len(patients):,} patients", xlabel="patients")
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    return axes.figure


@style.styled
def folds(
    patients: pd.DataFrame,
    *,
    label: str = "label",
    names: dict = style.CLASS_NAMES,
    axes: Axes | None = None,
) -> Figure:
    """Show the patients of each fold and, where labels are known, their balance.

    Args:
        patients: A row a patient, with the columns patient_id, fold and, if known, the label.
        label: Name of the label column.
        names: What the labels mean.
        axes: Axes to draw into.
    """
    style.require_columns(patients, ["patient_id", "fold"])
    if patients.empty:
        return style.sentence("No patient has a fold.", axes=axes)
    patients = patients.drop_duplicates("patient_id")
    kinds = (
        patients[label].map(names).fillna("no label")
        if label in patients
        else pd.Series("patients", index=patients.index)
    )
    counts = pd.crosstab(patients["fold"], kinds)
    counts = counts[[name for name in [*names.values(), "no label", "patients"] if name in counts]]
    colours = dict(zip(names.values(), style.CLASS_COLOURS.values(), strict=False)) | {
        "no label": style.PALE,
        "patients": style.ACCENT,
    }
    axes = style.axes_or_new(axes, width=7, height=3.2)
    bottom = np.zeros(len(counts))
    for name in counts:
        bars = axes.bar(
            counts.index.astype(str),
            counts[name],
            bottom=bottom,
            color=colours[name],
            label=name,
            width=0.62,
            edgecolor="white",
        )
        axes.bar_label(
            bars,
            labels=[f"{n}" if n else "" for n in counts[name]],
            label_type="center",
            fontsize=9,
            color="white" if name != "no label" else style.INK,
        )
        bottom += counts[name].to_numpy()
    axes.set(
        title=f"{len(patients):,} patients in {len(counts)} folds", xlabel="fold", ylabel="patients"
    )
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    if len(counts.columns) > 1:
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return axes.figure


@style.styled
def patient_overlap(
    first: Collection[str],
    second: Collection[str],
    *,
    names: tuple[str, str] = ("first", "second"),
    axes: Axes | None = None,
) -> Figure:
    """Show two sets of patients as bars of true length that lie on each other where they share
    patients.

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
    axes.barh(
        [1, 0],
        [len(first), len(second)],
        left=[0, start],
        color=[style.ACCENT, style.WARM],
        height=0.55,
    )
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
def tumour_sizes(table: pd.DataFrame, *, whole: str = "wt_ml", part: str = "et_ml") -> Figure:
    """Show the sizes of the tumours, and which share of each enhances.

    Args:
        table: A row a patient, with the volume of the whole tumour and of its enhancing part in ml.
        whole: Column of the former.
        part: Column of the latter.
    """
    style.require_columns(table, [whole, part])
    if table.empty:
        return style.sentence("No tumour was measured.")
    picture = style.new_picture(height=3.3, title=f"Tumours of {len(table):,} patients")
    axes = picture.subplots(1, 3)
    for each, column, name in ((axes[0], whole, "WT"), (axes[1], part, "ET")):
        values = table[column].to_numpy(float)
        each.hist(
            values,
            bins="auto" if len(values) > 20 else 8,
            color=style.colour_of(name),
            edgecolor="white",
        )
        each.axvline(np.median(values), color=style.INK, linewidth=1.4)
        each.set(
            title=f"{name}: median {np.median(values):.3g} ml",
            xlabel=f"{name}, ml",
            ylabel="patients",
        )
        each.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    whole_ml = table[whole].to_numpy(float)
    share = np.divide(
        table[part].to_numpy(float), whole_ml, out=np.zeros(len(table)), where=whole_ml > 0
    )
    axes[2].scatter(whole_ml, share, s=18, color=style.INK, alpha=0.6, linewidths=0)
    axes[2].set(
        title=f"ET share: median {np.median(share):.0%}",
        xlabel="WT, ml",
        ylabel="ET / WT",
        ylim=(-0.03, 1.03),
    )
    style.light_grid(axes[2])
    return picture


@style.styled
def counts(
    values: Sequence | pd.Series,
    *,
    title: str = "",
    unit: str = "findings",
    nothing: str = "There is nothing to report.",
    axes: Axes | None = None,
) -> Figure:
    """Show how often each value occurs, the most frequent on top.

    Problem codes, fallbacks, reasons.

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
    bars = axes.barh(counted.index.astype(str), counted, color=style.ACCENT, height=0.62)
    style.label_bars(axes, bars, [f"{n:,}" for n in counted], room=0.08)
    axes.set(title=title, xlabel=unit)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    return axes.figure
