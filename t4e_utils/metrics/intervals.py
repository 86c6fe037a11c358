"""How sure a score is: intervals, permutations, calibration, and what chance gives.

Labels are 0 or 1, scores are higher for class 1, one of each per patient. What is not defined is
nan: with one class only, or with scores that are not finite.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import expit, logit, ndtri, stdtrit

from t4e_utils.metrics import MetricError
from t4e_utils.metrics.ranking import auc_of_ranks, checked, rankable, ranks_of, roc_auc, roc_curve

EDGE = 1e-9  # an AUC nearer to 0 or 1 is 0 or 1
FEWEST = 5  # values; the interval of a median of fewer says nothing


def auc_summary(
    labels: ArrayLike, scores: ArrayLike, *, seed: int = 0
) -> dict[str, float | int | list[float]]:
    """Return an AUC with its 95% interval, numbers of patients and permutation p.

    Returns:
        auc, ci95 [low, high], n, n_positive, permutation_p.
    """
    return {
        "auc": roc_auc(labels, scores),
        "ci95": list(auc_interval(labels, scores)),
        "n": len(np.asarray(labels)),
        "n_positive": int(np.sum(labels)),
        "permutation_p": permutation_p(labels, scores, seed=seed),
    }


def auc_interval(
    labels: ArrayLike, scores: ArrayLike, *, level: float = 0.95
) -> tuple[float, float]:
    """Return an interval of the AUC that holds at its edge as well, also for few patients.

    From the lower of two lower bounds to the higher of two upper bounds. DeLong's variance (DeLong
    et al., Biometrics 1988) on the scale of the logit is right in the middle, whatever the
    distributions; near 1 it is too small, and 0 if the classes are separated. Newcombe's score
    interval (Statistics in Medicine 2006, 25:559-573, method 5) solves |AUC - a| = z sqrt(V(a)) for
    a; it is right near 1, and has width there. V is that of Hanley and McNeil (Radiology 1982), the
    larger one of both classes' views. Student's t with N - 2 degrees of freedom takes the place
    of z. `benchmarks/coverage.py` counts how often it holds.

    Args:
        labels: (N,) of 0 and 1.
        scores: (N,), higher for class 1.
        level: share of data sets whose interval holds the true AUC, at least about.

    Returns:
        Lower and upper bound; nan, nan if the AUC is not defined.
    """
    found = rankable(labels, scores)
    if found is None:
        return float("nan"), float("nan")
    labels, scores = found
    positive, negative = scores[labels, None], scores[~labels]
    # of each positive over each negative
    wins = (positive > negative) + 0.5 * (positive == negative)
    quantile = stdtrit(max(len(labels) - 2, 1), 0.5 + level / 2)
    bounds = (_delong_bounds(wins, quantile), _score_bounds(wins.mean(), wins.shape, quantile))
    lows, highs = zip(*bounds, strict=True)
    return float(min(lows)), float(max(highs))


def permutation_p(
    labels: ArrayLike, scores: ArrayLike, *, n_permutations: int = 2000, seed: int = 0
) -> float:
    """Return the one-sided p of the AUC.

    How often shuffled labels reach at least the observed one, (1 + count) / (1 + n).
    """
    found = rankable(labels, scores)
    if found is None:
        return float("nan")
    labels, ranks = found[0], ranks_of(found[1])
    generator = np.random.default_rng(seed)
    shuffled = generator.permuted(np.broadcast_to(ranks, (n_permutations, len(ranks))), axis=1)
    # ranks are halves of integers: sums are exact
    rank_sums = shuffled[:, : np.count_nonzero(labels)].sum(axis=1)
    return float((1 + np.count_nonzero(rank_sums >= ranks[labels].sum())) / (1 + n_permutations))


def roc_band(
    labels: np.ndarray,
    scores: np.ndarray,
    *,
    n_bootstrap: int = 500,
    level: float = 0.95,
    seed: int = 0,
) -> np.ndarray:
    """Return the bounds (2, 101) of the ROC at 101 false positive rates from 0 to 1.

    Patients are resampled within each class; the bounds are pointwise percentiles.

    Args:
        labels: (N,) of 0 and 1, both there.
        scores: (N,), finite.
        n_bootstrap: resamplings.
        level: share of them within the bounds.
        seed: of the resamplings.
    """
    generator = np.random.default_rng(seed)
    groups, rates, curves = [scores[labels == 0], scores[labels == 1]], np.linspace(0, 1, 101), []
    for _ in range(n_bootstrap):
        negative, positive = (generator.choice(group, len(group)) for group in groups)
        fpr, tpr, _ = roc_curve(
            np.repeat([0, 1], [len(negative), len(positive)]), np.concatenate([negative, positive])
        )
        curves.append(np.interp(rates, fpr, tpr))
    return np.percentile(curves, (50 * (1 - level), 50 * (1 + level)), axis=0)


def chance_aucs(
    n_positive: int, n_negative: int, *, n_draws: int = 10_000, seed: int = 0
) -> np.ndarray:
    """Return the AUCs (n_draws,) of predictions that know nothing."""
    generator, n = np.random.default_rng(seed), n_positive + n_negative
    ranks = generator.random((n_draws, n)).argsort(axis=1)[:, :n_positive] + 1
    return auc_of_ranks(ranks.sum(axis=1), n_positive, n_negative)


def median_interval(values: np.ndarray, *, n_bootstrap: int = 2000, seed: int = 0) -> list[float]:
    """Return the 95% interval of the median over patients drawn with replacement.

    nan, nan for fewer than `FEWEST` values.
    """
    if len(values) < FEWEST:
        return [float("nan")] * 2
    drawn = np.random.default_rng(seed).choice(values, size=(n_bootstrap, len(values)))
    return np.percentile(np.median(drawn, axis=1), (2.5, 97.5)).tolist()


def wilson_interval(successes: float, n: int, *, level: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of a share (Wilson 1927), which stays within 0 and 1.

    Raises:
        MetricError: n below 1.
    """
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
    """Compare predicted and observed shares, in groups of equally many patients.

    Args:
        labels: (N,) of 0 and 1; one class only will do.
        probabilities: (N,), finite.
        n_bins: number of groups, from the least to the most probable; fewer if there are fewer
            patients.

    Returns:
        One row per group: `predicted` (mean probability), `observed` (share of class 1), `n`, and
        its 95% Wilson interval `low` to `high`.

    Raises:
        MetricError: different lengths, labels other than 0 and 1, or probabilities that are not
            finite.
    """
    labels, probabilities = checked(labels, probabilities)
    if not np.isfinite(probabilities).all():
        raise MetricError("Probabilities must be finite: drop patients without a prediction.")
    order = np.argsort(probabilities, kind="stable")
    groups = [group for group in np.array_split(order, n_bins) if len(group)]
    return [_calibration_row(labels[group], probabilities[group]) for group in groups]


