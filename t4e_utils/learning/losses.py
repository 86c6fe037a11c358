"""Losses of the segmenter: torch's and segmentation_models_pytorch's, put together."""

from __future__ import annotations

import segmentation_models_pytorch as smp
from torch import Tensor, nn

from t4e_utils import T4EError

SEGMENTATION_LOSSES = ("dice", "dice+bce")


class LossError(T4EError):
    """There is no such loss."""


class SumOfLosses(nn.Module):
    """The sum of several losses."""

    def __init__(self, *losses: nn.Module):
        super().__init__()
        self.losses = nn.ModuleList(losses)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the sum, a scalar."""
        return sum(loss(logits, targets) for loss in self.losses)


def segmentation_loss(name: str) -> nn.Module:
    """Return the loss of logits and targets (B, R, H, W), targets 0 or 1.

    "dice" is the soft Dice loss of each region over all pixels of the batch, averaged over the
    regions. It says little where nothing is predicted: a sigmoid that is almost 0 passes almost no
    gradient on, so a network may learn to see tumour in some contrasts and never in the others.
    "dice+bce" adds the binary cross-entropy, whose gradient is largest there (nnU-Net's loss for
    overlapping regions: Isensee et al., Nature Methods 18, 2021).

    Raises:
        LossError: another name.
    """
    if name not in SEGMENTATION_LOSSES:
        raise LossError(
            f"The loss {name!r} is not known: choose one of {', '.join(SEGMENTATION_LOSSES)}."
        )
    dice = smp.losses.DiceLoss(mode="multilabel", from_logits=True)
    return dice if name == "dice" else SumOfLosses(dice, nn.BCEWithLogitsLoss())
