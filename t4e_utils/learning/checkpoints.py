"""The state of a training run on disk.

Written so that a kill at any moment loses at most the epoch at work.

`last.pt` holds everything that the next epoch depends on; the one before it stays as `previous.pt`
in case the last is damaged.
"""

from __future__ import annotations

import os
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from t4e_utils.files import atomic_write
from t4e_utils.learning import TrainingError

LAST, PREVIOUS = "last.pt", "previous.pt"


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
        TrainingError: if there are checkpoints, but none can be read.
    """
    present = [name for name in (LAST, PREVIOUS) if (folder / name).exists()]
    for name in present:
        try:
            return torch.load(folder / name, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
            reason = str(error).strip().split("\n")[0][:120] or type(error).__name__
            print(
                f"The checkpoint {folder / name} is damaged ({reason}): going back to the one "
                "before it."
            )
    if present:
        raise TrainingError(
            f"No checkpoint in {folder} can be read: start the run again with overwrite=True."
        )
    return None


def write_history(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write the rows of the epochs as a table, complete or not at all."""
    with atomic_write(folder / "history.csv") as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)


def remove_run(folder: Path) -> None:
    """Delete what a run wrote into `folder`, and nothing else."""
    for pattern in ("*.pt", ".*.tmp", "best.*", "history.csv", "events/**/events.out.*"):
        for path in folder.glob(pattern):
            path.unlink()
