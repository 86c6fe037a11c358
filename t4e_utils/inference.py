"""Trained networks over slices.

Masks of a series, embeddings, chunk probabilities, test-time views.

Slices are (N, H, W) uint8 of any size; what the networks see is a square. Each slice passes each
network once: the embedding of a slice does not depend on its chunk, so chunks are windows over
embeddings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from t4e_utils.models import SequenceClassifier, load_model, normalise
from t4e_utils.sampling import chunk_bounds, from_square, to_square
from t4e_utils.training_plan import resolve_precision

# degrees, counter-clockwise; within the 45 of the augmentation
ROTATIONS = {"rotate_10": 10.0, "rotate_-10": -10.0}
TURNS = ("identity", "hflip", "vflip", *ROTATIONS)  # what a mask can be turned back from
VIEWS = (*TURNS, "zoom_1.2")
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def load_network(weights: Path, *, device: str | torch.device = "cpu") -> nn.Module:
    """Build the network that the card beside the weights describes, and load it for inference.

    Its convolutions get the channels-last layout, in which they run about 1.5 times as fast on a
    CPU.
    """
    return load_model(weights).to(device, memory_format=torch.channels_last).eval()


def device_of(model: nn.Module) -> torch.device:
    """Return the device on which the model's weights lie."""
    return next(model.parameters()).device


def slices_a_pass(device: torch.device) -> int:
    """Return how many slices to pass at once.

    Few on a CPU, where the full networks then stay below 4 GB; results do not depend on it.
    """
    return 8 if device.type == "cpu" else 64


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context in which the networks compute with a precision; "auto" is as in training.

    Only convolutions and the like take part: the LSTM and everything after it stay in fp32.

    Raises:
        TrainingError: fp16 on a CPU.
    """
    precision = resolve_precision(precision, device)
    dtype = PRECISIONS[precision] if precision != "fp32" else None
    return torch.autocast(device.type, dtype=dtype, enabled=precision != "fp32")


def turn(squares: np.ndarray, view: str) -> np.ndarray:
    """Turn squares (N, S, S) or (N, S, S, C) as a view says; "zoom_1.2" turns nothing."""
    if view == "hflip":
        return squares[:, :, ::-1]
    if view == "vflip":
        return squares[:, ::-1]
    return _rotate(squares, ROTATIONS[view]) if view in ROTATIONS else squares


def turn_back(squares: np.ndarray, view: str) -> np.ndarray:
    """Undo `turn`: exactly for flips, up to interpolation for rotations.

    What a rotation moved out stays 0.
    """
    return _rotate(squares, -ROTATIONS[view]) if view in ROTATIONS else turn(squares, view)


def _rotate(squares: np.ndarray, degrees: float) -> np.ndarray:
    side = squares.shape[1]
    matrix = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), degrees, 1.0)
    return np.stack(
        [cv2.warpAffine(square, matrix, (side, side)).reshape(square.shape) for square in squares]
    )


def _batches(n: int, batch_size: int) -> Iterator[slice]:
    return (slice(start, min(start + batch_size, n)) for start in range(0, n, batch_size))


@torch.inference_mode()
def region_probabilities(
    segmenter: nn.Module,
    images: np.ndarray,
    *,
    size: int,
    is_stretched: bool = False,
    zoom: float = 1.0,
    views: Sequence[str] = ("identity",),
    batch_size: int = 32,
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield the probabilities of the regions in the slices' own grid, a batch at a time.

    Args:
        segmenter: logits (B, R, size, size) from images (B, 3, size, size); in evaluation mode.
        images: (N, H, W) uint8.
        size: side of the square that the segmenter sees.
        is_stretched: stretch to the square; otherwise pad.
        zoom: about the centre, before segmenting; what it cuts off counts as not tumour.
        views: some of `TURNS`; the maps are turned back and averaged.
        batch_size: slices a pass.

    Yields:
        Range of slices, and (n, R, H, W) float32 probabilities.
    """
    device = device_of(segmenter)
    for part in _batches(len(images), batch_size):
        squares = to_square(images[part], size, stretch=is_stretched, zoom=zoom)
        maps = np.mean(
            [turn_back(_maps(segmenter, turn(squares, view), device), view) for view in views],
            axis=0,
        ).transpose(0, 3, 1, 2)
        n, n_regions = maps.shape[:2]
        flat = from_square(
            maps.reshape(n * n_regions, size, size),
            images.shape[1:],
            stretch=is_stretched,
            zoom=zoom,
        )
        yield part, flat.reshape(n, n_regions, *images.shape[1:])


def _maps(segmenter: nn.Module, squares: np.ndarray, device: torch.device) -> np.ndarray:
    """Probabilities (N, S, S, R) of squares (N, S, S) uint8."""
    images = torch.from_numpy(np.ascontiguousarray(squares)).unsqueeze(1).to(device)
    return segmenter(normalise(images)).float().sigmoid().permute(0, 2, 3, 1).cpu().numpy()


def segment_slices(
    segmenter: nn.Module,
    images: np.ndarray,
    *,
    threshold: float = 0.5,
    n_regions: int = 2,
    **options: Any,
) -> np.ndarray:
    """Return masks (R, N, H, W) bool of slices (N, H, W) uint8.

    Options as in `region_probabilities`.
    """
    masks = np.zeros((n_regions, *images.shape), bool)
    for part, maps in region_probabilities(segmenter, images, **options):
        masks[:, part] = (maps > threshold).transpose(1, 0, 2, 3)
    return masks


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
        for part in _batches(len(filled), batch_size)
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
