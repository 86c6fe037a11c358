"""Pictures of classification.

ROC with its uncertainty, probabilities, calibration, spread, agreement, chance.

Labels are 0 or 1, scores any finite numbers, probabilities 0 to 1, one a patient; patients whose
label or score is missing (NaN) are left out and not counted. Every AUC stands with its number of
patients and its interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from t4e_utils.figures import style
from t4e_utils.metrics import intervals, ranking
from t4e_utils.metrics.intervals import chance_aucs, roc_band
from t4e_utils.metrics.ranking import both_classes, complete


def auc_text(labels: np.ndarray, scores: np.ndarray, *, seed: int = 0) -> str:
    """Write an AUC with its 95% interval and the number of patients."""
    if not both_classes(labels):
        return f"AUC not defined, n = {len(labels)}"
    found = intervals.auc_summary(labels, scores, seed=seed)
    return f"{found['auc']:.2f} [{found['ci95'][0]:.2f}, {found['ci95'][1]:.2f}], n = {found['n']}"


@style.styled
def roc(
    labels: Sequence,
    scores: Sequence | Mapping[str, Sequence],
    *,
    band: str | None = None,
    title: str = "ROC on held-out patients",
    n_bootstrap: int = 500,
    seed: int = 0,
    axes: Axes | None = None,
) -> Figure:
    """Draw ROC curves with the chance line; one of them gets a 95% bootstrap band.

    AUC, interval and n are in the legend.

    Args:
        labels: Label of each patient.
        scores: Score of each patient, or several such by name (MRI types, mean).
        band: Which of several gets the band; by default the last.
        title: Title of the picture.
        n_bootstrap: Resamplings for the band.
        seed: Of the resamplings.
        axes: Axes to draw into.
    """
    several = dict(scores) if isinstance(scores, Mapping) else {"": scores}
    pairs = {name: complete(labels, values) for name, values in several.items()}
    defined = [name for name, (known, _) in pairs.items() if both_classes(known)]
    if not defined:
        return style.sentence("An ROC needs patients of both classes; there are none.", axes=axes)
    axes = style.axes_or_new(axes, width=8.2, height=4.6)
    banded = band if band in defined else defined[-1]
    axes.plot(
        [0, 1], [0, 1], color=style.PALE, linewidth=1.2, linestyle=(0, (4, 3)), label="chance"
    )
    for place, name in enumerate(defined):
        known, values = pairs[name]
        fpr, tpr, _ = ranking.roc_curve(known, values)
        colour = style.colour_of(name, place)
        if name == banded:
            low, high = roc_band(known, values, n_bootstrap=n_bootstrap, seed=seed)
            axes.fill_between(
                np.linspace(0, 1, 101), low, high, color=colour, alpha=0.13, linewidth=0
            )
        axes.plot(
            fpr,
            tpr,
            color=colour,
            linewidth=2.4 if name == banded else 1.4,
            label=f"{name} {auc_text(known, values, seed=seed)}".strip(),
        )
    axes.set(
        title=title,
        xlabel="false positive rate",
        ylabel="true positive rate",
        xlim=(-0.01, 1.01),
        ylim=(-0.01, 1.01),
        aspect="equal",
    )
    axes.set_anchor("W")
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(1.02, 1),
        title="AUC [95% interval], number of patients",
        alignment="left",
    )
    return axes.figure


@style.styled
def probabilities_by_class(
    labels: Sequence,
    probabilities: Sequence | Mapping[str, Sequence],
    *,
    names: Mapping = style.CLASS_NAMES,
    title: str = "",
) -> Figure:
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
    axes.set(
        title=title or "Predicted probability by true class",
        ylabel="probability of methylation",
        ylim=(-0.03, 1.03),
        xlim=(-0.6, len(pairs) - 0.4),
    )
    axes.set_xticks(
        range(len(pairs)),
        [f"{name}\nn = {len(known)}".strip() for name, (known, _) in pairs.items()],
    )
    axes.tick_params(axis="x", length=0)
    axes.legend(
        handles=style.patches({names[k]: style.CLASS_COLOURS[k] for k in names}),
        loc="upper left",
        bbox_to_anchor=(1, 1),
    )
    return picture


@style.styled
def calibration(
    labels: Sequence,
    probabilities: Sequence,
    *,
    n_bins: int = 5,
    title: str = "Calibration",
    axes: Axes | None = None,
) -> Figure:
    """Compare predicted probabilities with observed shares, with 95% (Wilson) intervals and the
    patients in each group.

    Args:
        labels: Label of each patient.
        probabilities: Probability of each patient.
        n_bins: Groups of patients.
        title: Title of the picture.
        axes: Axes to draw into.
    """
    labels, probabilities = complete(labels, probabilities)
    if not len(labels):
        return style.sentence("No patient has both a label and a probability.", axes=axes)
    axes = style.axes_or_new(axes, width=5.2, height=4.4)
    rows = pd.DataFrame(intervals.calibration_table(labels, probabilities, n_bins=n_bins))
    axes.plot(
        [0, 1], [0, 1], color=style.PALE, linewidth=1.2, linestyle=(0, (4, 3)), label="perfect"
    )
    axes.vlines(rows["predicted"], rows["low"], rows["high"], color=style.ACCENT, linewidth=1.4)
    axes.plot(
        rows["predicted"],
        rows["observed"],
        "o-",
        color=style.ACCENT,
        markersize=6,
        label="observed",
    )
    for row in rows.itertuples():
        axes.annotate(
            f"{row.n}",
            (row.predicted, row.observed),
            (6, -10),
            textcoords="offset points",
            fontsize=8,
            color=style.MUTED,
        )
    axes.set(
        title=f"{title}, n = {len(labels)}",
        xlabel="mean predicted probability",
        ylabel="share that is methylated",
        xlim=(-0.02, 1.02),
        ylim=(-0.02, 1.02),
        aspect="equal",
    )
    axes.legend(loc="upper left")
    return axes.figure


@style.styled
def chunk_spread(
    chunks: pd.DataFrame,
    *,
    by: str | None = None,
    label: str = "label",
    names: Mapping = style.CLASS_NAMES,
    title: str = "",
    axes: Axes | None = None,
) -> Figure:
    """Show how far the chunks of a patient disagree.

    A line a patient from its lowest to its highest chunk, sorted by the mean.

    The spread that is named is the median of the n patients with more than one chunk.

    Args:
        chunks: A row a chunk, with the columns patient_id, probability and, if known, the label.
        by: Column that makes a panel each, such as the MRI type; `axes` is not used then.
        label: Name of the label column.
        names: What the labels mean.
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
        picture = style.new_picture(height=0.6 + 2.5 * n_rows, title=title)
        panels = picture.subplots(n_rows, n_columns, squeeze=False, sharey=True).ravel()
    for each, (name, own) in zip(panels, groups.items(), strict=False):
        _spread(each, own, label, name or title)
    for unused in panels[len(groups) :]:
        unused.set_axis_off()
    if label in chunks:
        entries = style.patches({names[k]: style.CLASS_COLOURS[k] for k in names})
        panels[min(1, len(panels) - 1)].legend(
            handles=entries, loc="upper left", bbox_to_anchor=(1, 1)
        )
    return panels[0].figure


