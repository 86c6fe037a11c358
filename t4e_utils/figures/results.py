"""Pictures of how well patients are ranked: ROC with its uncertainty, calibration, and how far chance carries.

Labels are 0 or 1, scores any finite numbers, probabilities 0 to 1, one a patient; patients whose label or score is missing (NaN) are left
out and not counted. Every AUC stands with its number of patients and its interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from t4e_utils import metrics
from t4e_utils.figures import style


def complete(labels: Sequence, scores: Sequence) -> tuple[np.ndarray, np.ndarray]:
    """Return labels (N,) as integers and scores (N,) of the patients that have both."""
    labels, scores = np.asarray(labels, dtype=float), np.asarray(scores, dtype=float)
    known = np.isfinite(labels) & np.isfinite(scores)
    return labels[known].astype(int), scores[known]


def both_classes(labels: np.ndarray) -> bool:
    """Say whether an AUC is defined."""
    return len(np.unique(labels)) == 2


def auc_text(labels: np.ndarray, scores: np.ndarray, *, seed: int = 0) -> str:
    """Write an AUC with its 95% interval and the number of patients."""
    if not both_classes(labels):
        return f"AUC not defined, n = {len(labels)}"
    found = metrics.auc_summary(labels, scores, seed=seed)
    return f"{found['auc']:.2f} [{found['ci95'][0]:.2f}, {found['ci95'][1]:.2f}], n = {found['n']}"


def roc_band(
    labels: np.ndarray, scores: np.ndarray, *, n_bootstrap: int = 500, level: float = 0.95, seed: int = 0
) -> np.ndarray:
    """Return the lower and the upper bound of the ROC at 101 false positive rates from 0 to 1; shape (2, 101).

    Patients are resampled within each class; the bounds are pointwise percentiles.
    """
    generator = np.random.default_rng(seed)
    groups, rates, curves = [scores[labels == 0], scores[labels == 1]], np.linspace(0, 1, 101), []
    for _ in range(n_bootstrap):
        negative, positive = (generator.choice(group, len(group)) for group in groups)
        fpr, tpr, _ = metrics.roc_curve(
            np.repeat([0, 1], [len(negative), len(positive)]), np.concatenate([negative, positive])
        )
        curves.append(np.interp(rates, fpr, tpr))
    return np.percentile(curves, (50 * (1 - level), 50 * (1 + level)), axis=0)


@style.styled
def roc(
    labels: Sequence, scores: Sequence | Mapping[str, Sequence], *, band: str | None = None, title: str = "ROC on held-out patients",
    n_bootstrap: int = 500, seed: int = 0, axes: Axes | None = None,
) -> Figure:  # fmt: skip
    """Draw ROC curves with the chance line; one of them gets a 95% bootstrap band. AUC, interval and n are in the legend.

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
    axes.plot([0, 1], [0, 1], color=style.PALE, linewidth=1.2, linestyle=(0, (4, 3)), label="chance")
    for place, name in enumerate(defined):
        known, values = pairs[name]
        fpr, tpr, _ = metrics.roc_curve(known, values)
        colour = style.colour_of(name, place)
        if name == banded:
            low, high = roc_band(known, values, n_bootstrap=n_bootstrap, seed=seed)
            axes.fill_between(np.linspace(0, 1, 101), low, high, color=colour, alpha=0.13, linewidth=0)
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
        loc="upper left", bbox_to_anchor=(1.02, 1), title="AUC [95% interval], number of patients", alignment="left"
    )
    return axes.figure


@style.styled
def calibration(
    labels: Sequence, probabilities: Sequence, *, n_bins: int = 5, title: str = "Calibration", axes: Axes | None = None
) -> Figure:
    """Compare predicted probabilities with observed shares, with 95% (Wilson) intervals and the patients in each group.

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
    rows = pd.DataFrame(metrics.calibration_table(labels, probabilities, n_bins=n_bins))
    axes.plot([0, 1], [0, 1], color=style.PALE, linewidth=1.2, linestyle=(0, (4, 3)), label="perfect")
    axes.vlines(rows["predicted"], rows["low"], rows["high"], color=style.ACCENT, linewidth=1.4)
    axes.plot(rows["predicted"], rows["observed"], "o-", color=style.ACCENT, markersize=6, label="observed")
    for row in rows.itertuples():
        axes.annotate(
            f"{row.n}",
            (row.predicted, row.observed),
            (6, -10),
            textcoords="offset points",
            fontsize=8,
            color=style.MUTED,
        )
    axes.set(title=f"{title}, n = {len(labels)}", xlabel="mean predicted probability", ylabel="share that is methylated",
             xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")  # fmt: skip
    axes.legend(loc="upper left")
    return axes.figure


def chance_aucs(n_positive: int, n_negative: int, *, n_draws: int = 10_000, seed: int = 0) -> np.ndarray:
    """Return the AUCs (n_draws,) of predictions that know nothing, from the ranks of the positives (Mann and Whitney 1947)."""
    generator, n = np.random.default_rng(seed), n_positive + n_negative
    ranks = generator.random((n_draws, n)).argsort(axis=1)[:, :n_positive] + 1
    return (ranks.sum(axis=1) - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)


@style.styled
def chance_auc(
    n: int = 87, *, positive_share: float = 306 / 582, observed: Mapping[str, float] | None = None, n_draws: int = 10_000, seed: int = 0,
    axes: Axes | None = None,
) -> Figure:  # fmt: skip
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
        return style.sentence(f"An AUC needs patients of both classes; n = {n} with {n_positive} positive.", axes=axes)
    axes = style.axes_or_new(axes, width=8.5, height=3.4)
    drawn = chance_aucs(n_positive, n - n_positive, n_draws=n_draws, seed=seed)
    low, high = np.percentile(drawn, (2.5, 97.5))
    axes.hist(drawn, bins=60, density=True, color=style.PALE, edgecolor="white", linewidth=0.4)
    axes.axvspan(low, high, color=style.ACCENT, alpha=0.1, linewidth=0, label=f"95% lie within {low:.2f} to {high:.2f}")
    for place, (name, value) in enumerate((observed or {}).items()):
        above = (drawn >= value).mean()
        axes.axvline(
            value,
            color=style.OTHER_COLOURS[1 + place],
            linewidth=2,
            label=f"{name}: {value:.3f}, reached by chance in {above:.1%}",
        )
    axes.set(
        title=f"AUC of predictions that know nothing: {n} patients, {n_positive} positive", xlabel="AUC", yticks=[]
    )
    axes.spines["left"].set_visible(False)
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.2), ncols=2)
    return axes.figure
