"""How sure a figure of merit is: intervals, permutations, calibration, and what chance gives.

Labels are 0 or 1, scores are higher for class 1, one of each per patient. What is not defined is
nan: with one class only, or with scores that are not finite.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from t4e_utils.metrics import ranking
from t4e_utils.metrics.overlap import MetricError
from t4e_utils.metrics.ranking import ranks_of, roc_auc, usable

FEWEST = 5  # values below which an interval of a median is no figure at all


def roc_band(
    labels: np.ndarray,
    scores: np.ndarray,
    *,
    n_bootstrap: int = 500,
    level: float = 0.95,
    seed: int = 0,
) -> np.ndarray:
    """Return the lower and the upper bound of the ROC at 101 false positive rates from 0 to 1.

    Shape (2, 101).

    Patients are resampled within each class; the bounds are pointwise percentiles.
    """
    generator = np.random.default_rng(seed)
    groups, rates, curves = [scores[labels == 0], scores[labels == 1]], np.linspace(0, 1, 101), []
    for _ in range(n_bootstrap):
        negative, positive = (generator.choice(group, len(group)) for group in groups)
        fpr, tpr, _ = ranking.roc_curve(
            np.repeat([0, 1], [len(negative), len(positive)]), np.concatenate([negative, positive])
        )
        curves.append(np.interp(rates, fpr, tpr))
    return np.percentile(curves, (50 * (1 - level), 50 * (1 + level)), axis=0)


def chance_aucs(
    n_positive: int, n_negative: int, *, n_draws: int = 10_000, seed: int = 0
) -> np.ndarray:
    """Return the AUCs (n_draws,) of predictions that know nothing, from the ranks of the
    positives (Mann and Whitney 1947).
    """
    generator, n = np.random.default_rng(seed), n_positive + n_negative
    ranks = generator.random((n_draws, n)).argsort(axis=1)[:, :n_positive] + 1
    return (ranks.sum(axis=1) - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)


def best_median_worst(values: Sequence[float]) -> dict[str, int]:
    """Return the places of the best, the median and the worst of some figures, higher being better,
    the worst last; NaN is left out.

    Nobody is there twice: two figures are "best" and "worst", a single one is "only".
    """
    values = np.asarray(values, dtype=float)
    order = np.argsort(-values, kind="stable")[: np.isfinite(values).sum()].tolist()
    if len(order) < 3:
        return dict(zip(("best", "worst") if len(order) == 2 else ("only",), order, strict=False))
    return {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}


def bootstrap_ci(
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    n_bootstrap: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the AUC over patients, resampled within each class.

    Returns:
        Lower and upper bound; nan, nan if the AUC is not defined.
    """
    checked = usable(labels, scores)
    if checked is None:
        return float("nan"), float("nan")
    labels, scores = checked
    positive, negative = scores[labels, None], scores[~labels]
    # of each positive over each negative
    wins = (positive > negative) + 0.5 * (positive == negative)
    generator = np.random.default_rng(seed)
    drawn_positive, drawn_negative = (
        generator.multinomial(n, np.full(n, 1 / n), size=n_bootstrap).astype(float)
        for n in wins.shape
    )
    aucs = ((drawn_positive @ wins) * drawn_negative).sum(axis=1) / wins.size
    low, high = np.percentile(aucs, (50 * (1 - level), 50 * (1 + level)))
    return float(low), float(high)


def permutation_p(
    labels: ArrayLike, scores: ArrayLike, *, n_permutations: int = 2000, seed: int = 0
) -> float:
    """One-sided p of the AUC.

    How often shuffled labels reach at least the observed one, (1 + count) / (1 + n).
    """
    checked = usable(labels, scores)
    if checked is None:
        return float("nan")
    labels, ranks = checked[0], ranks_of(checked[1])
    generator = np.random.default_rng(seed)
    shuffled = generator.permuted(np.broadcast_to(ranks, (n_permutations, len(ranks))), axis=1)
    # ranks are halves of integers: sums are exact
    rank_sums = shuffled[:, : np.count_nonzero(labels)].sum(axis=1)
    return float((1 + np.count_nonzero(rank_sums >= ranks[labels].sum())) / (1 + n_permutations))


def auc_summary(
    labels: ArrayLike, scores: ArrayLike, *, seed: int = 0
) -> dict[str, float | int | list[float]]:
    """An AUC with what belongs beside it.

    95% bootstrap interval, numbers of patients, permutation p.
    """
    return {
        "auc": roc_auc(labels, scores),
        "ci95": list(bootstrap_ci(labels, scores, seed=seed)),
        "n": len(np.asarray(labels)),
        "n_positive": int(np.sum(labels)),
        "permutation_p": permutation_p(labels, scores, seed=seed),
    }


def wilson_interval(successes: float, n: int, *, level: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a share (Wilson 1927), which stays within 0 and 1."""
    if n < 1:
        raise MetricError(f"A share of {n} has no interval: give n of 1 or more.")
    z = ndtri(0.5 + level / 2)
    share, width = successes / n, 1 + z**2 / n
    middle = (share + z**2 / (2 * n)) / width
    half = z / width * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return float(max(middle - half, 0)), float(min(middle + half, 1))


def calibration_table(
    labels: ArrayLike, probabilities: ArrayLike, *, n_bins: int = 5
) -> list[dict[str, float | int]]:
    """Predicted against observed shares, in groups of equally many patients from the least to the
    most probable.

    Args:
        labels: (N,) of 0 and 1; one class only will do.
        probabilities: (N,), finite.
        n_bins: number of groups; fewer if there are fewer patients.

    Returns:
        A row a group: `predicted` (mean probability), `observed` (share of class 1), `n`, and its
        95% Wilson interval `low` to `high`.
    """
    usable(labels, probabilities)
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, float)
    if not np.isfinite(probabilities).all():
        raise MetricError("Probabilities must be finite: drop patients without a prediction.")
    order = np.argsort(probabilities, kind="stable")
    groups = [group for group in np.array_split(order, n_bins) if len(group)]
    return [_calibration_row(labels[group], probabilities[group]) for group in groups]


def _calibration_row(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float | int]:
    n, n_positive = len(labels), int(labels.sum())
    low, high = wilson_interval(n_positive, n)
    return {
        "predicted": float(probabilities.mean()),
        "observed": n_positive / n,
        "n": n,
        "low": low,
        "high": high,
    }


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles of what is finite among `values`, and how many those are."""
    finite = np.asarray(values, float)
    finite = finite[np.isfinite(finite)]
    low, middle, high = np.percentile(finite, (25, 50, 75)) if len(finite) else (np.nan,) * 3
    return {"q1": float(low), "median": float(middle), "q3": float(high), "n": len(finite)}


def median_interval(values: np.ndarray, *, n_bootstrap: int = 2000, seed: int = 0) -> list[float]:
    """Return the 95% percentile interval of the median over patients drawn with replacement.

    NaN for fewer than five.
    """
    if len(values) < FEWEST:
        return [float("nan")] * 2
    drawn = np.random.default_rng(seed).choice(values, size=(n_bootstrap, len(values)))
    return np.percentile(np.median(drawn, axis=1), (2.5, 97.5)).tolist()
