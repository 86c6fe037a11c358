"""Losses against hand-computed values, and what the second one is for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from t4e_utils.learning.losses import LossError, segmentation_loss

HALF = torch.zeros(1, 2, 1, 2)  # logits of probability 1/2
TARGETS = torch.tensor([[[[1.0, 0.0]], [[1.0, 1.0]]]])  # WT: one of two pixels; ET: both


def test_losses_of_a_hand_computed_case():
    dice = (0.5 + 1 / 3) / 2  # WT: 1 - 2 * 0.5 / (1 + 1); ET: 1 - 2 * 1 / (1 + 2)
    assert segmentation_loss("dice")(HALF, TARGETS).item() == pytest.approx(dice, abs=1e-6)
    assert segmentation_loss("dice+bce")(HALF, TARGETS).item() == pytest.approx(
        dice + np.log(2), abs=1e-6
    )


@pytest.mark.parametrize(("name", "is_alive"), [("dice", False), ("dice+bce", True)])
def test_only_the_sum_teaches_where_nothing_is_predicted(name, is_alive):
    logits = torch.full((1, 2, 4, 4), -12.0, requires_grad=True)
    segmentation_loss(name)(logits, torch.ones(1, 2, 4, 4)).backward()
    assert (logits.grad.abs().max().item() > 1e-3) == is_alive


def test_an_unknown_loss_is_refused():
    with pytest.raises(LossError, match="'focal' is not known: choose one of dice, dice\\+bce"):
        segmentation_loss("focal")
