"""The parts of a training run and what happens to them from epoch to epoch, see `fit`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader

from t4e_utils.learning import ModelError, TrainingError
from t4e_utils.learning.acceleration import make_accelerator, unprepare
from t4e_utils.learning.checkpoints import (
    LAST,
    PREVIOUS,
    CheckpointError,
    random_states,
    read_checkpoint,
    remove_run,
    restore_random_states,
    write_checkpoint,
    write_history,
)
from t4e_utils.learning.devices import seed_everything
from t4e_utils.learning.loaders import make_loader, n_batches, set_epoch
from t4e_utils.learning.optimisation import LossWatch, make_optimiser, make_schedule
from t4e_utils.learning.plan import Progress, require_same_run
from t4e_utils.learning.weights import (
    first_line,
    load_strictly,
    load_weights,
    read_card,
    save_weights,
)

BEST = "best.safetensors"
LOOK_EVERY = 20  # batches between looks at the losses of a GPU: each look makes it wait


@dataclass(frozen=True)
class FitResult:
    """What a run came to; the model given to `fit` holds the best weights."""

    # one row per epoch: epoch, phase, lr, train_loss, valid_loss and what the score returns
    history: pd.DataFrame
    best_epoch: int  # from 1; without validation data the last one
    best_score: float  # of that epoch, nan if there is none
    best_path: Path  # safetensors


def _parts(batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Inputs and targets of a batch; masks become numbers that a loss can take."""
    targets = batch["targets"]
    return batch["inputs"], targets.float() if targets.dtype == torch.uint8 else targets


