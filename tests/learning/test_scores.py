"""Scores of a validation set against slow ones."""

import math
import pickle

import numpy as np
import pytest
import torch

from t4e_utils.learning.scores import ChunkScore, OutputAUC, RegionDice
from t4e_utils.metrics.overlap import dice
from t4e_utils.metrics.ranking import roc_auc

SCORE = RegionDice(("Whole", "core"))


def kept(logits, targets, *, batch=2):
    """What a score gets of all items after batches."""
    pairs = zip(logits.split(batch), targets.split(batch), strict=True)
    outputs, true = zip(*(SCORE.keep(*pair) for pair in pairs), strict=True)
    indices = np.arange(len(logits))
    return torch.cat(outputs).float().numpy(), torch.cat(true).float().numpy(), indices


def test_dice_is_that_of_all_pixels_together_and_the_score_their_mean():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 2, 6, 5, generator=generator)
    targets = (torch.rand(5, 2, 6, 5, generator=generator) > 0.5).float()
    found = SCORE(*kept(logits, targets))
    expected = [dice(logits[:, c] > 0, targets[:, c]) for c in range(2)]
    assert list(found) == ["dice_whole", "dice_core", "score"]
    assert list(found.values()) == pytest.approx([*expected, np.mean(expected)])


def test_what_is_kept_are_the_counts_of_each_slice_and_region():
    logits, targets = torch.randn(3, 2, 6, 5), (torch.rand(3, 2, 6, 5) > 0.5).float()
    outputs, true = SCORE.keep(logits, targets)
    assert (outputs.shape, true.shape) == ((3, 2, 2), (3, 2))
    for b, c in np.ndindex(3, 2):
        is_predicted, is_true = logits[b, c] > 0, targets[b, c] > 0
        both = (is_predicted & is_true).sum()
        assert outputs[b, c].tolist() == [both, is_predicted.sum()]
        assert true[b, c] == is_true.sum()


@pytest.mark.parametrize(("value", "expected"), [(-1.0, 1.0), (1.0, 0.0)])
def test_an_absent_region_that_is_not_predicted_scores_1_and_one_that_is_0(value, expected):
    logits, targets = torch.full((3, 2, 4, 4), value), torch.zeros(3, 2, 4, 4)
    logits[:, 0] = 1.0
    targets[:, 0] = 1.0
    found = SCORE(*kept(logits, targets))
    assert found == {"dice_whole": 1.0, "dice_core": expected, "score": (1 + expected) / 2}


def test_chunks_are_scored_alone_and_by_the_mean_of_their_patient():
    patients = np.array(["a", "a", "b", "b", "c", "d"])
    logits = np.array([2.0, -1.0, 0.5, 0.4, 3.0, -2.0])
    labels = np.array([1, 1, 0, 0, 1, 0])
    order = np.array([3, 0, 5, 1, 4, 2])  # as a loader of several processes gives them
    score = ChunkScore(patients)
    outputs, targets = score.keep(torch.tensor(logits[order]), torch.tensor(labels[order]))
    found = score(outputs.numpy(), targets.numpy(), order)
    p = 1 / (1 + np.exp(-logits))
    by_patient = [p[:2].mean(), p[2:4].mean(), p[4], p[5]]
    assert found["chunk_auc"] == roc_auc(labels, p) == pytest.approx(7 / 9)
    assert found["patient_auc"] == found["score"] == roc_auc([1, 0, 1, 0], by_patient)


def test_chunks_of_one_class_have_no_score():
    found = ChunkScore(np.array(["a", "b"]))(np.zeros(2), np.ones(2), np.arange(2))
    assert all(math.isnan(value) for value in found.values())


def test_each_output_has_its_auc_and_one_without_both_classes_does_not_count():
    logits = np.array([[2.0, 0.1, -1.0], [-1.0, 0.3, 0.0], [0.5, 0.2, 1.0], [0.5, 0.0, 2.0]])
    labels = np.array([[1, 1, 0], [0, 0, 0], [0, 1, 0], [1, 0, 0]])
    found = OutputAUC(("Disc", "ring", "none"))(logits, labels, np.arange(4))
    assert list(found) == ["auc_disc", "auc_ring", "auc_none", "score"]
    assert found["auc_disc"] == pytest.approx((1 + 1 + 1 + 0.5) / 4)  # the tie counts half
    assert found["auc_ring"] == pytest.approx(2 / 4)
    assert math.isnan(found["auc_none"])
    assert found["score"] == pytest.approx((3.5 / 4 + 0.5) / 2)
    assert math.isnan(OutputAUC(("none",))(logits[:, :1], labels[:, 2:], np.arange(4))["score"])


@pytest.mark.parametrize("score", [SCORE, OutputAUC(("a",)), ChunkScore(np.array(["a", "b"]))])
def test_scores_can_be_sent_to_other_processes(score):
    assert type(pickle.loads(pickle.dumps(score))) is type(score)
