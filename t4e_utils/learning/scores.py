"""Scores of a validation set, as `fit` takes them.

A score is called with what was kept of all items, one row each: outputs, targets and indices. It
returns numbers by name, among them "score", of which more is better and which may be nan. What is
kept of a batch is what its `keep` returns, so that no whole maps pile up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from t4e_utils.metrics.overlap import dice_from_counts
from t4e_utils.metrics.ranking import roc_auc


class Score(Protocol):
    """What `fit` wants of a score."""

    def keep(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Reduce a batch on its device to what the score needs of each item."""

    def __call__(
        self, outputs: np.ndarray, targets: np.ndarray, indices: np.ndarray
    ) -> dict[str, float]:
        """Score all items."""


@dataclass(frozen=True)
class RegionDice:
    """Dice of each region over all validation pixels, and their mean as "score"."""

    regions: Sequence[str]

    def keep(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Count pixels of each region (B, R, H, W): both and predicted (B, R, 2), true (B, R)."""
        predicted, true = logits > 0, targets > 0.5
        both, predicted, true = (x.flatten(2).sum(-1) for x in (predicted & true, predicted, true))
        return torch.stack([both, predicted], -1), true

    def __call__(
        self, overlaps: np.ndarray, true: np.ndarray, indices: np.ndarray
    ) -> dict[str, float]:
        """Return `dice_<region>` and "score" of counts (N, R, 2) and (N, R)."""
        both, predicted = overlaps.astype(np.float64).sum(axis=0).T
        scores = dice_from_counts(both, predicted, true.astype(np.float64).sum(axis=0))
        named = zip(self.regions, scores.tolist(), strict=True)
        return {**{f"dice_{name.lower()}": dice for name, dice in named}, "score": scores.mean()}


@dataclass(frozen=True)
class ChunkScore:
    """AUC over chunks and over patients (mean probability); nan with one class only."""

    patients: np.ndarray  # id of the patient of each chunk, in the order of the data set

    def keep(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Keep logits (B,) and labels (B,) as they are."""
        return logits, targets

    def __call__(
        self, logits: np.ndarray, targets: np.ndarray, indices: np.ndarray
    ) -> dict[str, float]:
        """Return "chunk_auc", "patient_auc", and the latter as "score"."""
        table = pd.DataFrame(
            {
                "patient": self.patients[np.asarray(indices)],
                "probability": torch.as_tensor(logits).double().sigmoid().numpy(),
                "label": np.asarray(targets),
            }
        )
        by_patient = table.groupby("patient")[["probability", "label"]].mean()
        by_chunk, by_patient = (
            roc_auc(each["label"], each["probability"]) for each in (table, by_patient)
        )
        return {"chunk_auc": by_chunk, "patient_auc": by_patient, "score": by_patient}


@dataclass(frozen=True)
class OutputAUC:
    """AUC of each output of a network over all items, and their mean; nan with one class only."""

    outputs: Sequence[str]  # names of the labels, in their order

    def keep(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Keep logits and labels (B, n_outputs) as they are."""
        return logits, targets

    def __call__(
        self, logits: np.ndarray, targets: np.ndarray, indices: np.ndarray
    ) -> dict[str, float]:
        """Return `auc_<output>`, and "score" over the outputs that have both classes."""
        columns = zip(self.outputs, np.transpose(targets), np.transpose(logits), strict=True)
        aucs = {f"auc_{name.lower()}": roc_auc(known, given) for name, known, given in columns}
        defined = [auc for auc in aucs.values() if np.isfinite(auc)]
        return {**aucs, "score": float(np.mean(defined)) if defined else float("nan")}
