"""Weights of the members of a patient's mean, fitted on out-of-fold predictions.

A table has one row per patient: patient_id, label, fold, and a probability for each member (NaN
where there is none). Weights are not negative and add up to 1; a patient without some member gets
the mean over the others with their weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize

from t4e_utils.metrics.intervals import auc_summary
from t4e_utils.prediction import PredictionError

# probabilities are kept this far from 0 and 1: one sure mistake must not decide the weights
CLIP = 1e-3


def require_probabilities(table: pd.DataFrame, names: Sequence[str]) -> None:
    """Refuse a column that is not there, or a value outside 0 to 1; NaN is none at all.

    Raises:
        PredictionError: naming column and value.
    """
    for name in names:
        values = pd.to_numeric(table[name], errors="coerce") if name in table else None
        if values is None:
            raise PredictionError(f"The out-of-fold table has no column {name}.")
        wrong = table.loc[table[name].notna() & ~values.between(0, 1), name]
        if len(wrong):
            raise PredictionError(
                f"The out-of-fold table has {name} = {wrong.iloc[0]}, which is no probability."
            )


def require_labels(table: pd.DataFrame) -> None:
    """Refuse labels that are not 0 or 1.

    Raises:
        PredictionError: naming one.
    """
    wrong = table.loc[~table["label"].isin([0, 1]), "label"]
    if len(wrong):
        raise PredictionError(
            f"The out-of-fold table has the label {wrong.iloc[0]}, which is neither 0 nor 1."
        )


def weighted_mean(probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weighted mean over the members that a patient has.

    Args:
        probabilities: (N, M), NaN where there is none.
        weights: (M,), not negative.

    Returns:
        (N,); NaN where all members with a weight are missing.
    """
    is_there = np.isfinite(probabilities)
    total = is_there @ weights
    return np.divide(
        np.where(is_there, probabilities, 0) @ weights,
        total,
        out=np.full(len(total), np.nan),
        where=total > 0,
    )


def fit_weights(table: pd.DataFrame, *, series: Sequence[str]) -> dict[str, float]:
    """Return the weights that minimise the log loss of the weighted mean.

    The log loss is convex in the weights and uses every patient, where the AUC has steps that few
    patients decide.

    Args:
        table: out-of-fold predictions.
        series: the members' columns.

    Raises:
        PredictionError: fewer than two patients of a class, a member without predictions, or a
            value that is no label or no probability.
    """
    require_labels(table)
    require_probabilities(table, series)
    labels, probabilities = table["label"].to_numpy(float), table[list(series)].to_numpy(float)
    if min((labels == 1).sum(), (labels == 0).sum()) < 2:
        raise PredictionError(
            "Weights need two patients of each class, the out-of-fold table has "
            f"{int(labels.sum())} positive of {len(labels)}: give the weights instead."
        )
    if empty := [
        name
        for name, column in zip(series, probabilities.T, strict=True)
        if not np.isfinite(column).any()
    ]:
        raise PredictionError(
            f"{empty[0]} has no out-of-fold prediction: train it, or leave it out."
        )

    def log_loss(weights: np.ndarray) -> float:
        mean = weighted_mean(probabilities, np.maximum(weights, 1e-9)).clip(CLIP, 1 - CLIP)
        return float(-np.nanmean(np.where(labels == 1, np.log(mean), np.log(1 - mean))))

    n = len(series)
    sums_to_one = {"type": "eq", "fun": lambda weights: weights.sum() - 1}
    found = minimize(
        log_loss, np.full(n, 1 / n), bounds=[(0, 1)] * n, constraints=sums_to_one, method="SLSQP"
    ).x
    found = np.where(found < 1e-4, 0, found)
    return dict(zip(series, (found / found.sum()).tolist(), strict=True))


def nested_summary(
    table: pd.DataFrame, *, series: Sequence[str], seed: int = 0
) -> dict[str, Any] | None:
    """Score fitted weights on patients that did not fit them.

    For each fold, weights from the other folds.

    The weights of all patients are not scored on these patients: that score would be too high.
    With one fold there is nothing honest to say.

    Returns:
        AUC, interval, n and permutation p, as `metrics.auc_summary`; None with fewer than two
        folds, or where a fold's rest cannot be fitted.
    """
    if table["fold"].nunique() < 2:
        return None
    scored = []
    for _, own in table.groupby("fold"):
        try:
            weights = fit_weights(table.drop(own.index), series=series)
        except PredictionError:
            return None
        scored.append(
            own.assign(
                nested=weighted_mean(
                    own[list(series)].to_numpy(float), np.array([weights[name] for name in series])
                )
            )
        )
    found = pd.concat(scored).dropna(subset=["nested"])
    return auc_summary(found["label"], found["nested"], seed=seed)
