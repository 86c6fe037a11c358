"""The plan of a training run: settings, which epoch is the best, and what stops a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from t4e_utils.learning import TrainingError

CHOICES = {
    "optimiser": ("adamw", "sgd"),
    "schedule": ("plateau", "cosine", "onecycle", "poly", "constant"),
    "schedule_every": ("step", "epoch"),
    "select": ("loss", "score"),
    "precision": ("auto", "fp32", "bf16", "fp16"),
}


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a run; change them with `dataclasses.replace`."""

    epochs: int = 10  # at most, warm-up included
    learning_rate: float = 1e-4  # the peak of onecycle
    optimiser: str = "adamw"  # or "sgd" with Nesterov momentum
    momentum: float = 0.99  # of sgd
    batch_size: int = 8  # of all processes together, before accumulation
    warmup_epochs: int = 0  # at the start with a frozen encoder; then a new optimiser
    # of the learning rate, after warmup_patience epochs of warm-up without progress
    warmup_factor: float = 0.67
    warmup_patience: int = 3
    # after the warm-up: plateau of the validation loss, cosine, onecycle, poly, constant
    schedule: str = "plateau"
    schedule_every: str = "step"  # or "epoch"; a plateau counts epochs
    poly_power: float = 0.9
    plateau_factor: float = 0.1
    plateau_patience: int = 10
    # epochs without a better one until the run stops, after the warm-up; 0: never
    early_stopping: int = 0
    select: str = "loss"  # what makes an epoch the best: validation loss or score
    weight_decay: float = 0.01
    grad_clip: float = 0.0  # largest norm of the gradient; 0: no limit
    accumulate: int = 1  # batches for a step
    precision: str = "auto"  # bf16 where the GPU has it, else fp16; fp32 on a CPU
    channels_last: bool = False  # memory layout of convolutions
    num_workers: int = -1  # of each loader; -1: as the data set needs
    steps_per_epoch: int = 0  # optimiser steps; 0: each item once
    seed: int = 0

    def __post_init__(self):
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise TrainingError(
                    f"{name} is {getattr(self, name)!r}: choose one of {', '.join(choices)}."
                )
        if min(self.epochs, self.batch_size, self.accumulate, self.steps_per_epoch + 1) < 1:
            raise TrainingError(
                "epochs, batch_size and accumulate are 1 or more, steps_per_epoch 0 or more."
            )
        if not 0 <= self.warmup_epochs < self.epochs:
            raise TrainingError(
                f"warmup_epochs is {self.warmup_epochs}: it is less than epochs, {self.epochs}."
            )


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
        is_best = not self.history or _rank(row, config) > _rank(
            self.history[self.best_epoch - 1], config
        )
        self.history.append(row)
        self.epoch += 1
        self.best_epoch = self.epoch if is_best else self.best_epoch
        self.waited = 0 if is_best or self.epoch <= config.warmup_epochs else self.waited + 1
        is_tired = config.early_stopping > 0 and self.waited >= config.early_stopping
        self.is_finished = is_tired or self.epoch >= config.epochs
        return is_best


def _rank(row: dict[str, Any], config: TrainConfig) -> tuple[float, ...]:
    """Return what sorts epochs from worse to better."""
    if "valid_loss" not in row:
        return (row["epoch"],)
    keys = (
        (row.get("score", np.nan), -row["valid_loss"])
        if config.select == "score"
        else (-row["valid_loss"],)
    )
    return tuple(key if np.isfinite(key) else -np.inf for key in keys)


def check_plan(
    config: TrainConfig,
    *,
    n_train: int,
    has_validation: bool,
    encoder: nn.Module | None,
    starts_from: str,
) -> None:
    """Refuse settings that do not go together, and too little to learn from.

    Raises:
        TrainingError: with what to change.
    """
    if n_train < 2:
        raise TrainingError(
            f"There is {n_train} item to learn from, and a batch needs two: add patients, loosen "
            "the filter of the notebook before, or take a smaller select_share."
        )
    if not has_validation and (
        config.schedule == "plateau" or config.early_stopping or config.select == "score"
    ):
        raise TrainingError(
            "Without validation data there is no plateau, early stopping or score: use another "
            "schedule, early_stopping=0 and select='loss'."
        )
    if config.warmup_epochs and encoder is None:
        raise TrainingError(
            "The warm-up needs to know what to freeze: give encoder, or warmup_epochs=0."
        )
    if config.warmup_epochs and starts_from == "random weights":
        raise TrainingError(
            "The encoder starts from random weights, frozen it would learn nothing: use "
            "warmup_epochs=0 or give weights."
        )


def smaller_batch(config: TrainConfig) -> str:
    """What to say when the memory of the GPU is too small."""
    half = max(config.batch_size // 2, 1)
    return (
        f"The GPU's memory does not hold a batch of {config.batch_size}: try batch_size={half} "
        f"with accumulate={config.accumulate * 2}, which takes the same steps, or smaller inputs."
    )


def require_same_run(stored: dict[str, Any], wanted: dict[str, Any], folder: Path) -> None:
    """Refuse to go on with a run of other settings; how many workers there are changes nothing.

    Raises:
        TrainingError: naming what differs.
    """
    differs = [key for key in wanted if key != "num_workers" and stored.get(key) != wanted[key]]
    if differs:
        what = ", ".join(f"{key} {stored.get(key)} there and {wanted[key]} now" for key in differs)
        raise TrainingError(
            f"{folder} holds another run ({what}): use another folder, or overwrite=True."
        )
