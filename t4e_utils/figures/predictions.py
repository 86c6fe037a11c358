"""Pictures of predictions: by class, within patients, between MRI types, and what drives them.

Labels are 0 or 1, probabilities 0 to 1; patients whose label or probability is missing (NaN) are left out and not counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from t4e_utils.figures import slices, style
from t4e_utils.figures.results import complete
from t4e_utils.figures.selection import split_channels


@style.styled
def probabilities_by_class(
    labels: Sequence, probabilities: Sequence | Mapping[str, Sequence], *, names: Mapping = style.CLASS_NAMES, title: str = "",
) -> Figure:  # fmt: skip
    """Show the predicted probability of every patient, by true class: a group for each MRI type.

    Args:
        labels: Label of each patient.
        probabilities: Probability of each patient, or several such by name.
        names: What the labels mean.
        title: Title of the picture.
    """
    several = dict(probabilities) if isinstance(probabilities, Mapping) else {"": probabilities}
    pairs = {name: complete(labels, values) for name, values in several.items()}
    if not any(len(known) for known, _ in pairs.values()):
        return style.sentence("No patient has both a label and a probability.")
    picture = style.new_picture(width=min(3.2 + 1.7 * len(pairs), style.WIDTH), height=3.6)
    axes = picture.add_subplot()
    for place, (known, values) in enumerate(pairs.values()):
        for label in names:
            style.dots(
                axes,
                values[known == label],
                place + (label - 0.5) * 0.42,
                colour=style.CLASS_COLOURS[label],
                width=0.26,
            )
    axes.axhline(0.5, color=style.PALE, linewidth=1, zorder=0)
    axes.set(title=title or "Predicted probability by true class", ylabel="probability of methylation", ylim=(-0.03, 1.03),
             xlim=(-0.6, len(pairs) - 0.4))  # fmt: skip
    axes.set_xticks(range(len(pairs)), [f"{name}\nn = {len(known)}".strip() for name, (known, _) in pairs.items()])
    axes.tick_params(axis="x", length=0)
    axes.legend(
        handles=style.patches({names[k]: style.CLASS_COLOURS[k] for k in names}),
        loc="upper left",
        bbox_to_anchor=(1, 1),
    )
    return picture


@style.styled
def chunk_spread(
    chunks: pd.DataFrame,
    *,
    label: str = "label",
    names: Mapping = style.CLASS_NAMES,
    title: str = "",
    axes: Axes | None = None,
) -> Figure:
    """Show how far the chunks of a patient disagree: a line a patient from its lowest to its highest chunk, sorted by the mean.

    Args:
        chunks: A row a chunk, with the columns patient_id, probability and, if known, the label.
        label: Name of the label column.
        names: What the labels mean.
        title: Title of the picture.
        axes: Axes to draw into.
    """
    style.require_columns(chunks, ["patient_id", "probability"])
    if chunks.empty:
        return style.sentence("No chunk was predicted.", axes=axes)
    axes = style.axes_or_new(axes, height=3.4)
    patients = (
        chunks.groupby("patient_id")["probability"]
        .agg(["min", "mean", "max", "size"])
        .sort_values("mean", kind="stable")
    )
    known = chunks.groupby("patient_id")[label].first() if label in chunks else pd.Series(dtype=float)
    colours = [style.CLASS_COLOURS.get(known.get(patient), style.ACCENT) for patient in patients.index]
    places = np.arange(len(patients))
    single = chunks.assign(place=chunks["patient_id"].map(dict(zip(patients.index, places, strict=True))))
    axes.vlines(
        places,
        patients["min"],
        patients["max"],
        color=colours,
        linewidth=np.clip(300 / len(patients), 1, 4),
        alpha=0.45,
    )
    if len(patients) <= 150:
        axes.scatter(single["place"], single["probability"], s=6, color=style.INK, alpha=0.35, linewidths=0)
    axes.scatter(places, patients["mean"], s=np.clip(1500 / len(patients), 8, 34), color=colours, zorder=3)
    spread = (patients["max"] - patients["min"]).median()
    axes.set(title=title or f"Chunks within {len(patients)} patients: median spread {spread:.2f}", xlabel="patients, sorted by their mean",
             ylabel="probability", ylim=(-0.03, 1.03), xlim=(-1, len(patients)), xticks=[])  # fmt: skip
    style.light_grid(axes)
    if len(known):
        axes.legend(
            handles=style.patches({names[k]: style.CLASS_COLOURS[k] for k in names}),
            loc="upper left",
            bbox_to_anchor=(1, 1),
        )
    return axes.figure


@style.styled
def series_agreement(table: pd.DataFrame, *, series: Sequence[str], label: str = "label", title: str = "") -> Figure:
    """Compare the MRI types pairwise: scatter below, Spearman's correlation above, the distribution of each on the diagonal.

    Args:
        table: A row a patient, with a column of probabilities for each MRI type and, if known, the label.
        series: Those columns.
        label: Name of the label column.
        title: Title of the picture.
    """
    style.require_columns(table, series)
    if table.empty or not len(series):
        return style.sentence("No patient was predicted.")
    colours = (
        table[label].map(style.CLASS_COLOURS).fillna(style.ACCENT)
        if label in table
        else pd.Series(style.ACCENT, index=table.index)
    )
    size = min(1.9 * len(series) + 0.6, 8.5)
    picture = style.new_picture(
        width=size,
        height=size,
        title=title or f"Agreement of MRI types, n = {len(table)}; numbers are Spearman's correlations",
    )
    axes = picture.subplots(len(series), len(series), squeeze=False)
    ranks = table[list(series)].rank().corr(min_periods=3)
    for (row, column), each in np.ndenumerate(axes):
        _pair(each, table, series[row], series[column], colours, ranks.iloc[row, column], row - column)
        each.set_xlabel(series[column] if row == len(series) - 1 else "", fontweight="bold")
        each.set_ylabel(series[row] if column == 0 else "", fontweight="bold")
    if label in table:
        picture.legend(handles=style.patches({style.CLASS_NAMES[k]: style.CLASS_COLOURS[k] for k in style.CLASS_NAMES}),
                       loc="outside lower center", ncols=2)  # fmt: skip
    return picture


def _pair(
    axes: Axes, table: pd.DataFrame, vertical: str, horizontal: str, colours: pd.Series, correlation: float, side: int
) -> None:
    axes.set(xlim=(-0.04, 1.04), xticks=[0, 0.5, 1] if side >= 0 else [])
    if side == 0:
        axes.hist(
            table[vertical].dropna(), bins=np.linspace(0, 1, 13), color=style.colour_of(vertical), edgecolor="white"
        )
        axes.set_yticks([])
    elif side > 0:
        axes.scatter(table[horizontal], table[vertical], s=14, c=colours, alpha=0.75, linewidths=0)
        axes.set(ylim=(-0.04, 1.04), yticks=[0, 0.5, 1])
    else:
        style.bare(axes)
        shown = f"{correlation:.2f}".replace("-", "−") if np.isfinite(correlation) else "–"
        axes.text(0.5, 0.5, shown, ha="center", va="center", fontsize=15, transform=axes.transAxes, color=style.INK)


@style.styled
def slice_influence(
    stored: np.ndarray, influence: Sequence[float], *, positions: Sequence[int] | None = None, n: int = 6,
    regions: Sequence[str] = slices.REGIONS, title: str = "", unit: str = "change of the probability without the slice",
) -> Figure:  # fmt: skip
    """Show which slices drive a prediction: the influence of each, and the most influential ones.

    Args:
        stored: Slices of the sequence (T, H, W, 3) or (T, 3, H, W), 8 bit.
        influence: One number a slice; the sign says towards which class.
        positions: Number of each slice in its series.
        n: Slices to show.
        regions: Names of channels 2 and 3.
        title: Title of the picture.
        unit: What the influence is.
    """
    influence = np.asarray(influence, dtype=float)
    if not len(influence):
        return style.sentence(f"{title}: there is no slice.".lstrip(": "))
    grey, masks = split_channels(np.asarray(stored)[: len(influence)])
    where = np.arange(len(influence)) if positions is None else np.asarray(positions)
    picture = style.new_picture(height=4.6, title=title)
    above, below = picture.subfigures(2, 1, height_ratios=[1.0, 1.05])
    axes = above.add_subplot()
    axes.bar(
        where,
        influence,
        color=[style.CLASS_COLOURS[int(value > 0)] for value in influence],
        width=0.8 * np.diff(where).min(initial=1),
    )
    axes.axhline(0, color=style.INK, linewidth=0.8)
    axes.set(xlabel="slice", title=unit)
    entries = {f"towards {style.CLASS_NAMES[k]}": style.CLASS_COLOURS[k] for k in (1, 0)}
    axes.legend(handles=style.patches(entries), loc="upper left", bbox_to_anchor=(1, 1))
    strongest = np.sort(np.argsort(-np.abs(influence), kind="stable")[:n])
    for each, index in zip(below.subplots(1, n, squeeze=False)[0], [*strongest, *[None] * n], strict=False):
        style.bare(each)
        if index is not None:
            slices.draw_slice(
                each,
                grey[index],
                prediction=masks[:, index],
                regions=regions,
                title=f"slice {where[index]}: {influence[index]:+.2f}".replace("-", "−"),
            )
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    return picture
