"""Predictions of patients by models that did not see them, joined and scored."""

import numpy as np
import pandas as pd
import pytest

from t4e_utils.prediction.out_of_fold import auc_by_series, most_confident, out_of_fold_table
from t4e_utils.tables.folds import LeakError

PREDICTIONS = pd.DataFrame(
    [
        ("00001", "FLAIR", 0, 0, 0.2),
        ("00001", "FLAIR", 0, 1, 0.4),
        ("00001", "T2w", 0, 0, 0.7),
        ("00002", "FLAIR", 1, 0, 0.6),
        ("00003", "T2w", 1, 0, 0.1),
    ],
    columns=["patient_id", "series", "fold", "chunk", "probability"],
)
PATIENTS = pd.DataFrame(
    {
        "patient_id": ["00001", "00002", "00003", "00004"],
        "label": [0, 1, 0, 1],
        "fold": [0, 1, 1, 0],
    }
)


def test_the_out_of_fold_table_is_the_mean_over_chunks_then_types():
    table = out_of_fold_table(PREDICTIONS, PATIENTS, series=["FLAIR", "T2w"])
    assert table["patient_id"].tolist() == ["00001", "00002", "00003"]
    np.testing.assert_allclose(
        table[["FLAIR", "T2w", "mean"]], [[0.3, 0.7, 0.5], [0.6, np.nan, 0.6], [np.nan, 0.1, 0.1]]
    )


def test_a_prediction_by_a_model_that_knew_the_patient_is_refused():
    with pytest.raises(LeakError, match="00003 was predicted by the model of fold 0"):
        out_of_fold_table(PREDICTIONS.assign(fold=0).iloc[[4]], PATIENTS, series=["T2w"])


def test_auc_of_types_counts_only_patients_that_have_the_type():
    scores = auc_by_series(
        out_of_fold_table(PREDICTIONS, PATIENTS, series=["FLAIR", "T2w"]), series=["FLAIR", "T2w"]
    )
    assert scores["FLAIR"]["auc"] == 1.0
    assert scores["FLAIR"]["n"] == 2
    assert np.isnan(scores["T2w"]["auc"])
    assert scores["mean"]["auc"] == 1.0


def test_the_most_confident_predictions_lie_farthest_from_one_half_on_each_side_of_the_truth():
    table = pd.DataFrame(
        {
            "patient_id": ["a", "b", "c"],
            "fold": [0, 1, 0],
            "label": [1, 0, 0],
            "FLAIR": [0.7, 0.2, 0.55],
            "T2w": [0.45, np.nan, 0.1],
            "mean": [0.6, 0.2, 0.9],
        }
    )
    found = most_confident(table, series=["FLAIR", "T2w"])
    assert found["right"] == {
        "patient_id": "c",
        "fold": 0,
        "label": 0,
        "series": "T2w",
        "probability": 0.1,
    }
    assert (found["wrong"]["label"], found["wrong"]["probability"]) in {(1, 0.45), (0, 0.55)}
    assert set(most_confident(table[table["patient_id"] == "b"], series=["FLAIR", "T2w"])) == {
        "right"
    }
