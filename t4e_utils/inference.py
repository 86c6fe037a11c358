"""From a series folder to masks, sequence and probability: one path for training data, held-out patients and the hidden test set.

series -> 8-bit volume (D, H, W) -> masks (2, D, H, W) -> kept slices as 3-channel pictures (K, H, W, 3) -> embeddings (K, E) -> chunks -> patient.
Each slice passes each network once: the embedding of a slice does not depend on its chunk, so chunks are windows over embeddings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from t4e_utils.annotations import measure_slices
from t4e_utils.models import SequenceClassifier, load_model, normalise
from t4e_utils.preparation import window_to_uint8
from t4e_utils.sampling import chunk_bounds, from_square, select_sequence_slices, to_square, write_slice
from t4e_utils.volumes import Problem, Volume, VolumeError, read_series

VIEWS = ("identity", "zoom_1.2", "hflip", "vflip")
READ_AHEAD = 2  # series read while the networks work; bounds the memory


@dataclass(frozen=True)
class SeriesRule:
    """How a series becomes a sequence; every number is a parameter of notebooks 04 and 06."""

    percentiles: Sequence[float] = (0.5, 99.5)  # window of the volume; (0, 100) is its minimum and maximum
    segmenter_size: int = 224  # side of the segmenter's input, pixels
    is_stretched: bool = False  # any slice to the square; otherwise padded to a square first
    segmentation_zoom: float = 1.2  # about the centre, before segmenting
    mask_threshold: float = 0.5  # probability above which a pixel is tumour
    min_brain_fraction: float = 0.1  # of the pixels; other slices are blank
    min_tumour_share: float = 0.025  # predicted whole tumour over brain area, more than this is kept
    max_components: int = 5  # 8-connected pieces of whole tumour, at most
    sequence_length: int = 35  # slices a chunk
    chunk_stride: int = 5  # slices between the starts of chunks
    source: str = "dicom"  # or "jpg", the mirror of the data set as JPEG files


@dataclass(frozen=True)
class PreparedSeries:
    """A series with predicted masks, reduced to the slices worth classifying."""

    pictures: np.ndarray  # (K, H, W, 3) uint8: image, whole tumour, enhancing tumour (0 or 255)
    measures: pd.DataFrame  # a row for each of the D slices, with is_kept
    fallback: str  # "" or what was done because the filter kept nothing
    volume: Volume  # as read
    problems: list[Problem] = field(default_factory=list)

    @property
    def kept(self) -> np.ndarray:
        """Indices of the kept slices in the volume, (K,)."""
        return np.flatnonzero(self.measures["is_kept"].to_numpy())


def device_of(model: nn.Module) -> torch.device:
    """Return the device on which the model's weights lie."""
    return next(model.parameters()).device


def _batches(n: int, batch_size: int) -> Iterator[slice]:
    return (slice(start, min(start + batch_size, n)) for start in range(0, n, batch_size))


