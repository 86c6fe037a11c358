"""Probabilities of sequences of pictures.

Each picture passes the backbone once: its embedding does not depend on its chunk, so chunks are
windows over embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from t4e_utils.learning.devices import predicting
from t4e_utils.learning.networks import SequenceClassifier
from t4e_utils.prediction.masks import parts_of
from t4e_utils.prediction.tta import squares_of
from t4e_utils.sampling.chunks import chunk_bounds


@dataclass(frozen=True)
class SequenceReading:
    """How a classifier is used on a sequence."""

    stride: int  # slices between the starts of chunks
    views: Sequence[str] = ("identity",)  # some of `VIEWS`, averaged as probabilities
    batch_size: int = 8  # slices per pass; results do not depend on it


def embed_slices(
    classifier: SequenceClassifier, squares: np.ndarray, *, batch_size: int
) -> torch.Tensor:
    """Return the embeddings (K + 1, E) of K slices (K, C, S, S) uint8.

    The last one is that of a black picture, which fills short chunks.
    """
    filled = np.concatenate([squares, np.zeros((1, *squares.shape[1:]), np.uint8)])
    with predicting(classifier) as device:
        parts = [
            classifier.embed(torch.from_numpy(filled[part]).to(device))
            for part in parts_of(len(filled), batch_size)
        ]
        return torch.cat(parts)


@torch.inference_mode()
def chunk_probabilities(
    classifier: SequenceClassifier, embeddings: torch.Tensor, *, stride: int
) -> np.ndarray:
    """Return the probability of each chunk, (C,) float64.

    Args:
        classifier: in evaluation mode.
        embeddings: (K + 1, E), from `embed_slices`; a short chunk is filled with the last one.
        stride: slices between the starts of chunks.
    """
    n, length = len(embeddings) - 1, classifier.sequence_length
    windows = [
        [*range(start, stop), *[n] * (length - (stop - start))]
        for start, stop in chunk_bounds(n, length=length, stride=stride)
    ]
    with torch.autocast(embeddings.device.type, enabled=False):
        chunks = embeddings.float()[torch.tensor(windows, device=embeddings.device)]
        logits = classifier.classify(chunks)
    return logits.double().sigmoid().cpu().numpy()


def classify_sequence(
    classifier: SequenceClassifier, pictures: Sequence[np.ndarray], reading: SequenceReading
) -> np.ndarray:
    """Return the probability of each chunk of a series, (C,), averaged over views.

    Args:
        classifier: in evaluation mode.
        pictures: K arrays (H, W, C) uint8.
        reading: views, stride and size of a batch.
    """
    per_view = []
    for view in reading.views:
        squares = squares_of(pictures, classifier.recipe.square, view)
        embeddings = embed_slices(classifier, squares, batch_size=reading.batch_size)
        per_view.append(chunk_probabilities(classifier, embeddings, stride=reading.stride))
    return np.mean(per_view, axis=0)