def _spread(axes: Axes, chunks: pd.DataFrame, label: str, name: str) -> None:
    """Draw the chunks of each patient as dots on a line."""
    patients = (
        chunks.groupby("patient_id")["probability"]
        .agg(["min", "mean", "max"])
        .sort_values("mean", kind="stable")
    )
    known = (
        chunks.groupby("patient_id")[label].first() if label in chunks else pd.Series(dtype=float)
    )
    colours = [
        style.CLASS_COLOURS.get(known.get(patient), style.ACCENT) for patient in patients.index
    ]
    places, width = np.arange(len(patients)), np.clip(300 / len(patients), 1, 4)
    axes.vlines(
        places, patients["min"], patients["max"], color=colours, linewidth=width, alpha=0.45
    )
    if len(patients) <= 150:
        at = chunks["patient_id"].map(dict(zip(patients.index, places, strict=True)))
        axes.scatter(at, chunks["probability"], s=6, color=style.INK, alpha=0.35, linewidths=0)
    axes.scatter(
        places, patients["mean"], s=np.clip(1500 / len(patients), 8, 34), color=colours, zorder=3
    )
    several = patients[chunks.groupby("patient_id").size().reindex(patients.index) > 1]
    spread = (
        f"median spread {(several['max'] - several['min']).median():.2f}, n = {len(several)}"
        if len(several)
        else "one chunk a patient"
    )
    axes.set(
        title=f"{name}: {spread}" if name else f"Chunks within {len(patients)} patients: {spread}",
        xlabel="patients, sorted by their mean",
        ylabel="probability",
        ylim=(-0.03, 1.03),
        xlim=(-1, len(patients)),
        xticks=[],
    )
    style.light_grid(axes)


