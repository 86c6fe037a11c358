"""Intervals cover, p values are uniform, and what is not defined is nan."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.labelled_scores import two_classes
from scipy.special import ndtri, stdtrit

from t4e_utils.metrics import MetricError
from t4e_utils.metrics.intervals import (
    auc_interval,
    auc_summary,
    best_median_worst,
    calibration_table,
    chance_aucs,
    median_interval,
    permutation_p,
    roc_band,
    wilson_interval,
)
from t4e_utils.metrics.ranking import roc_auc, roc_curve


@pytest.mark.parametrize(
    ("labels", "scores"), [([1, 1], [0.2, 0.3]), ([0], [1.0]), ([], []), ([0, 1], [np.nan, 1])]
)
def test_what_is_not_defined_is_nan(labels, scores):
    found = auc_summary(labels, scores)
    assert np.isnan([found["auc"], *found["ci95"], found["permutation_p"]]).all()
    assert found["n"] == len(labels)
    assert all(len(part) == 0 for part in roc_curve(labels, scores))


def delong_on_the_logit(labels, scores, quantile):
    """DeLong's bounds with a loop over patients, as in the paper's equation for the components."""
    pairs = [
        [1.0 if p > n else 0.5 if p == n else 0.0 for n in scores[labels == 0]]
        for p in scores[labels == 1]
    ]
    of_positive = [np.mean(row) for row in pairs]
    of_negative = [np.mean(column) for column in zip(*pairs, strict=True)]
    auc = np.mean(of_positive)
    variance = sum(
        sum((value - auc) ** 2 for value in values) / (len(values) - 1) / len(values)
        for values in (of_positive, of_negative)
    )
    width, middle = quantile * np.sqrt(variance) / (auc * (1 - auc)), np.log(auc / (1 - auc))
    return [1 / (1 + np.exp(-(middle + side * width))) for side in (-1, 1)]


def not_contradicted(auc, n_positive, n_negative, quantile):
    """Least and greatest AUC of a fine grid within reach of the observed one."""
    true = np.linspace(0, 1, 200_001)
    q1, q2 = true / (2 - true), 2 * true**2 / (1 + true)
    variances = [
        (true * (1 - true) + (m - 1) * (q1 - true**2) + (n - 1) * (q2 - true**2)) / (m * n)
        for m, n in ((n_positive, n_negative), (n_negative, n_positive))
    ]
    reach = quantile * np.sqrt(np.maximum(np.max(variances, axis=0), 0))
    held = true[np.abs(auc - true) <= reach + 1e-12]
    return [held.min(), held.max()]


@pytest.mark.parametrize(("seed", "n", "t"), [(0, 40, 2.0211), (1, 10, 2.2281), (7, 18, 2.1009)])
def test_auc_interval_is_the_hull_of_delong_and_of_newcombe(seed, n, t):
    labels, scores = two_classes(seed, n=n)  # t: 97.5% of Student with as many degrees of freedom
    bounds = [
        delong_on_the_logit(labels, scores, t),
        not_contradicted(roc_auc(labels, scores), labels.sum(), (labels == 0).sum(), t),
    ]
    expected = np.min(bounds, axis=0)[0], np.max(bounds, axis=0)[1]
    assert auc_interval(labels, scores) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("n_negative", "n_positive"), [(1, 1), (2, 2), (1, 9), (10, 10), (30, 3)])
def test_separated_classes_have_an_interval_with_a_width(n_negative, n_positive):
    labels = [0] * n_negative + [1] * n_positive
    low, high = auc_interval(labels, range(len(labels)))
    assert high == 1.0
    assert 0 <= low < 0.9
    t = float(stdtrit(max(len(labels) - 2, 1), 0.975))
    grid = not_contradicted(1.0, n_positive, n_negative, t)
    assert low == pytest.approx(grid[0], abs=1e-4)
    mirrored = auc_interval(labels, -np.arange(len(labels)))
    assert mirrored == pytest.approx((0.0, 1 - low), abs=0.15)  # Newcombe's V is not symmetric


def test_one_patient_of_a_class_has_an_interval_round_the_auc():
    low, high = auc_interval([1, 0, 0, 0, 0, 0], [3.5, 1, 2, 3, 4, 5])
    assert 0 < low < 0.6 < high < 1


def test_a_higher_level_gives_a_wider_interval():
    labels, scores = two_classes(2)
    wide, narrow = (auc_interval(labels, scores, level=level) for level in (0.95, 0.5))
    assert wide[0] < narrow[0] < roc_auc(labels, scores) < narrow[1] < wide[1]


@pytest.mark.parametrize("auc", [0.5, 0.9, 0.99])
def test_interval_of_20_patients_holds_the_true_auc_in_19_of_20_data_sets(auc):
    generator, labels = np.random.default_rng(0), np.repeat([0, 1], 10)
    shift = np.sqrt(2) * ndtri(auc) * labels
    found = [auc_interval(labels, generator.normal(size=20) + shift) for _ in range(400)]
    assert np.mean([low <= auc <= high for low, high in found]) >= 0.93


def test_permutation_p_matches_the_count_over_all_permutations():
    labels, scores = np.array([0, 0, 0, 1, 1]), np.array([1.0, 2.0, 4.0, 3.0, 5.0])
    # of the 10 ways to choose two ranks of five, rank sums of 8 or more: 5+4, 5+3
    assert permutation_p(labels, scores, n_permutations=20000) == pytest.approx(0.2, abs=0.01)


def test_permutation_p_counts_ties_and_is_never_zero():
    assert permutation_p([0, 1, 0, 1], [1, 1, 1, 1], n_permutations=99) == 1.0
    assert permutation_p([0] * 30 + [1] * 30, range(60), n_permutations=99) == 0.01


def test_permutation_p_is_uniform_under_the_null():
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1], 20)
    values = [
        permutation_p(labels, generator.normal(size=40), n_permutations=199, seed=k)
        for k in range(200)
    ]
    assert np.mean(np.array(values) <= 0.5) == pytest.approx(0.5, abs=0.12)
    assert np.mean(np.array(values) <= 0.1) == pytest.approx(0.1, abs=0.07)


def test_summary_holds_plain_numbers():
    found = auc_summary([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4])
    assert (found["auc"], found["n"], found["n_positive"]) == (1.0, 4, 2)
    assert found["ci95"] == list(auc_interval([0, 0, 1, 1], [1, 2, 3, 4]))
    assert found["permutation_p"] == pytest.approx(1 / 6, abs=0.03)
    assert all(type(value) in (int, float, list) for value in found.values())


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (1, 4, 0.0456, 0.6994)],
)
def test_wilson_interval_matches_the_table(successes, n, low, high):
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=1e-4)


def test_wilson_interval_of_nobody_is_refused():
    with pytest.raises(MetricError, match="share of 0 has no interval"):
        wilson_interval(0, 0)


def test_calibration_groups_patients_by_probability():
    labels, probabilities = [0, 1, 0, 1, 1, 1], [0.1, 0.9, 0.2, 0.3, 0.8, 0.7]
    rows = calibration_table(labels, probabilities, n_bins=3)
    assert [row["n"] for row in rows] == [2, 2, 2]
    assert [row["predicted"] for row in rows] == pytest.approx([0.15, 0.5, 0.85])
    assert [row["observed"] for row in rows] == [0.0, 1.0, 1.0]
    assert (rows[0]["low"], rows[0]["high"]) == wilson_interval(0, 2)


def test_calibration_of_fewer_patients_than_groups_has_fewer_groups():
    assert [row["n"] for row in calibration_table([1, 1], [0.4, 0.6], n_bins=5)] == [1, 1]


def test_calibration_refuses_missing_probabilities():
    with pytest.raises(MetricError, match="must be finite"):
        calibration_table([0, 1], [np.nan, 0.5])


def test_the_roc_band_is_that_of_resampled_curves():
    labels, scores = np.array([0, 0, 0, 1, 1]), np.array([0.1, 0.5, 0.4, 0.45, 0.9])
    generator, rates, curves = np.random.default_rng(3), np.linspace(0, 1, 101), []
    for _ in range(40):
        negative, positive = generator.choice(scores[:3], 3), generator.choice(scores[3:], 2)
        curve = []
        # the best true positive rate within the false positives allowed, points joined by lines
        for rate in rates:
            points = sorted(
                {(np.mean(negative >= t), np.mean(positive >= t)) for t in (*scores, 2.0)}
            )
            left = max(p for p in points if p[0] <= rate + 1e-12)
            right = min((p for p in points if p[0] > rate + 1e-12), default=left)
            share = (rate - left[0]) / (right[0] - left[0]) if right != left else 0
            curve.append(left[1] + share * (right[1] - left[1]))
        curves.append(curve)
    band = roc_band(labels, scores, n_bootstrap=40, seed=3)
    assert band == pytest.approx(np.percentile(curves, (2.5, 97.5), axis=0))


def test_chance_aucs_have_the_mean_and_spread_of_mann_and_whitney():
    drawn = chance_aucs(46, 41, n_draws=4000)
    assert drawn.mean() == pytest.approx(0.5, abs=0.005)
    assert drawn.std() == pytest.approx(np.sqrt((46 + 41 + 1) / (12 * 46 * 41)), rel=0.05)
    assert np.array_equal(drawn, chance_aucs(46, 41, n_draws=4000))
    assert set(chance_aucs(1, 1, n_draws=50)) == {0.0, 1.0}


def test_best_median_and_worst_are_found_among_finite_scores():
    assert best_median_worst([0.2, np.nan, 0.9, 0.5]) == {"best": 2, "median": 3, "worst": 0}
    assert best_median_worst([0.3, 0.9]) == {"best": 1, "worst": 0}
    assert best_median_worst([np.nan, 0.4]) == {"only": 1}
    assert best_median_worst([np.nan]) == {}


def test_the_interval_of_a_median_lies_around_it_and_shrinks_with_patients():
    values = np.linspace(0, 1, 9)
    low, high = median_interval(values)
    assert 0 <= low < 0.5 < high <= 1
    assert np.diff(median_interval(np.tile(values, 30)))[0] < (high - low) / 2
    assert np.isnan(median_interval(np.array([0.7, 0.8]))).all()
