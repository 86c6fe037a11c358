"""Losses of networks: torch's and segmentation_models_pytorch's, put together."""

from __future__ import annotations

import segmentation_models_pytorch as smp
from torch import Tensor, nn

from t4e_utils.learning import TrainingError

LOSSES = ("dice", "dice+bce", "bce")


class SumOfLosses(nn.Module):
    """The sum of several losses."""

    def __init__(self, *losses: nn.Module):
        super().__init__()
        self.losses = nn.ModuleList(losses)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the sum, a scalar."""
        return sum(loss(logits, targets) for loss in self.losses)


def make_loss(name: str) -> nn.Module:
    """Return the loss of logits and targets of the same shape, targets 0 or 1.

    "dice" is the soft Dice loss of each region over all pixels of the batch, averaged over the
    regions. It says little where nothing is predicted: a sigmoid that is almost 0 passes almost no
    gradient on. So a network may learn to find a region in some series and never in the others.
    "dice+bce" adds the binary cross-entropy, whose gradient is largest there (nnU-Net's loss for
    overlapping regions: Isensee et al., Nature Methods 18, 2021). "bce" is that alone.

    Raises:
        TrainingError: another name.
    """
    if name not in LOSSES:
        raise TrainingError(f"The loss {name!r} is not known: choose one of {', '.join(LOSSES)}.")
    if name == "bce":
        return nn.BCEWithLogitsLoss()
    dice = smp.losses.DiceLoss(mode="multilabel", from_logits=True)
    return dice if name == "dice" else SumOfLosses(dice, nn.BCEWithLogitsLoss())