def best_median_worst(values: Sequence[float]) -> dict[str, int]:
    """Return the places of the best, the median and the worst of some scores, the highest best.

    NaN is left out. No place is there twice: two scores are "best" and "worst", a single one is
    "only".
    """
    values = np.asarray(values, dtype=float)
    order = np.argsort(-values, kind="stable")[: np.isfinite(values).sum()].tolist()
    if len(order) < 3:
        return dict(zip(("best", "worst") if len(order) == 2 else ("only",), order, strict=False))
    return {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}


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


def _delong_bounds(wins: np.ndarray, quantile: float) -> tuple[float, float]:
    """Return DeLong's bounds on the scale of the logit; the AUC itself where it has no variance."""
    auc = wins.mean()
    if auc in (0, 1) or 1 in wins.shape:
        return auc, auc
    variance = sum(wins.mean(axis).var(ddof=1) / wins.shape[1 - axis] for axis in (0, 1))
    width = quantile * np.sqrt(variance) / (auc * (1 - auc))
    return expit(logit(auc) - width), expit(logit(auc) + width)


def _score_bounds(auc: float, sizes: tuple[int, int], quantile: float) -> tuple[float, float]:
    """Return the least and the greatest AUC that the observed one does not contradict."""

    def excess(true: float) -> float:
        return abs(auc - true) - quantile * np.sqrt(_auc_variance(true, *sizes))

    low = 0.0 if auc <= EDGE else brentq(excess, 0, min(auc, 1 - EDGE))
    high = 1.0 if auc >= 1 - EDGE else brentq(excess, max(auc, EDGE), 1)
    return low, high


def _auc_variance(auc: float, n_positive: int, n_negative: int) -> float:
    """Return the larger variance of an AUC under exponential scores, Hanley and McNeil 1982."""
    least, most = sorted((n_positive - 1, n_negative - 1))
    shared = sorted((auc / (2 - auc) - auc**2, 2 * auc**2 / (1 + auc) - auc**2))
    pairs = auc * (1 - auc) + least * shared[0] + most * shared[1]
    return max(pairs, 0.0) / (n_positive * n_negative)
