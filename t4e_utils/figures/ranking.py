"""Pictures of how well patients are ranked, each figure of merit with its n and its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from t4e_utils.figures import style
from t4e_utils.metrics import intervals, ranking
from t4e_utils.metrics.ranking import complete, has_both_classes


def auc_text(labels: np.ndarray, scores: np.ndarray) -> str:
    """Write an AUC with its 95% interval and the number of patients."""
    if not has_both_classes(labels):
        return f"AUC not defined, n = {len(labels)}"
    found = intervals.auc_summary(labels, scores)
    return f"{found['auc']:.2f} [{found['ci95'][0]:.2f}, {found['ci95'][1]:.2f}], n = {found['n']}"


@style.styled
def roc(
    labels: Sequence,
    scores: Sequence | Mapping[str, Sequence],
    *,
    band: str | None = None,
    title: str = "ROC on held-out patients",
    axes: Axes | None = None,
) -> Figure:
    """Draw ROC curves with AUC, interval and n in the legend; one gets a 95% bootstrap band.

    Args:
        labels: Label of each patient.
        scores: Score of each patient, or several such by name (series, mean).
        band: Which of several gets the band; by default the last.
        title: Title of the picture.
        axes: Axes to draw into.
    """
    several = dict(scores) if isinstance(scores, Mapping) else {"": scores}
    pairs = {name: complete(labels, values) for name, values in several.items()}
    defined = [name for name, (known, _) in pairs.items() if has_both_classes(known)]
    if not defined:
        return style.sentence("An ROC needs patients of both classes; there are none.", axes=axes)
    axes = style.axes_or_new(axes, width=8.2, height=4.6)
    banded = band if band in defined else defined[-1]
    axes.plot([0, 1], [0, 1], label="chance", **style.dashed(style.PALE, 1.2))
    for place, name in enumerate(defined):
        known, values = pairs[name]
        fpr, tpr, _ = ranking.roc_curve(known, values)
        look = {"color": style.colour_of(name, place), "linewidth": 1.4}
        if name == banded:
            bounds = intervals.roc_band(known, values)
            rates = np.linspace(0, 1, bounds.shape[1])
            axes.fill_between(rates, *bounds, color=look["color"], alpha=0.13, linewidth=0)
            look["linewidth"] = 2.4
        axes.plot(fpr, tpr, label=f"{name} {auc_text(known, values)}".strip(), **look)
    axes.set(title=title, xlabel="false positive rate", ylabel="true positive rate")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.set_anchor("W")
    said = "AUC [95% interval], number of patients"
    axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1), title=said, alignment="left")
    return axes.figure


@style.styled
def probabilities_by_class(
    labels: Sequence, probabilities: Sequence | Mapping[str, Sequence], *, title: str = ""
) -> Figure:
    """Show the predicted probability of every patient by true class, in groups by name.

    Args:
        labels: Label of each patient.
        probabilities: Probability of each patient, or several such by name (series, mean).
        title: Title of the picture.
    """
    several = dict(probabilities) if isinstance(probabilities, Mapping) else {"": probabilities}
    pairs = {name: complete(labels, values) for name, values in several.items()}
    if not any(len(known) for known, _ in pairs.values()):
        return style.sentence("No patient has both a label and a probability.")
    figure = style.new_figure(width=min(3.2 + 1.7 * len(pairs), style.WIDTH), height=3.6)
    axes, classes = figure.add_subplot(), style.palette().classes
    for place, (known, values) in enumerate(pairs.values()):
        for number, label in enumerate(classes):
            centre = place + ((number + 0.5) / len(classes) - 0.5) * 0.84
            colour = style.palette().class_colours[label]
            style.dots(
                axes, values[known == label], centre, colour=colour, width=0.52 / len(classes)
            )
    axes.axhline(0.5, color=style.PALE, linewidth=1, zorder=0)
    axes.set(title=title or "Predicted probability by true class", ylim=(-0.03, 1.03))
    axes.set(ylabel=f"probability of {style.palette().outcome}", xlim=(-0.6, len(pairs) - 0.4))
    names = [f"{name}\nn = {len(known)}".strip() for name, (known, _) in pairs.items()]
    axes.set_xticks(range(len(pairs)), names)
    axes.tick_params(axis="x", length=0)
    style.legend_beside(axes, style.class_colours())
    return figure


@style.styled
def calibration(
    labels: Sequence,
    probabilities: Sequence,
    *,
    n_bins: int = 5,
    title: str = "Calibration",
    axes: Axes | None = None,
) -> Figure:
    """Compare predicted probabilities with observed shares, with 95% (Wilson) intervals and n.

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
    axes.plot([0, 1], [0, 1], label="perfect", **style.dashed(style.PALE, 1.2))
    axes.vlines(rows["predicted"], rows["low"], rows["high"], color=style.ACCENT, linewidth=1.4)
    look = {"color": style.ACCENT, "markersize": 6, "label": "observed"}
    axes.plot(rows["predicted"], rows["observed"], "o-", **look)
    for row in rows.itertuples():
        look = {"textcoords": "offset points", "fontsize": 8, "color": style.MUTED}
        axes.annotate(f"{row.n}", (row.predicted, row.observed), (6, -10), **look)
    axes.set(title=f"{title}, n = {len(labels)}", xlabel="mean predicted probability")
    axes.set_ylabel(f"share that is {style.palette().classes[1]}")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.legend(loc="upper left")
    return axes.figure


@style.styled
def chance_auc(
    n: int,
    *,
    positive_share: float,
    observed: Mapping[str, float] | None = None,
    axes: Axes | None = None,
) -> Figure:
    """Show how far the AUC of predictions that know nothing moves by chance.

    Args:
        n: Patients scored.
        positive_share: Share of them that is positive.
        observed: AUCs to compare, by name.
        axes: Axes to draw into.
    """
    n_positive = round(n * positive_share)
    if not 0 < n_positive < n:
        said = f"An AUC needs patients of both classes; n = {n} with {n_positive} positive."
        return style.sentence(said, axes=axes)
    axes = style.axes_or_new(axes, width=8.5, height=3.4)
    drawn = intervals.chance_aucs(n_positive, n - n_positive)
    low, high = np.percentile(drawn, (2.5, 97.5))
    axes.hist(drawn, bins=60, density=True, color=style.PALE, edgecolor="white", linewidth=0.4)
    said = f"95% lie within {low:.2f} to {high:.2f}"
    axes.axvspan(low, high, color=style.ACCENT, alpha=0.1, linewidth=0, label=said)
    for place, (name, value) in enumerate((observed or {}).items()):
        said = f"{name}: {value:.3f}, reached by chance in {(drawn >= value).mean():.1%}"
        axes.axvline(value, color=style.colour_of(None, 1 + place), linewidth=2, label=said)
    title = f"AUC of predictions that know nothing: {n} patients, {n_positive} positive"
    axes.set(title=title, xlabel="AUC", yticks=[])
    axes.spines["left"].set_visible(False)
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.2), ncols=2)
    return axes.figure
