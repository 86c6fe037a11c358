"""Overlap is that of a table made by hand and of scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score, jaccard_score

from t4e_utils.metrics import MetricError
from t4e_utils.metrics.overlap import dice, dice_from_counts, iou


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


def test_masks_of_different_shapes_are_refused():
    with pytest.raises(MetricError, match=r"\(2, 2\) and its truth \(2,\) differ in shape"):
        dice(np.ones((2, 2)), np.ones(2))
