"""One training loop for every network here.

Warm-up with a frozen encoder, mixed precision, early stopping, exact resume.

`fit` knows no competition: it is given data sets, a loss, a score, and a function that turns a
batch into inputs and targets. It runs on Accelerate, on what the machine has. A run lives in a
folder of its own: `history.csv` (a row an epoch), `best.safetensors` with its card `best.json`, the
last checkpoint, and TensorBoard events. On the CPU a run that was killed and started again ends
with the same history and weights, bit for bit.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import DataLoaderConfiguration, ProjectConfiguration
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from t4e_utils.learning.batches import Batch
from t4e_utils.learning.checkpoints import (
    PREVIOUS,
    random_states,
    read_checkpoint,
    remove_run,
    restore_random_states,
    write_checkpoint,
    write_history,
)
from t4e_utils.learning.devices import pick_device, resolve_precision, seed_everything
from t4e_utils.learning.loaders import make_loader, set_epoch
from t4e_utils.learning.networks import freeze, unfreeze
from t4e_utils.learning.plan import (
    LossWatch,
    Progress,
    TrainConfig,
    TrainingError,
    check_plan,
    make_schedule,
    require_same_run,
    smaller_batch,
)
from t4e_utils.learning.processes import run_in_processes
from t4e_utils.learning.weights import ModelError, load_weights, read_card, save_weights

BEST = "best.safetensors"
PROGRESS_SECONDS = 10  # between two prints of the progress bar
LOOK_EVERY = 20  # batches between looks at the losses of a GPU: each look makes it wait


@dataclass(frozen=True)
class FitResult:
    """What a run came to; the model given to `fit` holds the best weights."""

    # a row an epoch: epoch, phase, lr, train_loss, valid_loss and what the score returns
    history: pd.DataFrame
    best_epoch: int  # from 1; without validation data the last one
    best_score: float  # of that epoch, nan if there is none
    best_path: Path  # safetensors


def fit(
    model: nn.Module,
    train: Dataset,
    valid: Dataset | None,
    *,
    loss: Callable[[Tensor, Tensor], Tensor],
    prepare: Callable[[Batch], tuple[Tensor, Tensor]],
    config: TrainConfig,
    folder: str | os.PathLike,
    score: Callable[[np.ndarray, np.ndarray, np.ndarray], dict[str, float]] | None = None,
    summarise: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None,
    encoder: nn.Module | None = None,
    num_processes: int = 1,
    overwrite: bool = False,
) -> FitResult:
    """Train `model`, or go on with, or just load, the run in `folder`.

    The model ends with the best epoch's weights.

    Args:
        model: changed in place.
        train: items are dictionaries of tensors with an index.
        valid: the best epoch is chosen on it; None: nothing is chosen, the last epoch's weights are
            kept.
        loss: of logits and targets, mean over the batch.
        prepare: inputs and targets of a batch that is on the device already.
        config: settings.
        folder: of this run alone.
        score: figures of the whole validation set from outputs, targets and indices (a row an
            item); `"score"` among them, higher is better, may be nan.
        summarise: reduces a batch's logits and targets, on the device, to what the score needs of
            each item, so that no whole maps pile up; without it the score gets logits and targets.
        encoder: part of `model` that the warm-up freezes.
        num_processes: of this machine that share each batch, one a GPU; 1 also under `accelerate
            launch`, which starts its own.
        overwrite: train again what is there.

    Raises:
        TrainingError: settings that do not go together, or differ from those of the run in
            `folder`; a loss that is not finite; too little memory.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    check_plan(
        config,
        has_validation=valid is not None,
        encoder=encoder,
        starts_from=getattr(model, "starts_from", ""),
    )
    if num_processes > 1 and (overwrite or not _is_finished(folder)):
        parts = {
            "loss": loss,
            "prepare": prepare,
            "score": score,
            "summarise": summarise,
            "encoder": encoder,
        }
        options = {"config": config, "folder": folder, "overwrite": overwrite}
        run_in_processes(fit, model, train, valid, **parts, **options, num_processes=num_processes)
        overwrite = False  # what they have finished is only loaded below
    run = _Run(model, train, valid, loss, prepare, score, summarise, encoder, config, folder)
    run.resume(overwrite=overwrite)
    try:
        options = {"desc": folder.name, "mininterval": PROGRESS_SECONDS, "disable": not run.is_main}
        with tqdm(total=config.epochs, initial=run.progress.epoch, **options) as bar:
            while not run.progress.is_finished:
                run.enter_phase()
                row = {"train_loss": run.train_epoch(), **run.evaluate()}
                run.close_epoch(row)
                bar.set_postfix_str(
                    " ".join(f"{name} {value:.3f}" for name, value in row.items()), refresh=False
                )
                bar.update()
    except torch.OutOfMemoryError as error:
        raise TrainingError(smaller_batch(config)) from error
    finally:
        run.end()
    return run.result()


