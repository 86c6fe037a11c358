"""How well scores tell two classes apart.

Labels are 0 or 1, scores are higher for class 1, one of each per patient (chunks of a patient are
not independent: average them first). `complete` leaves out patients whose label or score is
missing; the scores here do not, and are nan where they are not defined: with one class only
(`has_both_classes`), or with a score that is not finite.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from t4e_utils.metrics import MetricError


def complete(labels: Sequence, scores: Sequence) -> tuple[np.ndarray, np.ndarray]:
    """Return labels (N,) as integers and scores (N,) of the patients that have both."""
    labels, scores = np.asarray(labels, dtype=float), np.asarray(scores, dtype=float)
    known = np.isfinite(labels) & np.isfinite(scores)
    return labels[known].astype(int), scores[known]


def has_both_classes(labels: ArrayLike) -> bool:
    """Say whether an AUC of finite scores is defined."""
    return len(np.unique(labels)) == 2


def checked(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return labels (N,) as bool and scores (N,) as float.

    Raises:
        MetricError: different lengths, or labels other than 0 and 1.
    """
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
    return labels.astype(bool), scores


def rankable(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray] | None:
    """Return what `checked` returns, or None where an AUC is not defined."""
    labels, scores = checked(labels, scores)
    return (labels, scores) if has_both_classes(labels) and np.isfinite(scores).all() else None


def roc_auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the area under the ROC curve.

    How often a random positive scores above a random negative, ties counting half.

    Args:
        labels: (N,) of 0 and 1.
        scores: (N,).

    Returns:
        0 to 1, or nan if it is not defined.

    Raises:
        MetricError: different lengths, or labels other than 0 and 1.

    >>> roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.4, 0.8])
    0.875
    """
    found = rankable(labels, scores)
    if found is None:
        return float("nan")
    labels, ranks = found[0], ranks_of(found[1])
    return float(auc_of_ranks(ranks[labels].sum(), labels.sum(), (~labels).sum()))


def roc_curve(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the points of the ROC curve, from (0, 0) to (1, 1), one for each distinct score.

    They are those of scikit-learn's `roc_curve(..., drop_intermediate=False)`, which would add
    about 0.8 s to every import of this room.

    Returns:
        False positive rates, true positive rates, and thresholds (positive from there up), the
        first one infinite; empty if not defined.

    Raises:
        MetricError: different lengths, or labels other than 0 and 1.
    """
    found = rankable(labels, scores)
    if found is None:
        return np.empty(0), np.empty(0), np.empty(0)
    order = np.argsort(-found[1], kind="stable")
    labels, scores = found[0][order], found[1][order]
    last_of_ties = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    true, false = np.cumsum(labels)[last_of_ties], np.cumsum(~labels)[last_of_ties]
    fpr, tpr = np.append(0, false) / false[-1], np.append(0, true) / true[-1]
    return fpr, tpr, np.append(np.inf, scores[last_of_ties])


def ranks_of(scores: np.ndarray) -> np.ndarray:
    """Return ranks (N,) from 1; equal scores share their mean rank."""
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]


def auc_of_ranks(rank_sum: ArrayLike, n_positive: int, n_negative: int) -> ArrayLike:
    """Return AUCs from sums of the ranks of the positives (Mann and Whitney 1947)."""
    return (rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)
