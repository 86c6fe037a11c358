"""Which slices drive a prediction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from t4e_utils.learning.networks import SequenceClassifier
from t4e_utils.prediction.sequences import SequenceReading, chunk_probabilities, embed_slices
from t4e_utils.prediction.tta import squares_of


def occlusion_influence(
    classifier: SequenceClassifier, pictures: Sequence[np.ndarray], reading: SequenceReading
) -> np.ndarray:
    """Return how much each slice raises the probability of its series.

    With it, minus with a black picture in its place: occlusion after Zeiler and Fergus (2014), with
    slices for patches. Positions do not move. The backbone passes each slice once, as an embedding
    is exchanged for that of the black picture.

    Args:
        classifier: in evaluation mode.
        pictures: K arrays (H, W, C) uint8.
        reading: as in `classify_sequence`.

    Returns:
        (K,) float64, probabilities; positive where the slice speaks for class 1.
    """
    influence = np.zeros(len(pictures))
    for view in reading.views:
        squares = squares_of(pictures, classifier.recipe.square, view)
        embeddings = embed_slices(classifier, squares, batch_size=reading.batch_size)
        whole = chunk_probabilities(classifier, embeddings, stride=reading.stride).mean()
        for k in range(len(pictures)):
            without = embeddings.clone()
            without[k] = embeddings[-1]
            part = chunk_probabilities(classifier, without, stride=reading.stride).mean()
            influence[k] += whole - part
    return influence / len(reading.views)
