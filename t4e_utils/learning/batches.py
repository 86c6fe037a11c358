"""What happens to a batch: inputs and targets on the device."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from t4e_utils.learning.networks import normalise

Batch = Mapping[str, Tensor]


def prepare_slices(batch: Batch) -> tuple[Tensor, Tensor]:
    """Inputs (B, 3, S, S) and targets (B, 2, S, S) of a batch of a SliceDataset."""
    return normalise(batch["image"]), batch["masks"].float()


def prepare_chunks(batch: Batch) -> tuple[Tensor, Tensor]:
    """Inputs (B, T, 3, S, S) and targets (B,) of a batch of a ChunkDataset."""
    return normalise(batch["images"]), batch["label"]