class _Run:
    """The parts of a run and what happens to them from epoch to epoch."""

    def __init__(
        self, model, train, valid, loss, prepare, score, summarise, encoder, config, folder
    ):
        self.data, self.has_validation = {"train": train, "valid": valid}, valid is not None
        self.loss, self.prepare, self.score, self.summarise = loss, prepare, score, summarise
        self.model, self.encoder, self.config, self.folder = model, encoder, config, folder
        self.progress, self.phase, self.stored = Progress(), None, None
        self.starts_from = getattr(model, "starts_from", "unknown")
        self.accelerator = _make_accelerator(config, folder)
        self.is_main = self.accelerator.is_main_process
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
            self.model.load_state_dict(state["model"])
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
        model = _unprepare(accelerator, self.model)
        if self.phase is not None:
            accelerator.free_memory()  # the optimiser of the warm-up
        self.phase = phase
        if self.encoder is not None:
            (freeze if phase == "warm-up" else unfreeze)(self.encoder)
        # there is none for the CPU
        if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        optimiser = torch.optim.AdamW(
            weights, lr=config.lr, weight_decay=config.weight_decay, fused=True
        )
        n_batches = -(-len(self.data["train"]) // config.batch_size)
        steps = -(-n_batches // config.accumulate) * (config.epochs - config.warmup_epochs)
        self.schedule = make_schedule(
            optimiser, config, phase, n_steps=steps, has_validation=self.has_validation
        )
        self.model, self.optimiser = accelerator.prepare(model, optimiser)
        self.loaders = {
            name: accelerator.prepare(self.loader(name))
            for name in self.data
            if self.data[name] is not None
        }
        self._restore()

    def loader(self, name: str) -> DataLoader:
        """Loader of the training or validation data, for this process."""
        return make_loader(
            self.data[name],
            batch_size=self.config.batch_size // self.accelerator.num_processes,
            shuffle=name == "train",
            num_workers=self.config.num_workers,
            seed=self.config.seed,
        )

    def _restore(self) -> None:
        """What the checkpoint knows beyond weights, once, where it was written in the same
        phase.
        """
        state, self.stored = self.stored, None
        if state is None:
            return
        if state["phase"] == self.phase:
            self.optimiser.load_state_dict(state["optimiser"])
            if self.schedule is not None:
                self.schedule.load_state_dict(state["schedule"])
        if self.accelerator.scaler is not None and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        restore_random_states(state["random"])

    def train_epoch(self) -> float:
        """One pass over the training data; the mean loss."""
        accelerator, epoch = self.accelerator, self.progress.epoch + 1
        self.lr = self.optimiser.param_groups[0]["lr"]
        watch = LossWatch(
            epoch, self.folder, every=1 if accelerator.device.type == "cpu" else LOOK_EVERY
        )
        set_epoch(self.loaders["train"], epoch)
        self.model.train()
        for batch in self.loaders["train"]:
            with accelerator.accumulate(self.model):
                inputs, targets = self.prepare(batch)
                loss = self.loss(self.model(inputs), targets)
                accelerator.backward(loss)
                self.step()
            watch.add(loss.detach(), batch["index"])
        return watch.mean(accelerator)

    def step(self) -> None:
        """Step the optimiser and a schedule that counts steps, where enough batches are
        accumulated.
        """
        if self.accelerator.sync_gradients and self.config.grad_clip:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.grad_clip)
        self.optimiser.step()
        self.optimiser.zero_grad()
        counts_steps = self.schedule is not None and not isinstance(
            self.schedule, ReduceLROnPlateau
        )
        if (
            counts_steps
            and self.accelerator.sync_gradients
            and not self.accelerator.optimizer_step_was_skipped
        ):
            self.schedule.step()

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Validation loss and score; nothing without validation data."""
        if not self.has_validation:
            return {}
        self.model.eval()
        total, kept = 0.0, []
        for batch in self.loaders["valid"]:
            inputs, targets = self.prepare(batch)
            found = (self.model(inputs), targets, batch["index"])
            logits, targets, index = self.accelerator.gather_for_metrics(found)
            total = total + self.loss(logits, targets) * len(index)
            if self.score is not None:
                outputs = (
                    (logits, targets) if self.summarise is None else self.summarise(logits, targets)
                )
                kept.append(
                    [value.float().cpu().numpy() for value in outputs] + [index.cpu().numpy()]
                )
        loss = float(total) / len(self.data["valid"])
        figures = (
            self.score(*(np.concatenate(part) for part in zip(*kept, strict=True))) if kept else {}
        )
        return {"valid_loss": loss, **{name: float(value) for name, value in figures.items()}}

    def close_epoch(self, row: dict[str, float]) -> None:
        """Schedule, bookkeeping, and everything to disk.

        The results last, as `resume` can write them again.
        """
        row = {"epoch": self.progress.epoch + 1, "phase": self.phase, "lr": self.lr, **row}
        if isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step(row["valid_loss"])
        self.progress.record(row, self.config)
        if self.is_main:
            write_checkpoint(self.folder, self.state())
            write_history(self.folder, self.progress.history)
            self.write_best()
            if self.progress.is_finished:
                (self.folder / PREVIOUS).unlink(missing_ok=True)
        figures = {name: value for name, value in row.items() if isinstance(value, float)}
        self.accelerator.log(figures, step=row["epoch"])
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
            "figures": progress.history[-1],
            "starts_from": self.starts_from,
            "training": self.about(),
        }
        save_weights(self.accelerator.unwrap_model(self.model), self.folder / BEST, card)

    def has_best(self) -> bool:
        """False if the run was killed between a checkpoint and the best weights that belong to
        it.
        """
        try:
            return (self.folder / BEST).exists() and read_card(self.folder / BEST)[
                "epoch"
            ] == self.progress.best_epoch
        except ModelError:
            return False

    def end(self) -> None:
        """Give the model back as it came, and close the events."""
        self.model = _unprepare(self.accelerator, self.model)
        self.accelerator.end_training()
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


def _is_finished(folder: Path) -> bool:
    state = read_checkpoint(folder)
    return state is not None and Progress(**state["progress"]).is_finished


def _make_accelerator(config: TrainConfig, folder: Path) -> Accelerator:
    # one process may train several networks, each in its own precision
    AcceleratorState._reset_state()
    GradientState._reset_state()
    precision = {"fp32": "no"}.get(name := resolve_precision(config.precision, pick_device()), name)
    project = ProjectConfiguration(project_dir=str(folder), logging_dir=str(folder))
    return Accelerator(
        mixed_precision=precision,
        gradient_accumulation_steps=config.accumulate,
        log_with="tensorboard",
        project_config=project,
        step_scheduler_with_optimizer=False,
        dataloader_config=DataLoaderConfiguration(non_blocking=True),
    )


def _unprepare(accelerator: Accelerator, model: nn.Module) -> nn.Module:
    model = accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    model.__dict__.pop("_is_accelerate_prepared", None)
    return model