@torch.inference_mode()
def region_probabilities(
    segmenter: nn.Module, images: np.ndarray, *, size: int, is_stretched: bool = False, zoom: float = 1.0, batch_size: int = 32
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield the probabilities of the regions in the slices' own grid, a batch at a time.

    Args:
        segmenter: logits (B, R, size, size) from images (B, 3, size, size); in evaluation mode.
        images: (N, H, W) uint8.
        size: side of the square that the segmenter sees.
        is_stretched: stretch to the square; otherwise pad.
        zoom: about the centre, before segmenting; what it cuts off counts as not tumour.
        batch_size: slices a pass.

    Yields:
        Range of slices, and (n, R, H, W) float32 probabilities.
    """
    device = device_of(segmenter)
    for part in _batches(len(images), batch_size):
        squares = torch.from_numpy(to_square(images[part], size, stretch=is_stretched, zoom=zoom)).unsqueeze(1).to(device)
        maps = segmenter(normalise(squares)).sigmoid().float().cpu().numpy()
        n, n_regions = maps.shape[:2]
        flat = from_square(maps.reshape(n * n_regions, size, size), images.shape[1:], stretch=is_stretched, zoom=zoom)
        yield part, flat.reshape(n, n_regions, *images.shape[1:])


def segment_slices(segmenter: nn.Module, images: np.ndarray, *, threshold: float = 0.5, n_regions: int = 2, **options: Any) -> np.ndarray:
    """Return masks (R, N, H, W) bool of slices (N, H, W) uint8; options as in `region_probabilities`."""
    masks = np.zeros((n_regions, *images.shape), bool)
    for part, maps in region_probabilities(segmenter, images, **options):
        masks[:, part] = (maps > threshold).transpose(1, 0, 2, 3)
    return masks


def read_for_segmentation(folder: str | Path, rule: SeriesRule) -> tuple[Volume, np.ndarray]:
    """Read a series and window it to 8 bits.

    Raises:
        VolumeError: no readable series, or one without contrast ("blank").
    """
    volume = read_series(folder, source=rule.source)
    image = window_to_uint8(volume, rule.percentiles)
    if not image.any():
        raise VolumeError("blank", str(folder), f"The series {folder} has the same value everywhere: there is nothing to see in it.")
    return volume, image


def prepare_series(volume: Volume, image: np.ndarray, segmenter: nn.Module, rule: SeriesRule, *, batch_size: int = 32) -> PreparedSeries:
    """Predict the masks of a series and keep the slices that show the tumour.

    Blank slices are not segmented. If no slice passes the filter, the fallback keeps up to `rule.sequence_length` slices.

    Args:
        volume: as read.
        image: (D, H, W) uint8, from `read_for_segmentation`.
        segmenter: in evaluation mode.
        rule: filter and sizes.
        batch_size: slices a pass.
    """
    n_pixels = image.shape[1] * image.shape[2]
    filled = np.flatnonzero((image > 0).sum(axis=(1, 2)) > rule.min_brain_fraction * n_pixels)
    masks = np.zeros((2, *image.shape), bool)
    masks[:, filled] = segment_slices(
        segmenter,
        image[filled],
        threshold=rule.mask_threshold,
        size=rule.segmenter_size,
        is_stretched=rule.is_stretched,
        zoom=rule.segmentation_zoom,
        batch_size=batch_size,
    )
    measures = measure_slices(image, masks)
    kept, fallback = select_sequence_slices(
        measures,
        n_pixels,
        min_brain_fraction=rule.min_brain_fraction,
        min_tumour_share=rule.min_tumour_share,
        max_components=rule.max_components,
        sequence_length=rule.sequence_length,
    )
    pictures = np.stack([image[kept], *(masks[:, kept].astype(np.uint8) * 255)], axis=-1)
    return PreparedSeries(pictures, measures.assign(is_kept=kept), fallback, volume, list(volume.meta.get("problems", ())))


def prepare_all(
    series: pd.DataFrame, segmenter: nn.Module, rule: SeriesRule, *, batch_size: int = 32
) -> Iterator[tuple[Any, PreparedSeries | Problem]]:
    """Prepare many series, reading the next ones while the segmenter works.

    Args:
        series: a row a series, with the column path.
        segmenter: in evaluation mode.
        rule: as in `prepare_series`.
        batch_size: slices a pass.

    Yields:
        The row (named tuple), and the prepared series or the problem that kept it from being read; in the order of the table.
    """
    for row, result in _read_ahead(series, rule):
        yield row, (result if isinstance(result, Problem) else prepare_series(*result, segmenter, rule, batch_size=batch_size))


def _read_ahead(series: pd.DataFrame, rule: SeriesRule) -> Iterator[tuple[Any, Any]]:
    def read(path: str) -> tuple[Volume, np.ndarray] | Problem:
        try:
            return read_for_segmentation(path, rule)
        except VolumeError as error:
            return Problem(error.code, str(error.path), str(error))

    waiting: list[tuple[Any, Future]] = []
    with ThreadPoolExecutor(1) as reader:
        for row in series.itertuples(index=False):
            waiting.append((row, reader.submit(read, row.path)))
            if len(waiting) > READ_AHEAD:
                first, future = waiting.pop(0)
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()


def write_sequence(prepared: PreparedSeries, folder: Path, *, root: Path) -> pd.DataFrame:
    """Write the kept slices of a series as pictures.

    Args:
        prepared: the series.
        folder: pictures go to `folder/<slice>.png`.
        root: paths in the rows are relative to it.

    Returns:
        A row for every slice of the series; `path` is empty and `position` -1 where the slice was not kept.
    """
    paths = np.full(len(prepared.measures), "", dtype=object)
    positions = np.full(len(paths), -1)
    for position, (index, picture) in enumerate(zip(prepared.kept, prepared.pictures, strict=True)):
        path = folder / f"{index:04d}.png"
        write_slice(path, picture[..., 0], picture[..., 1:].transpose(2, 0, 1) > 0)
        paths[index], positions[index] = str(path.relative_to(root)), position
    _, row_mm, column_mm = prepared.volume.spacing_mm
    height, width = prepared.volume.array.shape[1:]
    return prepared.measures.assign(
        path=paths, position=positions, plane=prepared.volume.plane, height=height, width=width,
        row_mm=row_mm, column_mm=column_mm, n_slices=len(paths), fallback=prepared.fallback,
    )  # fmt: skip


def view_of(pictures: Iterable[np.ndarray], size: int, *, is_stretched: bool = False, view: str = "identity") -> np.ndarray:
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
    squares = [to_square(picture[None], size, stretch=is_stretched, zoom=zoom) for picture in pictures]
    channels_first = np.concatenate(squares).transpose(0, 3, 1, 2)
    if view == "hflip":
        channels_first = channels_first[..., ::-1]
    if view == "vflip":
        channels_first = channels_first[..., ::-1, :]
    return np.ascontiguousarray(channels_first)


@torch.inference_mode()
def embed_slices(classifier: SequenceClassifier, squares: np.ndarray, *, batch_size: int = 32) -> torch.Tensor:
    """Return the embeddings (K + 1, E) of K slices (K, 3, S, S) uint8; the last one is that of a black picture, which fills short chunks."""
    device = device_of(classifier)
    filled = np.concatenate([squares, np.zeros((1, *squares.shape[1:]), np.uint8)])
    parts = [classifier.embed(normalise(torch.from_numpy(filled[part]).to(device))) for part in _batches(len(filled), batch_size)]
    return torch.cat(parts)


@torch.inference_mode()
def chunk_probabilities(classifier: SequenceClassifier, embeddings: torch.Tensor, *, length: int = 35, stride: int = 5) -> np.ndarray:
    """Return the probability of each chunk, (C,) float64.

    Args:
        classifier: in evaluation mode.
        embeddings: (K + 1, E), from `embed_slices`.
        length: slices a chunk; a short one is filled with the last embedding.
        stride: slices between the starts of chunks.
    """
    n = len(embeddings) - 1
    windows = [[*range(start, stop), *[n] * (length - (stop - start))] for start, stop in chunk_bounds(n, length=length, stride=stride)]
    logits = classifier.classify(embeddings[torch.tensor(windows, device=embeddings.device)])
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
            embed_slices(classifier, view_of(pictures, size, is_stretched=is_stretched, view=view), batch_size=batch_size),
            length=length,
            stride=stride,
        )
        for view in views
    ]
    return np.mean(per_view, axis=0)


def load_network(weights: Path, *, device: str | torch.device = "cpu") -> nn.Module:
    """Build the network that the card beside the weights describes, and load it for inference."""
    return load_model(weights).to(device).eval()


def predict_series(prepared: PreparedSeries, classifiers: Sequence[SequenceClassifier], **options: Any) -> dict[str, Any]:
    """Return what the classifiers of one MRI type say about a series: a row for `submission.assemble`.

    Args:
        prepared: the series.
        classifiers: one a fold; their probabilities are averaged.
        **options: as in `classify_sequence`.

    Returns:
        probability (mean over folds and chunks), n_slices, n_kept, n_chunks, fallback.
    """
    chunks = np.stack([classify_sequence(classifier, prepared.pictures, **options) for classifier in classifiers])
    return {
        "probability": float(chunks.mean()),
        "n_slices": len(prepared.measures),
        "n_kept": len(prepared.pictures),
        "n_chunks": chunks.shape[1],
        "fallback": prepared.fallback,
    }
