"""AUC and ROC are those of all pairs and of scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.labelled_scores import auc_over_all_pairs, two_classes
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc_curve

from t4e_utils.metrics import MetricError
from t4e_utils.metrics.ranking import (
    auc_of_ranks,
    complete,
    has_both_classes,
    ranks_of,
    roc_auc,
    roc_curve,
)


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


def test_patients_without_a_label_or_a_score_are_left_out():
    labels, scores = complete([0, None, 1, 1], [0.1, 0.2, np.nan, 0.4])
    assert (labels.tolist(), scores.tolist()) == ([0, 1], [0.1, 0.4])
    assert labels.dtype.kind == "i"


@pytest.mark.parametrize(("labels", "expected"), [([0, 1, 1], True), ([1, 1], False), ([], False)])
def test_both_classes_have_to_be_there(labels, expected):
    assert has_both_classes(np.array(labels)) is expected


def test_equal_scores_share_their_rank_and_rank_sums_give_the_auc():
    assert ranks_of(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1.0, 3.5, 2.0]
    labels, scores = two_classes(4)
    rank_sum = ranks_of(scores)[labels == 1].sum()
    found = auc_of_ranks(rank_sum, np.sum(labels == 1), np.sum(labels == 0))
    assert found == pytest.approx(auc_over_all_pairs(labels, scores), abs=1e-12)
