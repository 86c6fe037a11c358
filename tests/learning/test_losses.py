"""Losses against hand-computed values, and what the second one is for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from t4e_utils.learning import TrainingError
from t4e_utils.learning.losses import make_loss

HALF = torch.zeros(1, 2, 1, 2)  # logits of probability 1/2
TARGETS = torch.tensor([[[[1.0, 0.0]], [[1.0, 1.0]]]])  # first: one of two pixels; second: both


def test_losses_of_a_hand_computed_case():
    dice = (0.5 + 1 / 3) / 2  # first: 1 - 2 * 0.5 / (1 + 1); second: 1 - 2 * 1 / (1 + 2)
    expected = {"dice": dice, "dice+bce": dice + np.log(2), "bce": np.log(2)}
    for name, value in expected.items():
        assert make_loss(name)(HALF, TARGETS).item() == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(("name", "is_alive"), [("dice", False), ("dice+bce", True)])
def test_only_the_sum_teaches_where_nothing_is_predicted(name, is_alive):
    logits = torch.full((1, 2, 4, 4), -12.0, requires_grad=True)
    make_loss(name)(logits, torch.ones(1, 2, 4, 4)).backward()
    assert (logits.grad.abs().max().item() > 1e-3) == is_alive


@pytest.mark.parametrize("shape", [(5,), (5, 6)])
def test_bce_takes_labels_of_any_shape(shape):
    logits, targets = torch.randn(shape), (torch.rand(shape) > 0.5).float()
    p = logits.sigmoid()
    expected = -(targets * p.log() + (1 - targets) * (1 - p).log()).mean()
    torch.testing.assert_close(make_loss("bce")(logits, targets), expected)


def test_an_unknown_loss_is_refused():
    with pytest.raises(
        TrainingError, match=r"'focal' is not known: choose one of dice, dice\+bce, bce"
    ):
        make_loss("focal")
