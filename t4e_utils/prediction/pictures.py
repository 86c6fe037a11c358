"""Probabilities of single pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from t4e_utils.learning.devices import predicting
from t4e_utils.prediction.masks import parts_of
from t4e_utils.prediction.tta import squares_of


@dataclass(frozen=True)
class PictureReading:
    """How a classifier is used on single pictures."""

    views: Sequence[str] = ("identity",)  # some of `VIEWS`, averaged as probabilities
    batch_size: int = 8  # pictures per pass; results do not depend on it


def classify_pictures(
    classifier: nn.Module, pictures: Sequence[np.ndarray], reading: PictureReading
) -> np.ndarray:
    """Return the probabilities of N pictures, (N, n_outputs) float64, averaged over views.

    Args:
        classifier: of the kind "image", in evaluation mode.
        pictures: N arrays (H, W, C) uint8; an object that reads each when it is wanted will do.
        reading: views and size of a batch.
    """
    rows = []
    for part in parts_of(len(pictures), reading.batch_size):
        own = [pictures[row] for row in range(len(pictures))[part]]
        per_view = []
        for view in reading.views:
            squares = torch.from_numpy(squares_of(own, classifier.recipe.square, view))
            with predicting(classifier) as device:
                logits = classifier(squares.to(device))
            per_view.append(logits.double().sigmoid().cpu().numpy())
        rows.append(np.mean(per_view, axis=0))
    return np.concatenate(rows) if rows else np.empty((0, classifier.recipe.n_outputs))
