"""The plan of a training run: its settings, the learning rate over time, which epoch is the best, and when to stop."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from t4e_utils import T4EError

CHOICES = {
    "schedule": ("plateau", "cosine", "onecycle", "constant"),
    "select": ("loss", "score"),
    "precision": ("auto", "fp32", "bf16", "fp16"),
}


class TrainingError(T4EError):
    """A run cannot start or go on."""


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a run; change them with `dataclasses.replace`."""

    epochs: int = 10  # at most, warm-up included
    lr: float = 1e-4  # of AdamW; the peak of onecycle
    batch_size: int = 8  # of all processes together, before accumulation
    warmup_epochs: int = 0  # at the start with a frozen encoder; then a new optimiser
    warmup_factor: float = 0.67  # of the learning rate, after warmup_patience epochs of warm-up without progress
    warmup_patience: int = 3
    schedule: str = "plateau"  # after the warm-up: plateau of the validation loss, cosine, onecycle, constant
    plateau_factor: float = 0.1
    plateau_patience: int = 10
    early_stopping: int = 0  # epochs without a better one until the run stops, after the warm-up; 0: never
    select: str = "loss"  # what makes an epoch the best: validation loss or score
    weight_decay: float = 0.01
    grad_clip: float = 0.0  # largest norm of the gradient; 0: no limit
    accumulate: int = 1  # batches for a step
    precision: str = "auto"  # bf16 where the GPU has it, else fp16; fp32 on a CPU
    channels_last: bool = False  # memory layout of convolutions
    num_workers: int | None = None  # of each loader; None: as the data set needs
    seed: int = 0

    def __post_init__(self):
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise TrainingError(f"{name} is {getattr(self, name)!r}: choose one of {', '.join(choices)}.")
        if min(self.epochs, self.batch_size, self.accumulate) < 1:
            raise TrainingError("epochs, batch_size and accumulate are 1 or more.")
        if not 0 <= self.warmup_epochs < self.epochs:
            raise TrainingError(f"warmup_epochs is {self.warmup_epochs}: it is less than epochs, {self.epochs}.")


@dataclass
class Progress:
    """How far a run is, which epoch was the best, and how long ago."""

    epoch: int = 0  # epochs done
    best_epoch: int = 0
    waited: int = 0  # epochs since the best one, not counting warm-up
    is_finished: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)

    def record(self, row: dict[str, Any], config: TrainConfig) -> bool:
        """Take in an epoch's row; true if it is the best so far.

        Equal scores, and epochs without a defined score, are decided by the validation loss.
        """
        is_best = not self.history or _rank(row, config) > _rank(self.history[self.best_epoch - 1], config)
        self.history.append(row)
        self.epoch += 1
        self.best_epoch = self.epoch if is_best else self.best_epoch
        self.waited = 0 if is_best or self.epoch <= config.warmup_epochs else self.waited + 1
        is_tired = config.early_stopping > 0 and self.waited >= config.early_stopping
        self.is_finished = is_tired or self.epoch >= config.epochs
        return is_best


def _rank(row: dict[str, Any], config: TrainConfig) -> tuple[float, ...]:
    """Sorts epochs from worse to better."""
    if "valid_loss" not in row:
        return (row["epoch"],)
    keys = (row.get("score", np.nan), -row["valid_loss"]) if config.select == "score" else (-row["valid_loss"],)
    return tuple(key if np.isfinite(key) else -np.inf for key in keys)


def make_schedule(
    optimiser: Optimizer, config: TrainConfig, phase: str, *, n_steps: int, has_validation: bool
) -> LRScheduler | None:
    """Schedule of the learning rate in a phase; a plateau counts epochs, the others count steps.

    Args:
        optimiser: of this phase.
        config: settings.
        phase: `"warm-up"` or `"all"`.
        n_steps: of the optimiser in the whole phase `"all"`.
        has_validation: a warm-up without validation data keeps its rate.
    """
    if phase == "warm-up":
        if not has_validation:
            return None
        return ReduceLROnPlateau(optimiser, factor=config.warmup_factor, patience=config.warmup_patience)
    if config.schedule == "plateau":
        return ReduceLROnPlateau(optimiser, factor=config.plateau_factor, patience=config.plateau_patience)
    if config.schedule == "cosine":
        return CosineAnnealingLR(optimiser, T_max=n_steps)
    if config.schedule == "onecycle":
        return OneCycleLR(optimiser, max_lr=config.lr, total_steps=n_steps)
    return None


def resolve_precision(precision: str, device: torch.device) -> str:
    """What `"auto"` means on a device: bf16 where the GPU computes in it, else fp16; fp32 on a CPU.

    Raises:
        TrainingError: for fp16 on a CPU.
    """
    if precision == "auto":
        if device.type != "cuda":
            return "fp32"
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if precision == "fp16" and device.type == "cpu":
        raise TrainingError("precision='fp16' needs a GPU: use 'auto', 'bf16' or 'fp32'.")
    return precision
