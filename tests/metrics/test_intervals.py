"""Intervals cover, p values are uniform, and what is not defined is nan."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.labelled_scores import two_classes

from t4e_utils.metrics import MetricError
from t4e_utils.metrics.intervals import (
    auc_summary,
    best_median_worst,
    bootstrap_ci,
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


def test_bootstrap_matches_a_loop_over_resampled_patients():
    labels, scores = two_classes(0, n=40)
    generator, aucs = np.random.default_rng(1), []
    groups = [np.flatnonzero(labels == k) for k in (0, 1)]
    for _ in range(2000):
        chosen = np.concatenate([generator.choice(group, len(group)) for group in groups])
        aucs.append(roc_auc(labels[chosen], scores[chosen]))
    np.testing.assert_allclose(
        bootstrap_ci(labels, scores), np.percentile(aucs, (2.5, 97.5)), atol=0.015
    )


def test_bootstrap_interval_of_a_perfect_score_is_a_point_and_repeats_with_the_seed():
    assert bootstrap_ci([0, 0, 1, 1], [1, 2, 3, 4]) == (1.0, 1.0)
    labels, scores = two_classes(2)
    assert bootstrap_ci(labels, scores, seed=5) == bootstrap_ci(labels, scores, seed=5)
    wide, narrow = (bootstrap_ci(labels, scores, level=level) for level in (0.95, 0.5))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_interval_covers_chance_in_19_of_20_null_data_sets():
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1], 40)
    bounds = [
        bootstrap_ci(labels, generator.normal(size=80), n_bootstrap=400, seed=k) for k in range(100)
    ]
    assert 88 <= sum(low <= 0.5 <= high for low, high in bounds) <= 100


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
    assert (found["auc"], found["ci95"], found["n"], found["n_positive"]) == (1.0, [1.0, 1.0], 4, 2)
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
