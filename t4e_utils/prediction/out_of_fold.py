"""Predictions of patients by models that did not see them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from t4e_utils.metrics.intervals import auc_summary
from t4e_utils.tables.folds import LeakError


def out_of_fold_table(
    predictions: pd.DataFrame, patients: pd.DataFrame, *, series: Sequence[str]
) -> pd.DataFrame:
    """Join the predictions of all series and folds to one row per patient.

    Args:
        predictions: patient_id, series, fold, chunk, probability; each patient by the model that
            did not see it.
        patients: patient_id, label, fold.
        series: which become columns.

    Returns:
        patient_id, label, fold, a probability for each series (mean over chunks; NaN where there is
        none) and their mean. Patients without any prediction have no row.

    Raises:
        LeakError: a patient was predicted by a model of another fold.
    """
    by_series = predictions.groupby(["patient_id", "series", "fold"], as_index=False)[
        "probability"
    ].mean()
    home = by_series["patient_id"].map(patients.set_index("patient_id")["fold"])
    if (by_series["fold"] != home).any():
        wrong = by_series[by_series["fold"] != home].iloc[0]
        raise LeakError(
            f"Patient {wrong['patient_id']} was predicted by the model of fold "
            f"{wrong['fold']}, which trained on it: predict it again."
        )
    wide = by_series.pivot(index="patient_id", columns="series", values="probability").reindex(
        columns=list(series)
    )
    wide["mean"] = wide.mean(axis=1)
    return patients[["patient_id", "label", "fold"]].merge(wide.reset_index(), on="patient_id")


def auc_by_series(
    table: pd.DataFrame, *, series: Sequence[str], seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Return AUC, interval, n and permutation p of each series and of their mean.

    NaN where one class is missing.

    Args:
        table: from `out_of_fold_table`.
        series: its columns of probabilities.
        seed: of the permutations.
    """
    found = {name: table[["label", name]].dropna() for name in (*series, "mean")}
    return {name: auc_summary(own["label"], own[name], seed=seed) for name, own in found.items()}


def most_confident(table: pd.DataFrame, *, series: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the predictions that are right, and wrong, by the widest margin.

    Args:
        table: from `out_of_fold_table`.
        series: its columns of probabilities.

    Returns:
        "right" and "wrong", each with patient_id, fold, label, series, probability; left out where
        no prediction lies on that side of 0.5.
    """
    long = table.melt(
        ["patient_id", "fold", "label"], list(series), "series", "probability"
    ).dropna()
    margin = (long["probability"] - 0.5) * (2 * long["label"] - 1)
    places = {
        "right": margin.idxmax() if (margin > 0).any() else None,
        "wrong": margin.idxmin() if (margin < 0).any() else None,
    }
    return {kind: long.loc[place].to_dict() for kind, place in places.items() if place is not None}
