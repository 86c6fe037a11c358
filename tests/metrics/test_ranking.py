import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, jaccard_score, roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc_curve

from t4e_utils.metrics.intervals import (
    auc_summary,
    bootstrap_ci,
    calibration_table,
    permutation_p,
    quartiles,
    wilson_interval,
)
from t4e_utils.metrics.overlap import MetricError, dice, dice_from_counts, iou, iou_from_counts
from t4e_utils.metrics.ranking import roc_auc, roc_curve


def auc_over_all_pairs(labels, scores):
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


@pytest.mark.parametrize(
    ("prediction", "truth", "expected_dice", "expected_iou"),
    [
        ([0, 0, 0, 0], [0, 0, 0, 0], 1.0, 1.0),
        ([0, 0, 0, 0], [1, 0, 0, 0], 0.0, 0.0),
        ([1, 1, 0, 0], [0, 0, 1, 1], 0.0, 0.0),
        ([1, 1, 0, 0], [1, 0, 0, 0], 2 / 3, 1 / 2),
        ([1, 1, 1, 0], [0, 1, 1, 1], 2 / 3, 1 / 2),
        ([255, 0, 0, 0], [1, 0, 0, 0], 1.0, 1.0),
    ],
)
def test_overlap_matches_the_table(prediction, truth, expected_dice, expected_iou):
    assert dice(prediction, truth) == pytest.approx(expected_dice)
    assert iou(prediction, truth) == pytest.approx(expected_iou)


@pytest.mark.parametrize("seed", range(5))
def test_overlap_of_random_masks_matches_scikit_learn(seed):
    prediction, truth = np.random.default_rng(seed).integers(0, 2, (2, 4, 5, 6))
    assert dice(prediction, truth) == pytest.approx(f1_score(truth.ravel(), prediction.ravel()))
    assert iou(prediction, truth) == pytest.approx(jaccard_score(truth.ravel(), prediction.ravel()))


def test_overlap_from_counts_is_that_of_the_masks():
    predictions, truths = np.random.default_rng(0).integers(0, 2, (2, 7, 30))
    predictions[0] = truths[0] = 0
    counts = (predictions & truths).sum(1), predictions.sum(1), truths.sum(1)
    pairs = list(zip(predictions, truths, strict=True))
    np.testing.assert_allclose(dice_from_counts(*counts), [dice(p, t) for p, t in pairs])
    np.testing.assert_allclose(iou_from_counts(*counts), [iou(p, t) for p, t in pairs])


def test_masks_of_different_shapes_are_refused():
    with pytest.raises(MetricError, match=r"\(2, 2\) and its truth \(2,\) differ in shape"):
        dice(np.ones((2, 2)), np.ones(2))


@pytest.mark.parametrize("seed", range(10))
def test_auc_matches_scikit_learn_and_the_count_over_all_pairs(seed):
    labels, scores = two_classes(seed)
    assert roc_auc(labels, scores) == pytest.approx(auc_over_all_pairs(labels, scores), abs=1e-12)
    assert roc_auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


@pytest.mark.parametrize(
    ("labels", "scores", "expected"),
    [
        ([0, 1], [0, 1], 1.0),
        ([0, 1], [1, 0], 0.0),
        ([0, 1], [1, 1], 0.5),
        ([0, 0, 1, 1], [1, 4, 4, 8], 0.875),
    ],
)
def test_auc_matches_the_table(labels, scores, expected):
    assert roc_auc(labels, scores) == expected


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(-3, 3)), min_size=1, max_size=20))
def test_turning_the_scores_around_turns_the_auc_around(rows):
    labels, scores = np.array(rows).T
    assert roc_auc(labels, -scores) == pytest.approx(1 - roc_auc(labels, scores), nan_ok=True)


@pytest.mark.parametrize(
    ("labels", "scores"), [([1, 1], [0.2, 0.3]), ([0], [1.0]), ([], []), ([0, 1], [np.nan, 1])]
)
def test_what_is_not_defined_is_nan(labels, scores):
    found = auc_summary(labels, scores)
    assert np.isnan([found["auc"], *found["ci95"], found["permutation_p"]]).all()
    assert found["n"] == len(labels)
    assert all(len(part) == 0 for part in roc_curve(labels, scores))


@pytest.mark.parametrize("seed", range(5))
def test_roc_curve_matches_scikit_learn(seed):
    labels, scores = two_classes(seed)
    expected = sklearn_roc_curve(labels, scores, drop_intermediate=False)
    for found, wanted in zip(roc_curve(labels, scores), expected, strict=True):
        np.testing.assert_allclose(found, wanted)


def test_area_under_the_curve_is_the_auc():
    labels, scores = two_classes(3)
    fpr, tpr, _ = roc_curve(labels, scores)
    area = np.sum(np.diff(fpr) * (tpr[1:] + tpr[:-1]) / 2)
    assert area == pytest.approx(roc_auc(labels, scores))


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
    ("labels", "scores", "sentence"),
    [
        ([0, 1], [1.0], "must be of one length"),
        ([0, 2], [1.0, 2.0], "must be 0 or 1, these hold"),
        ([[0]], [[1]], "one length"),
    ],
)
def test_labels_and_scores_that_do_not_fit_are_refused(labels, scores, sentence):
    with pytest.raises(MetricError, match=sentence):
        roc_auc(labels, scores)


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


def test_quartiles_leave_out_what_is_not_finite():
    assert quartiles([1, 2, 3, np.nan]) == {"q1": 1.5, "median": 2.0, "q3": 2.5, "n": 3}
    assert np.isnan(quartiles([])["median"])
