"""One training loop for every network here: warm-up, mixed precision, early stopping, exact resume.

`fit` knows no competition: it is given data sets, a loss and a score. It runs on Accelerate, on
what the machine has. A run lives in a folder of its own: `history.csv` (one row per epoch),
`best.safetensors` with its card `best.json`, the last checkpoint, and TensorBoard events. On the
CPU a run that was killed and started again ends with the same history and weights, bit for bit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from tqdm import tqdm

from t4e_utils import T4EError
from t4e_utils.learning import TrainingError
from t4e_utils.learning.checkpoints import read_checkpoint
from t4e_utils.learning.loaders import sentence_from_worker
from t4e_utils.learning.plan import Progress, TrainConfig, check_plan, smaller_batch
from t4e_utils.learning.processes import run_in_processes
from t4e_utils.learning.scores import Score
from t4e_utils.learning.training_run import FitResult, TrainingRun

BAR_SECONDS = 10  # between two prints of the progress bar
ONE_VALUE = "Expected more than 1 value per channel"  # torch's batch norm


def fit(
    model: nn.Module,
    train: Dataset,
    valid: Dataset | None,
    *,
    loss: Callable[[Tensor, Tensor], Tensor],
    config: TrainConfig,
    folder: str | os.PathLike,
    score: Score | None = None,
    encoder: nn.Module | None = None,
    num_processes: int = 1,
    overwrite: bool = False,
) -> FitResult:
    """Train `model`, or go on with, or just load, the run in `folder`.

    The model ends with the best epoch's weights.

    Args:
        model: changed in place.
        train: items are `{"inputs", "targets", "index"}`; uint8 targets are masks of 0 and 1.
        valid: the best epoch is chosen on it; None: nothing is chosen, the last epoch's weights are
            kept.
        loss: of logits and targets, mean over the batch.
        config: settings.
        folder: of this run alone.
        score: of the whole validation set.
        encoder: part of `model` that the warm-up freezes.
        num_processes: of this machine that share each batch, one per GPU; 1 also under `accelerate
            launch`, which starts its own.
        overwrite: train again what is there.

    Raises:
        TrainingError: fewer than two items; settings that do not go together, or differ from
            those of the run in `folder`; a loss that is not finite; too little memory.
        T4EError: what an item says, such as SamplingError of a damaged picture.
    """
    folder = Path(folder)
    check_plan(
        config,
        n_train=len(train),
        has_validation=valid is not None,
        encoder=encoder,
        starts_from=getattr(model, "starts_from", ""),
    )
    folder.mkdir(parents=True, exist_ok=True)
    if num_processes > 1 and (overwrite or not _is_finished(folder)):
        parts = {"loss": loss, "score": score, "encoder": encoder}
        options = {"config": config, "folder": folder, "overwrite": overwrite}
        run_in_processes(fit, model, train, valid, **parts, **options, num_processes=num_processes)
        overwrite = False  # what they have finished is only loaded below
    run = TrainingRun(model, train, valid, loss, score, encoder, config, folder)
    run.resume(overwrite=overwrite)
    try:
        with _errors_in_words(config):
            _train(run)
    finally:
        run.end()
    return run.result()


def _train(run: TrainingRun) -> None:
    options = {"desc": run.folder.name, "mininterval": BAR_SECONDS, "disable": not run.is_main}
    with tqdm(total=run.config.epochs, initial=run.progress.epoch, **options) as bar:
        while not run.progress.is_finished:
            run.enter_phase()
            row = {"train_loss": run.train_epoch(), **run.evaluate()}
            run.close_epoch(row)
            bar.set_postfix_str(
                " ".join(f"{name} {value:.3f}" for name, value in row.items()), refresh=False
            )
            bar.update()


@contextmanager
def _errors_in_words(config: TrainConfig) -> Iterator[None]:
    """Say in one sentence what ended a training, where a user can help it."""
    try:
        yield
    except T4EError as error:
        if sentence := sentence_from_worker(error):
            raise type(error)(sentence) from error
        raise
    except torch.OutOfMemoryError as error:
        raise TrainingError(smaller_batch(config)) from error
    except ValueError as error:
        if ONE_VALUE not in str(error):
            raise
        raise TrainingError(
            "Batch norm cannot learn from one value per channel: take a batch_size of 2 or more "
            "for each process, or larger inputs."
        ) from error


def _is_finished(folder: Path) -> bool:
    state = read_checkpoint(folder)
    return state is not None and Progress(**state["progress"]).is_finished
