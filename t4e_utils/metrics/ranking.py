"""How well scores tell two classes apart.

Labels are 0 or 1, scores are higher for class 1, one of each per patient (chunks of a patient are
not independent: average them first). What is not defined is nan: with one class only, or with
scores that are not finite.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from t4e_utils.metrics.overlap import MetricError


def complete(labels: Sequence, scores: Sequence) -> tuple[np.ndarray, np.ndarray]:
    """Return labels (N,) as integers and scores (N,) of the patients that have both."""
    labels, scores = np.asarray(labels, dtype=float), np.asarray(scores, dtype=float)
    known = np.isfinite(labels) & np.isfinite(scores)
    return labels[known].astype(int), scores[known]


def both_classes(labels: np.ndarray) -> bool:
    """Say whether an AUC is defined."""
    return len(np.unique(labels)) == 2


def usable(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray] | None:
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
    checked = usable(labels, scores)
    if checked is None:
        return float("nan")
    labels, ranks = checked[0], ranks_of(checked[1])
    return auc_of_rank_sum(ranks[labels].sum(), labels)


def auc_of_rank_sum(rank_sum: float, labels: np.ndarray) -> float:
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
    checked = usable(labels, scores)
    if checked is None:
        return np.empty(0), np.empty(0), np.empty(0)
    order = np.argsort(-checked[1], kind="stable")
    labels, scores = checked[0][order], checked[1][order]
    last_of_ties = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    true, false = np.cumsum(labels)[last_of_ties], np.cumsum(~labels)[last_of_ties]
    fpr, tpr = np.append(0, false) / false[-1], np.append(0, true) / true[-1]
    return fpr, tpr, np.append(np.inf, scores[last_of_ties])


def ranks_of(scores: np.ndarray) -> np.ndarray:
    """Return ranks from 1; equal scores share their mean rank."""
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]
