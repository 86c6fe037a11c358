"""Steps of a training: the optimiser, the learning rate over time, and a watch on the losses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LRScheduler,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
)

from t4e_utils.learning import TrainingError
from t4e_utils.learning.plan import TrainConfig


def make_optimiser(model: nn.Module, config: TrainConfig) -> Optimizer:
    """Return the optimiser of the weights that are not frozen."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    options = {"lr": config.learning_rate, "weight_decay": config.weight_decay, "fused": True}
    if config.optimiser == "sgd":
        return torch.optim.SGD(weights, momentum=config.momentum, nesterov=True, **options)
    return torch.optim.AdamW(weights, **options)


def make_schedule(
    optimiser: Optimizer, config: TrainConfig, phase: str, *, n_steps: int, has_validation: bool
) -> LRScheduler | None:
    """Return the schedule of the learning rate in a phase.

    Args:
        optimiser: of this phase.
        config: settings.
        phase: `"warm-up"` or `"all"`.
        n_steps: of the schedule in the whole phase `"all"`: optimiser steps, or epochs.
        has_validation: a warm-up without validation data keeps its rate.
    """
    if phase == "warm-up":
        if not has_validation:
            return None
        return ReduceLROnPlateau(
            optimiser, factor=config.warmup_factor, patience=config.warmup_patience
        )
    if config.schedule == "plateau":
        return ReduceLROnPlateau(
            optimiser, factor=config.plateau_factor, patience=config.plateau_patience
        )
    if config.schedule == "cosine":
        return CosineAnnealingLR(optimiser, T_max=n_steps)
    if config.schedule == "onecycle":
        return OneCycleLR(optimiser, max_lr=config.learning_rate, total_steps=n_steps)
    if config.schedule == "poly":
        return PolynomialLR(optimiser, total_iters=n_steps, power=config.poly_power)
    return None


class LossWatch:
    """Losses of an epoch: their mean, and a look now and then for one that is not finite."""

    def __init__(self, epoch: int, folder: Path, *, every: int):
        self.epoch, self.folder, self.every = epoch, folder, every
        self.losses, self.indices, self.n_seen = [], [], 0

    def add(self, loss: Tensor, index: Tensor) -> None:
        """Take in a batch's mean loss."""
        self.losses.append(loss)
        self.indices.append(index)
        if len(self.losses) - self.n_seen >= self.every:
            self.look()

    def look(self) -> None:
        """Raise for the first loss that is not finite since the last look."""
        values = torch.stack(self.losses).tolist()
        for place, loss in enumerate(values[self.n_seen :], start=self.n_seen):
            if not np.isfinite(loss):
                raise TrainingError(
                    f"The loss is {loss} in epoch {self.epoch}, in the batch with the items "
                    f"{self.indices[place].tolist()}: look at these, or lower learning_rate, limit "
                    "grad_clip, or use precision='fp32'. The checkpoint of the epoch before is "
                    f"kept in {self.folder}."
                )
        self.n_seen = len(self.losses)

    def mean(self, accelerator: Any) -> float:
        """Mean over all items, of all processes."""
        self.look()
        sizes = torch.tensor([len(index) for index in self.indices], device=self.losses[0].device)
        sums = torch.stack([(torch.stack(self.losses) * sizes).sum(), sizes.sum()])
        total, n = accelerator.reduce(sums, "sum").tolist()
        return total / n