class TrainingRun:
    """The parts of a run and what happens to them from epoch to epoch."""

    def __init__(self, model, train, valid, loss, score, encoder, config, folder):
        self.data, self.has_validation = {"train": train, "valid": valid}, valid is not None
        self.loss, self.score = loss, score
        self.model, self.encoder, self.config, self.folder = model, encoder, config, folder
        self.progress, self.phase, self.stored = Progress(), None, None
        self.starts_from = getattr(model, "starts_from", "unknown")
        self.accelerator = make_accelerator(config, folder)
        self.is_main = self.accelerator.is_main_process
        # several processes fill their last batches up, see accelerate's `even_batches`
        self.drops_single = self.accelerator.num_processes == 1
        if config.batch_size % self.accelerator.num_processes:
            raise TrainingError(
                f"The batch size {config.batch_size} cannot be shared by "
                f"{self.accelerator.num_processes} processes: make it a multiple."
            )
        if config.channels_last:
            model.to(memory_format=torch.channels_last)

    def resume(self, *, overwrite: bool) -> None:
        """Take up the run in the folder, or start one."""
        if overwrite and self.is_main:
            remove_run(self.folder)
        self.accelerator.wait_for_everyone()
        seed_everything(self.config.seed)
        state = read_checkpoint(self.folder)
        if state is not None:
            require_same_run(state["about"], self.about(), self.folder)
            self.progress = Progress(**state["progress"])
            load_strictly(self.model, state["model"], self.folder / LAST)
            self.stored = state
            if self.is_main:
                write_history(self.folder, self.progress.history)
                if not self.has_best():
                    self.write_best()
        if not self.progress.is_finished:
            events = {"purge_step": self.progress.epoch + 1}
            self.accelerator.init_trackers("events", init_kwargs={"tensorboard": events})

    def about(self) -> dict[str, Any]:
        """What must not change in the middle of a run."""
        sizes = {f"n_{name}": 0 if data is None else len(data) for name, data in self.data.items()}
        return {**asdict(self.config), **sizes}

    def enter_phase(self) -> None:
        """At the start, and after the warm-up: freeze or not, a new optimiser and schedule."""
        phase = "warm-up" if self.progress.epoch < self.config.warmup_epochs else "all"
        if phase == self.phase:
            return
        accelerator, config = self.accelerator, self.config
        model = unprepare(accelerator, self.model)
        if self.phase is not None:
            accelerator.free_memory()  # the optimiser of the warm-up
        self.phase = phase
        if self.encoder is not None:
            self.encoder.requires_grad_(phase != "warm-up")
        # there is none for the CPU
        if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        optimiser = make_optimiser(model, config)
        self.schedule = make_schedule(
            optimiser, config, phase, n_steps=self._n_steps(), has_validation=self.has_validation
        )
        self.model, self.optimiser = accelerator.prepare(model, optimiser)
        self.loaders = {
            name: accelerator.prepare(self.loader(name))
            for name in self.data
            if self.data[name] is not None
        }
        self._restore()

    def _n_steps(self) -> int:
        """Steps of the schedule after the warm-up."""
        epochs = self.config.epochs - self.config.warmup_epochs
        if self.config.schedule_every == "epoch":
            return epochs
        n_items, size = len(self.data["train"]), self.config.batch_size
        batches = n_batches(n_items, size, drop_single=self.drops_single)
        per_epoch = self.config.steps_per_epoch or -(-batches // self.config.accumulate)
        return per_epoch * epochs

    def loader(self, name: str) -> DataLoader:
        """Loader of the training or validation data, for this process."""
        config, is_training = self.config, name == "train"
        n_items = config.steps_per_epoch * config.accumulate * config.batch_size
        return make_loader(
            self.data[name],
            batch_size=config.batch_size // self.accelerator.num_processes,
            shuffle=is_training,
            num_workers=config.num_workers,
            seed=config.seed,
            n_items=n_items if is_training else 0,
            drop_single=is_training and self.drops_single,
        )

    def _restore(self) -> None:
        """Take what the checkpoint knows beyond weights, once, if it is of the same phase.

        Raises:
            CheckpointError: it does not fit.
        """
        state, self.stored = self.stored, None
        if state is None:
            return
        try:
            if state["phase"] == self.phase:
                self.optimiser.load_state_dict(state["optimiser"])
                if self.schedule is not None:
                    self.schedule.load_state_dict(state["schedule"])
            if self.accelerator.scaler is not None and state["scaler"]:
                self.accelerator.scaler.load_state_dict(state["scaler"])
            restore_random_states(state["random"])
        except Exception as error:  # what a library raises depends on where the damage lies
            raise CheckpointError(
                f"The checkpoint in {self.folder} does not fit ({first_line(error)}): start the "
                "run again with overwrite=True."
            ) from error

    def train_epoch(self) -> float:
        """One pass over the training data; the mean loss."""
        accelerator, epoch = self.accelerator, self.progress.epoch + 1
        self.lr = self.optimiser.param_groups[0]["lr"]
        watch = LossWatch(
            epoch, self.folder, every=1 if accelerator.device.type == "cpu" else LOOK_EVERY
        )
        set_epoch(self.loaders["train"], epoch)
        self.model.train()
        if self.phase == "warm-up" and self.encoder is not None:
            self.encoder.eval()  # batch norm uses, and does not change, its running statistics
        for batch in self.loaders["train"]:
            with accelerator.accumulate(self.model):
                inputs, targets = _parts(batch)
                loss = self.loss(self.model(inputs), targets)
                accelerator.backward(loss)
                self.step()
            watch.add(loss.detach(), batch["index"])
        return watch.mean(accelerator)

    def step(self) -> None:
        """Step the optimiser, and a schedule of steps, where enough batches are accumulated."""
        accelerator = self.accelerator
        if accelerator.sync_gradients and self.config.grad_clip:
            accelerator.clip_grad_norm_(self.model.parameters(), self.config.grad_clip)
        self.optimiser.step()
        self.optimiser.zero_grad()
        is_counted = accelerator.sync_gradients and not accelerator.optimizer_step_was_skipped
        if self._follows("step") and is_counted:
            self.schedule.step()

    def _follows(self, what: str) -> bool:
        """Whether the schedule goes on with each "step" or "epoch"."""
        is_plateau = isinstance(self.schedule, ReduceLROnPlateau)
        return self.schedule is not None and not is_plateau and self.config.schedule_every == what

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Validation loss and score; nothing without validation data."""
        if not self.has_validation:
            return {}
        self.model.eval()
        total, kept = 0.0, []
        for batch in self.loaders["valid"]:
            inputs, targets = _parts(batch)
            found = (self.model(inputs), targets, batch["index"])
            logits, targets, index = self.accelerator.gather_for_metrics(found)
            total = total + self.loss(logits, targets) * len(index)
            if self.score is not None:
                outputs = self.score.keep(logits, targets)
                kept.append(
                    [*(each.float().cpu().numpy() for each in outputs), index.cpu().numpy()]
                )
        loss = float(total) / len(self.data["valid"])
        parts = [np.concatenate(part) for part in zip(*kept, strict=True)]
        scores = self.score(*parts) if parts else {}
        return {"valid_loss": loss, **{name: float(value) for name, value in scores.items()}}

    def close_epoch(self, row: dict[str, float]) -> None:
        """Schedule, bookkeeping, and everything to disk.

        The results last, as `resume` can write them again.
        """
        row = {"epoch": self.progress.epoch + 1, "phase": self.phase, "lr": self.lr, **row}
        if isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step(row["valid_loss"])
        elif self._follows("epoch") and self.phase == "all":
            self.schedule.step()
        self.progress.record(row, self.config)
        if self.is_main:
            write_checkpoint(self.folder, self.state())
            write_history(self.folder, self.progress.history)
            self.write_best()
            if self.progress.is_finished:
                (self.folder / PREVIOUS).unlink(missing_ok=True)
        scores = {name: value for name, value in row.items() if isinstance(value, float)}
        self.accelerator.log(scores, step=row["epoch"])
        self.accelerator.wait_for_everyone()

    def state(self) -> dict[str, Any]:
        """All that the next epoch depends on; of a finished run only what may be read again."""
        state = {"about": self.about(), "progress": asdict(self.progress), "phase": self.phase}
        state["model"] = self.accelerator.get_state_dict(self.model)
        if not self.progress.is_finished:
            state["optimiser"] = self.optimiser.state_dict()
            state["schedule"] = None if self.schedule is None else self.schedule.state_dict()
            state["scaler"] = (
                None if self.accelerator.scaler is None else self.accelerator.scaler.state_dict()
            )
            state["random"] = random_states()
        return state

    def write_best(self) -> None:
        """Weights of now with a card, if this epoch is the best.

        Where nobody chooses, only at the end.
        """
        progress = self.progress
        if progress.best_epoch < progress.epoch or not (
            self.has_validation or progress.is_finished
        ):
            return
        card = {
            "epoch": progress.best_epoch,
            "chosen_by": f"validation {self.config.select}"
            if self.has_validation
            else "nobody: the last epoch",
            "scores": progress.history[-1],
            "starts_from": self.starts_from,
            "training": self.about(),
        }
        save_weights(self.accelerator.unwrap_model(self.model), self.folder / BEST, card)

    def has_best(self) -> bool:
        """Return whether the best weights are there: a kill may come before them."""
        path = self.folder / BEST
        try:
            return path.exists() and read_card(path).get("epoch") == self.progress.best_epoch
        except ModelError:
            return False

    def end(self) -> None:
        """Give the model back as it came, and close the events; the processes stay a group."""
        self.model = unprepare(self.accelerator, self.model)
        for tracker in self.accelerator.trackers:
            tracker.finish()
        self.loaders, self.optimiser = {}, None
        if self.accelerator.device.type == "cuda":
            self.accelerator.free_memory()

    def result(self) -> FitResult:
        """Load the best weights into the model and tell how it went."""
        path = self.folder / BEST
        load_weights(self.model, path)
        history, best_epoch = self.progress.history, self.progress.best_epoch
        return FitResult(
            pd.DataFrame(history), best_epoch, history[best_epoch - 1].get("score", np.nan), path
        )
