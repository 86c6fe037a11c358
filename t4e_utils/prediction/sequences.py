"""Probabilities of sequences of slices.

Each slice passes the backbone once: the embedding of a slice does not depend on its chunk, so
chunks are windows over embeddings.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from t4e_utils.learning.devices import device_of
from t4e_utils.learning.networks import SequenceClassifier, normalise
from t4e_utils.prediction.masks import parts_of
from t4e_utils.prediction.tta import turn
from t4e_utils.sampling.chunks import chunk_bounds
from t4e_utils.sampling.squares import to_square


def view_of(
    pictures: Iterable[np.ndarray], size: int, *, is_stretched: bool = False, view: str = "identity"
) -> np.ndarray:
    """Return one test-time view of pictures as the classifier sees it.

    Args:
        pictures: K arrays (H, W, 3) uint8.
        size: side of the square.
        is_stretched: stretch to the square; otherwise pad.
        view: one of `VIEWS`.

    Returns:
        (K, 3, size, size) uint8.
    """
    zoom = 1.2 if view == "zoom_1.2" else 1.0
    squares = [
        to_square(picture[None], size, stretch=is_stretched, zoom=zoom) for picture in pictures
    ]
    return np.ascontiguousarray(turn(np.concatenate(squares), view).transpose(0, 3, 1, 2))


@torch.inference_mode()
def embed_slices(
    classifier: SequenceClassifier, squares: np.ndarray, *, batch_size: int = 32
) -> torch.Tensor:
    """Return the embeddings (K + 1, E) of K slices (K, 3, S, S) uint8.

    The last one is that of a black picture, which fills short chunks.
    """
    device = device_of(classifier)
    filled = np.concatenate([squares, np.zeros((1, *squares.shape[1:]), np.uint8)])
    parts = [
        classifier.embed(normalise(torch.from_numpy(filled[part]).to(device)))
        for part in parts_of(len(filled), batch_size)
    ]
    return torch.cat(parts)


@torch.inference_mode()
def chunk_probabilities(
    classifier: SequenceClassifier, embeddings: torch.Tensor, *, length: int = 35, stride: int = 5
) -> np.ndarray:
    """Return the probability of each chunk, (C,) float64.

    Args:
        classifier: in evaluation mode.
        embeddings: (K + 1, E), from `embed_slices`.
        length: slices a chunk; a short one is filled with the last embedding.
        stride: slices between the starts of chunks.
    """
    n = len(embeddings) - 1
    windows = [
        [*range(start, stop), *[n] * (length - (stop - start))]
        for start, stop in chunk_bounds(n, length=length, stride=stride)
    ]
    with torch.autocast(embeddings.device.type, enabled=False):
        logits = classifier.classify(
            embeddings.float()[torch.tensor(windows, device=embeddings.device)]
        )
    return logits.double().sigmoid().cpu().numpy()


def classify_sequence(
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
    """Return the probability of each chunk of a series, (C,), averaged over test-time views."""
    per_view = [
        chunk_probabilities(
            classifier,
            embed_slices(
                classifier,
                view_of(pictures, size, is_stretched=is_stretched, view=view),
                batch_size=batch_size,
            ),
            length=length,
            stride=stride,
        )
        for view in views
    ]
    return np.mean(per_view, axis=0)
