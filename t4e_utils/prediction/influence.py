"""Which slices drive a prediction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from t4e_utils.learning.networks import SequenceClassifier
from t4e_utils.prediction.sequences import chunk_probabilities, embed_slices, view_of


@torch.inference_mode()
def occlusion_influence(
    classifier: SequenceClassifier,
    pictures: Sequence[np.ndarray],
    *,
    size: int,
    is_stretched: bool = False,
    views: Sequence[str] = ("zoom_1.2",),
    length: int = 35,
    stride: int = 5,
    batch_size: int = 32,
) -> np.ndarray:
    """Return how much each slice raises the probability of its series.

    With it, minus with a black picture in its place.

    Occlusion after Zeiler and Fergus (2014), with slices for patches; positions do not move. The
    backbone passes each slice once, as an embedding is exchanged for that of the black picture.

    Args:
        classifier: in evaluation mode.
        pictures: K arrays (H, W, 3) uint8.
        size: side of the square.
        is_stretched: stretch to the square; otherwise pad.
        views: test-time views, averaged as in `classify_sequence`.
        length: slices a chunk.
        stride: slices between the starts of chunks.
        batch_size: slices a pass.

    Returns:
        (K,) float64, probabilities; positive where the slice speaks for class 1.
    """
    influence = np.zeros(len(pictures))
    for view in views:
        squares = view_of(pictures, size, is_stretched=is_stretched, view=view)
        embeddings = embed_slices(classifier, squares, batch_size=batch_size)
        whole = chunk_probabilities(classifier, embeddings, length=length, stride=stride).mean()
        for k in range(len(pictures)):
            without = embeddings.clone()
            without[k] = embeddings[-1]
            influence[k] += (
                whole
                - chunk_probabilities(classifier, without, length=length, stride=stride).mean()
            )
    return influence / len(views)
