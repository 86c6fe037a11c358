"""Figures of merit.

Overlap of masks, and how well scores tell two classes apart, with their uncertainty.

Masks are arrays of any shape, true where not zero. Labels are 0 or 1, scores are higher for class
1, one of each per patient (chunks of a patient are not independent: average them first). What is
not defined is nan: with one class only, or with scores that are not finite.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri  # scipy.stats has it too, and takes most of a second to import

from t4e_utils import T4EError


class MetricError(T4EError, ValueError):
    """Arrays that cannot be compared."""


def dice(prediction: ArrayLike, truth: ArrayLike) -> float:
    """Dice coefficient, 2 |P and T| / (|P| + |T|); 1 if both masks are empty.

    >>> dice([1, 1, 0, 0], [1, 0, 0, 0])
    0.6666666666666666
    """
    return float(dice_from_counts(*_counts(prediction, truth)))


def iou(prediction: ArrayLike, truth: ArrayLike) -> float:
    """Intersection over union (Jaccard index), |P and T| / |P or T|; 1 if both masks are empty."""
    both, predicted, true = _counts(prediction, truth)
    return float(_share(both, predicted + true - both))


def dice_from_counts(both: ArrayLike, predicted: ArrayLike, true: ArrayLike) -> np.ndarray:
    """Dice from numbers of pixels: in both masks, in the predicted one, in the true one.

    Arrays of the same shape.
    """
    return _share(2 * np.asarray(both), np.asarray(predicted) + np.asarray(true))


def iou_from_counts(both: ArrayLike, predicted: ArrayLike, true: ArrayLike) -> np.ndarray:
    """Intersection over union from numbers of pixels, as in `dice_from_counts`."""
    return _share(np.asarray(both), np.asarray(predicted) + np.asarray(true) - np.asarray(both))


def _counts(prediction: ArrayLike, truth: ArrayLike) -> tuple[int, int, int]:
    prediction, truth = np.asarray(prediction) != 0, np.asarray(truth) != 0
    if prediction.shape != truth.shape:
        raise MetricError(
            f"A mask {prediction.shape} and its truth {truth.shape} differ in shape: bring "
            "both to one grid."
        )
    return (
        np.count_nonzero(prediction & truth),
        np.count_nonzero(prediction),
        np.count_nonzero(truth),
    )


def _share(part: ArrayLike, whole: ArrayLike) -> np.ndarray:
    part, whole = np.asarray(part, float), np.asarray(whole, float)
    return np.divide(part, whole, out=np.ones(np.broadcast(part, whole).shape), where=whole > 0)


def _checked(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray] | None:
    """Labels as bool and scores as float; None if nothing can be said of them."""
    labels, scores = np.asarray(labels), np.asarray(scores, float)
    if labels.shape != scores.shape or labels.ndim != 1:
        raise MetricError(
            f"Labels {labels.shape} and scores {scores.shape} must be of one length: one of "
            "each per patient."
        )
    if not np.isin(labels, (0, 1)).all():
        raise MetricError(
            f"Labels must be 0 or 1, these hold {np.unique(labels)[:5]}: drop patients without "
            "a label."
        )
    labels = labels.astype(bool)
    is_defined = labels.any() and not labels.all() and np.isfinite(scores).all()
    return (labels, scores) if is_defined else None


def roc_auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve.

    How often a random positive scores above a random negative, ties counting half.

    Args:
        labels: (N,) of 0 and 1.
        scores: (N,).

    Returns:
        0 to 1, or nan if it is not defined. The Mann-Whitney U statistic over the number of pairs.

    >>> roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.4, 0.8])
    0.875
    """
    checked = _checked(labels, scores)
    if checked is None:
        return float("nan")
    labels, ranks = checked[0], _ranks(checked[1])
    return _auc_of_rank_sum(ranks[labels].sum(), labels)


def _auc_of_rank_sum(rank_sum: float, labels: np.ndarray) -> float:
    n_positive = np.count_nonzero(labels)
    return float(
        (rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * (len(labels) - n_positive))
    )


def roc_curve(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points of the ROC curve, from (0, 0) to (1, 1), one for each distinct score.

    Returns:
        False positive rates, true positive rates, and thresholds (positive from there up), the
        first one infinite; empty if not defined.
    """
    checked = _checked(labels, scores)
    if checked is None:
        return np.empty(0), np.empty(0), np.empty(0)
    order = np.argsort(-checked[1], kind="stable")
    labels, scores = checked[0][order], checked[1][order]
    last_of_ties = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    true, false = np.cumsum(labels)[last_of_ties], np.cumsum(~labels)[last_of_ties]
    fpr, tpr = np.append(0, false) / false[-1], np.append(0, true) / true[-1]
    return fpr, tpr, np.append(np.inf, scores[last_of_ties])


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
    checked = _checked(labels, scores)
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
    checked = _checked(labels, scores)
    if checked is None:
        return float("nan")
    labels, ranks = checked[0], _ranks(checked[1])
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
    _checked(labels, probabilities)
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


def _ranks(scores: np.ndarray) -> np.ndarray:
    """Return ranks from 1; equal scores share their mean rank."""
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]
