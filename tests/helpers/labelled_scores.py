"""Labels and scores of two classes, and an AUC that is slow and obvious."""

from __future__ import annotations

import numpy as np


def auc_over_all_pairs(labels, scores):
    """Count how often a positive scores above a negative, ties as a half."""
    wins = [
        1.0 if p > n else 0.5 if p == n else 0.0
        for p in scores[labels == 1]
        for n in scores[labels == 0]
    ]
    return sum(wins) / len(wins)


def two_classes(seed, n=30, n_scores=8):
    """Labels and scores with many ties."""
    generator = np.random.default_rng(seed)
    labels = np.append([0, 1], generator.integers(0, 2, n))
    return labels, generator.integers(0, n_scores, n + 2) / 4 + 0.3 * labels
