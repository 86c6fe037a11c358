"""Weights of the members of a mean.

Found where they are planted, never negative, and scored only on patients who did not fit them.
"""

import numpy as np
import pandas as pd
import pytest

from t4e_utils.prediction import PredictionError
from t4e_utils.prediction.ensemble import fit_weights, nested_summary, weighted_mean

SERIES = ("FLAIR", "T1w", "T2w")


def table_of(labels, columns, *, n_folds=4):
    folds = np.arange(len(labels)) % n_folds
    return pd.DataFrame(
        {
            "patient_id": [f"{k:05d}" for k in range(len(labels))],
            "label": labels,
            "fold": folds,
            **columns,
        }
    )


@pytest.fixture(scope="module")
def informative():
    """T1w knows the label, FLAIR is noise around one half, T2w says the opposite of the truth."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 120)
    noise = generator.uniform(-0.2, 0.2, (3, 120))
    return table_of(
        labels,
        {
            "FLAIR": 0.5 + noise[0],
            "T1w": 0.3 + 0.4 * labels + noise[1],
            "T2w": 0.7 - 0.4 * labels + noise[2],
        },
    )


def test_the_mean_matches_a_hand_computed_table_and_skips_what_is_missing():
    probabilities = np.array(
        [[0.2, 0.8, 0.5], [np.nan, 0.8, 0.4], [np.nan, np.nan, 0.3], [np.nan, np.nan, np.nan]]
    )
    np.testing.assert_allclose(
        weighted_mean(probabilities, np.array([0.5, 0.25, 0.25])), [0.425, 0.6, 0.3, np.nan]
    )
    np.testing.assert_allclose(weighted_mean(probabilities, np.array([1.0, 1.0, 0.0]))[2], np.nan)


def test_the_informative_type_gets_the_weight_and_none_is_negative(informative):
    weights = fit_weights(informative, series=SERIES)
    assert weights["T1w"] > 0.9
    assert weights["T2w"] == 0
    assert min(weights.values()) >= 0
    assert sum(weights.values()) == pytest.approx(1)


def test_no_point_of_a_fine_grid_has_a_smaller_loss(informative):
    noisy = informative.assign(
        T2w=informative["T1w"].sample(frac=1, random_state=1).to_numpy() * 0.5
        + informative["T1w"] * 0.5
    )
    fitted = fit_weights(noisy, series=SERIES)

    def loss(weights):
        mean = noisy[list(SERIES)].to_numpy() @ np.array(weights)
        return -np.mean(np.log(np.where(noisy["label"] == 1, mean, 1 - mean).clip(1e-3, 1 - 1e-3)))

    grid = [loss((i / 20, j / 20, 1 - (i + j) / 20)) for i in range(21) for j in range(21 - i)]
    assert loss([fitted[name] for name in SERIES]) <= min(grid) + 1e-4


def test_fitted_weights_do_not_depend_on_the_order_of_patients(informative):
    one, other = (
        fit_weights(informative, series=SERIES),
        fit_weights(informative[::-1], series=SERIES),
    )
    np.testing.assert_allclose(list(one.values()), list(other.values()), atol=1e-3)


def test_noise_scores_like_noise_when_weights_are_nested():
    generator = np.random.default_rng(3)
    found = []
    for _ in range(12):
        labels = generator.integers(0, 2, 40)
        table = table_of(labels, {name: generator.uniform(0.3, 0.7, 40) for name in SERIES})
        found.append(nested_summary(table, series=SERIES)["auc"])
    assert abs(np.mean(found) - 0.5) < 3 * np.std(found, ddof=1) / np.sqrt(len(found))


def test_nested_scores_are_those_of_weights_from_the_other_folds(informative):
    summary = nested_summary(informative, series=SERIES)
    assert summary["n"] == len(informative)
    assert summary["auc"] > 0.95
    assert nested_summary(informative.assign(fold=0), series=SERIES) is None


def test_nothing_is_fitted_on_one_class_or_on_a_type_without_predictions(informative):
    with pytest.raises(
        PredictionError,
        match="two patients of each class, the out-of-fold table has 0 positive of 120",
    ):
        fit_weights(informative.assign(label=0), series=SERIES)
    with pytest.raises(PredictionError, match="T2w has no out-of-fold prediction"):
        fit_weights(informative.assign(T2w=np.nan), series=SERIES)
    assert nested_summary(informative.assign(label=[1, *[0] * 119]), series=SERIES) is None


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"T1w": 1.2}, r"T1w = 1\.2, which is no probability"),
        ({"T1w": np.inf}, "T1w = inf, which is no probability"),
        ({"T1w": "high"}, "T1w = high, which is no probability"),
        ({"label": 2}, "has the label 2, which is neither 0 nor 1"),
        ({"label": np.nan}, "has the label nan, which is neither 0 nor 1"),
    ],
)
def test_values_that_make_no_sense_are_refused(informative, changes, sentence):
    with pytest.raises(PredictionError, match=sentence):
        fit_weights(informative.assign(**changes), series=SERIES)


def test_a_member_without_a_column_is_refused(informative):
    with pytest.raises(PredictionError, match="The out-of-fold table has no column T2w"):
        fit_weights(informative.drop(columns="T2w"), series=SERIES)