@style.styled
def series_agreement(
    table: pd.DataFrame, *, series: Sequence[str], label: str = "label", title: str = ""
) -> Figure:
    """Compare the MRI types pairwise.

    Scatter below, Spearman's correlation above, the distribution of each on the diagonal.

    Args:
        table: A row a patient, with a column of probabilities for each MRI type and, if known, the
            label.
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
        title=title
        or f"Agreement of MRI types, n = {len(table)}; numbers are Spearman's correlations",
    )
    axes = picture.subplots(len(series), len(series), squeeze=False)
    ranks = table[list(series)].rank().corr(min_periods=3)
    for (row, column), each in np.ndenumerate(axes):
        _pair(
            each, table, series[row], series[column], colours, ranks.iloc[row, column], row - column
        )
        each.set_xlabel(series[column] if row == len(series) - 1 else "", fontweight="bold")
        each.set_ylabel(series[row] if column == 0 else "", fontweight="bold")
    if label in table:
        picture.legend(
            handles=style.patches(
                {style.CLASS_NAMES[k]: style.CLASS_COLOURS[k] for k in style.CLASS_NAMES}
            ),
            loc="outside lower center",
            ncols=2,
        )
    return picture


def _pair(
    axes: Axes,
    table: pd.DataFrame,
    vertical: str,
    horizontal: str,
    colours: pd.Series,
    correlation: float,
    side: int,
) -> None:
    axes.set(xlim=(-0.04, 1.04), xticks=[0, 0.5, 1] if side >= 0 else [])
    if side == 0:
        axes.hist(
            table[vertical].dropna(),
            bins=np.linspace(0, 1, 13),
            color=style.colour_of(vertical),
            edgecolor="white",
        )
        axes.set_yticks([])
    elif side > 0:
        axes.scatter(table[horizontal], table[vertical], s=14, c=colours, alpha=0.75, linewidths=0)
        axes.set(ylim=(-0.04, 1.04), yticks=[0, 0.5, 1])
    else:
        style.bare(axes)
        shown = f"{correlation:.2f}".replace("-", "−") if np.isfinite(correlation) else "–"
        axes.text(
            0.5,
            0.5,
            shown,
            ha="center",
            va="center",
            fontsize=15,
            transform=axes.transAxes,
            color=style.INK,
        )


@style.styled
def chance_auc(
    n: int = 87,
    *,
    positive_share: float = 306 / 582,
    observed: Mapping[str, float] | None = None,
    n_draws: int = 10_000,
    seed: int = 0,
    axes: Axes | None = None,
) -> Figure:
    """Show how far the AUC of predictions that know nothing moves by chance.

    Args:
        n: Patients scored.
        positive_share: Share of them that is positive.
        observed: AUCs to compare, by name.
        n_draws: Simulated predictions.
        seed: Of the simulation.
        axes: Axes to draw into.
    """
    n_positive = round(n * positive_share)
    if not 0 < n_positive < n:
        return style.sentence(
            f"An AUC needs patients of both classes; n = {n} with {n_positive} positive.", axes=axes
        )
    axes = style.axes_or_new(axes, width=8.5, height=3.4)
    drawn = chance_aucs(n_positive, n - n_positive, n_draws=n_draws, seed=seed)
    low, high = np.percentile(drawn, (2.5, 97.5))
    axes.hist(drawn, bins=60, density=True, color=style.PALE, edgecolor="white", linewidth=0.4)
    axes.axvspan(
        low,
        high,
        color=style.ACCENT,
        alpha=0.1,
        linewidth=0,
        label=f"95% lie within {low:.2f} to {high:.2f}",
    )
    for place, (name, value) in enumerate((observed or {}).items()):
        above = (drawn >= value).mean()
        axes.axvline(
            value,
            color=style.OTHER_COLOURS[1 + place],
            linewidth=2,
            label=f"{name}: {value:.3f}, reached by chance in {above:.1%}",
        )
    axes.set(
        title=f"AUC of predictions that know nothing: {n} patients, {n_positive} positive",
        xlabel="AUC",
        yticks=[],
    )
    axes.spines["left"].set_visible(False)
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.2), ncols=2)
    return axes.figure
