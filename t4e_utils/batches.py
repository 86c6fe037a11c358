"""What happens to a batch: inputs and targets on the device, logits, and what is kept of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader

from t4e_utils.models import normalise
from t4e_utils.training_plan import resolve_precision

Batch = Mapping[str, Tensor]


def seed_everything(seed: int) -> None:
    """Seed the global random generators of Python, numpy and torch."""
    set_seed(seed)


def pick_device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@torch.no_grad()
def predict(
    model: nn.Module,
    loader: DataLoader,
    *,
    prepare: Callable[[Batch], tuple[Tensor, Tensor]],
    device: torch.device | None = None,
    precision: str = "auto",
) -> tuple[np.ndarray, np.ndarray]:
    """Logits (float32) and indices of everything a loader gives, a row an item."""
    device = device or pick_device()
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(
        resolve_precision(precision, device)
    )
    model.to(device).eval()
    logits, indices = [], []
    for batch in loader:
        inputs, _ = prepare(
            {name: value.to(device, non_blocking=True) for name, value in batch.items()}
        )
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            logits.append(model(inputs).float().cpu().numpy())
        indices.append(batch["index"].numpy())
    return np.concatenate(logits), np.concatenate(indices)


def prepare_slices(batch: Batch) -> tuple[Tensor, Tensor]:
    """Inputs (B, 3, S, S) and targets (B, 2, S, S) of a batch of a SliceDataset."""
    return normalise(batch["image"]), batch["masks"].float()


def prepare_chunks(batch: Batch) -> tuple[Tensor, Tensor]:
    """Inputs (B, T, 3, S, S) and targets (B,) of a batch of a ChunkDataset."""
    return normalise(batch["images"]), batch["label"]


def count_overlap(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels (B, C) predicted and true of each channel, as (both, either) for `fit`'s summarise."""
    predicted, true = logits > 0, targets > 0.5
    both, predicted, true = (x.flatten(2).sum(-1) for x in (predicted & true, predicted, true))
    return torch.stack([both, predicted], -1), true
