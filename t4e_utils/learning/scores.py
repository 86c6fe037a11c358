"""Scores of a validation set, as `fit` asks for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from t4e_utils.metrics.ranking import roc_auc


@dataclass(frozen=True)
class ChunkScore:
    """Score of validation chunks: AUC over chunks and over patients (mean probability).

    NaN with one class only.
    """

    patients: np.ndarray  # id of the patient of each chunk, in the order of the data set

    def __call__(
        self, logits: np.ndarray, targets: np.ndarray, indices: np.ndarray
    ) -> dict[str, float]:
        """Return "chunk_auc", "patient_auc", and the latter as "score"."""
        probability = torch.as_tensor(logits).double().sigmoid().numpy()
        table = pd.DataFrame(
            {
                "patient": self.patients[np.asarray(indices)],
                "probability": probability,
                "label": np.asarray(targets),
            }
        )
        by_patient = table.groupby("patient")[["probability", "label"]].mean()
        patient_auc = roc_auc(by_patient["label"], by_patient["probability"])
        return {
            "chunk_auc": roc_auc(table["label"], table["probability"]),
            "patient_auc": patient_auc,
            "score": patient_auc,
        }


REGION_NAMES = ("WT", "ET")


def segmentation_score(
    overlaps: np.ndarray, true_pixels: np.ndarray, indices: np.ndarray
) -> dict[str, float]:
    """Return the Dice of each region over all validation pixels, and their mean as "score".

    Args:
        overlaps: (N, R, 2) pixels of each slice and region that are both predicted and true, and
            predicted (`training.count_overlap`).
        true_pixels: (N, R).
        indices: rows of the table; not used.
    """
    both, predicted = overlaps.astype(np.float64).sum(axis=0).T
    scores = 2 * both / np.maximum(predicted + true_pixels.astype(np.float64).sum(axis=0), 1)
    return {
        **{
            f"dice_{name.lower()}": float(score)
            for name, score in zip(REGION_NAMES, scores, strict=True)
        },
        "score": float(scores.mean()),
    }


def count_overlap(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels (B, C) predicted and true of each channel, as (both, either) for `fit`'s summarise."""
    predicted, true = logits > 0, targets > 0.5
    both, predicted, true = (x.flatten(2).sum(-1) for x in (predicted & true, predicted, true))
    return torch.stack([both, predicted], -1), true
