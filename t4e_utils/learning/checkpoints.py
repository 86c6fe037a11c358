"""The state of a training run on disk.

Written so that a kill at any moment loses at most the epoch at work.

`last.pt` holds everything that the next epoch depends on; the one before it stays as `previous.pt`
in case the last is damaged.
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from t4e_utils.files import atomic_write
from t4e_utils.learning import ModelError, TrainingError
from t4e_utils.learning.plan import Progress
from t4e_utils.learning.weights import first_line, load_torch
from t4e_utils.tables.schema import conform

LAST, PREVIOUS = "last.pt", "previous.pt"
HELD = {"about": Mapping, "progress": Mapping, "model": Mapping, "phase": str}
# while the run goes on
HELD_TO_RESUME = {"optimiser": Mapping, "schedule": object, "scaler": object, "random": Mapping}


class CheckpointError(TrainingError, ModelError):
    """The state of a run cannot be taken up: neither its weights nor the training around them."""


def random_states() -> dict[str, Any]:
    """States of the global random generators of Python, numpy and torch (CPU and GPUs)."""
    kind, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002 the generator that libraries draw from
    version, internal, gauss = random.getstate()
    return {
        "python": [version, list(internal), gauss],
        "numpy": [kind, keys.tolist(), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Undo everything drawn since `random_states`."""
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    np.random.set_state(tuple(states["numpy"]))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if len(states["cuda"]) == torch.cuda.device_count() > 0:
        torch.cuda.set_rng_state_all(states["cuda"])


def write_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Make `state` the last checkpoint, and the last one the previous.

    There is a whole one at any moment.
    """
    with atomic_write(folder / LAST) as temporary:
        # a path would stay open, and keep its room on the disk, after an error
        with temporary.open("wb") as file:
            torch.save(state, file)
        if (folder / LAST).exists():
            os.replace(folder / LAST, folder / PREVIOUS)


def read_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Last state of the run in `folder`, else the previous one; None if there was no run.

    Raises:
        CheckpointError: if there are checkpoints, but none can be read.
    """
    present = [name for name in (LAST, PREVIOUS) if (folder / name).exists()]
    for name in present:
        try:
            return _checked(load_torch(folder / name))
        except Exception as error:  # what a reader raises depends on where the damage lies
            print(
                f"The checkpoint {folder / name} is damaged ({first_line(error)}): going back to "
                "the one before it."
            )
    if present:
        raise CheckpointError(
            f"No checkpoint in {folder} can be read: start the run again with overwrite=True."
        )
    return None


def _checked(state: Any) -> dict[str, Any]:
    """Return the state of a run if it has the parts of one; raise ValueError if not."""
    if not isinstance(state, Mapping):
        raise ValueError("it is no state of a run")
    progress = conform(Progress, state.get("progress"), is_whole=True)
    epochs = [row.get("epoch") for row in progress.history]
    if epochs != [*range(1, progress.epoch + 1)] or progress.best_epoch not in epochs:
        raise ValueError("its history is not that of its epochs")
    held = HELD if progress.is_finished else HELD | HELD_TO_RESUME
    if wrong := [name for name, kind in held.items() if not isinstance(state.get(name), kind)]:
        raise ValueError(f"its {wrong[0]} is missing or of another type")
    return dict(state)


def write_history(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write the rows of the epochs as a table, complete or not at all."""
    with atomic_write(folder / "history.csv") as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)


def remove_run(folder: Path) -> None:
    """Delete what a run wrote into `folder`, and nothing else."""
    for pattern in ("*.pt", ".*.tmp", "best.*", "history.csv", "events/**/events.out.*"):
        for path in folder.glob(pattern):
            path.unlink()
