"""From a series folder to its sequence of 3-channel slices, and on to a probability: one path for training and for the hidden test set.

series -> 8-bit volume (D, H, W) -> masks (2, D, H, W) -> kept slices as pictures (K, H, W, 3) -> chunks -> probability.
Memory is bounded by one series and the few that are read ahead.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn
from tqdm import tqdm

from t4e_utils.annotations import measure_slices
from t4e_utils.catalog import PROGRESS_SECONDS, CatalogError, files_mark
from t4e_utils.inference import classify_sequence, segment_slices
from t4e_utils.models import SequenceClassifier
from t4e_utils.preparation import window_to_uint8
from t4e_utils.problems import Problem, VolumeError
from t4e_utils.runs import is_current, read_table, write_table
from t4e_utils.sampling import select_sequence_slices, write_slice
from t4e_utils.volumes import Volume, read_series

PREDICTION_COLUMNS = ("patient_id", "series", "probability", "n_slices", "n_kept", "n_chunks", "fallback")
READ_AHEAD = 2  # series read while the networks work; bounds the memory
N_TIMED = 3  # patients after which the expected finish is told
TABLE = "slices.parquet"  # beside the pictures of a series
COARSE_MM = 5.0  # at most between the slices of a coarse pass: what is smaller can be overlooked


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
    segmentation_stride: int = 1  # 1: every slice; k: every k-th (COARSE_MM apart at most), then all around those that show tumour
    segmentation_views: Sequence[str] = ("identity",)  # averaged masks, some of inference.TURNS


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


def read_for_segmentation(folder: str | Path, rule: SeriesRule) -> tuple[Volume, np.ndarray]:
    """Read a series and window it to 8 bits.

    Raises:
        VolumeError: no readable series, or one without contrast ("blank").
    """
    volume = read_series(folder, source=rule.source)
    image = window_to_uint8(volume, rule.percentiles)
    if not image.any():
        raise VolumeError("blank", str(folder), "The series has the same value everywhere: there is nothing to see in it.")
    return volume, image


def prepare_series(volume: Volume, image: np.ndarray, segmenter: nn.Module, rule: SeriesRule, *, batch_size: int = 32) -> PreparedSeries:
    """Predict the masks of a series and keep the slices that show the tumour.

    Blank slices are not segmented. If no slice passes the filter, the fallback keeps up to `rule.sequence_length` slices; whatever
    `rule.segmentation_stride` left out is segmented before that.

    Args:
        volume: as read.
        image: (D, H, W) uint8, from `read_for_segmentation`.
        segmenter: in evaluation mode.
        rule: filter and sizes.
        batch_size: slices a pass.
    """
    n_pixels = image.shape[1] * image.shape[2]
    filled = np.flatnonzero((image > 0).sum(axis=(1, 2)) > rule.min_brain_fraction * n_pixels)
    stride = max(1, min(rule.segmentation_stride, int(COARSE_MM // volume.spacing_mm[0])))
    masks, skipped = _segment(image, filled, segmenter, rule, stride=stride, batch_size=batch_size)
    measures, kept, fallback = _select(image, masks, rule)
    if fallback and len(skipped):
        _fill(masks, skipped, image, segmenter, rule, batch_size=batch_size)
        measures, kept, fallback = _select(image, masks, rule)
    pictures = np.stack([image[kept], *(masks[:, kept].astype(np.uint8) * 255)], axis=-1)
    return PreparedSeries(pictures, measures.assign(is_kept=kept), fallback, volume, list(volume.meta.get("problems", ())))


def _segment(
    image: np.ndarray, filled: np.ndarray, segmenter: nn.Module, rule: SeriesRule, *, stride: int, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Masks (2, D, H, W) of the slices that are not blank, and the indices of those that a coarse pass left out."""
    masks = np.zeros((2, *image.shape), bool)
    coarse = np.unique([*range(0, len(filled), stride), max(len(filled) - 1, 0)]) if len(filled) else np.array([], int)
    _fill(masks, filled[coarse], image, segmenter, rule, batch_size=batch_size)
    shows_tumour = masks[0, filled[coarse]].any(axis=(1, 2))
    gaps = zip(coarse[:-1], coarse[1:], shows_tumour[:-1] | shows_tumour[1:], strict=True)
    fine = np.array([index for first, last, is_near in gaps if is_near for index in range(first + 1, last)], int)
    _fill(masks, filled[fine], image, segmenter, rule, batch_size=batch_size)
    return masks, np.delete(filled, [*coarse, *fine])


def _fill(masks: np.ndarray, indices: np.ndarray, image: np.ndarray, segmenter: nn.Module, rule: SeriesRule, *, batch_size: int) -> None:
    masks[:, indices] = segment_slices(
        segmenter,
        image[indices],
        threshold=rule.mask_threshold,
        size=rule.segmenter_size,
        is_stretched=rule.is_stretched,
        zoom=rule.segmentation_zoom,
        views=rule.segmentation_views,
        batch_size=batch_size,
    )


def _select(image: np.ndarray, masks: np.ndarray, rule: SeriesRule) -> tuple[pd.DataFrame, np.ndarray, str]:
    measures = measure_slices(image, masks)
    kept, fallback = select_sequence_slices(
        measures,
        image.shape[1] * image.shape[2],
        min_brain_fraction=rule.min_brain_fraction,
        min_tumour_share=rule.min_tumour_share,
        max_components=rule.max_components,
        sequence_length=rule.sequence_length,
    )
    return measures, kept, fallback


def prepare_all(
    series: pd.DataFrame, segmenter: nn.Module, rule: SeriesRule, *, batch_size: int = 32, num_workers: int = 1
) -> Iterator[tuple[Any, PreparedSeries | Problem]]:
    """Prepare many series, reading the next ones while the segmenter works.

    Args:
        series: a row a series, with the column path.
        segmenter: in evaluation mode.
        rule: as in `prepare_series`.
        batch_size: slices a pass.
        num_workers: threads that read; as many series may wait in memory, at least `READ_AHEAD`.

    Yields:
        The row (named tuple), and the prepared series or the problem that kept it from being read; in the order of the table.
    """
    start = time.perf_counter()
    progress = tqdm(_read_ahead(series, rule, num_workers), total=len(series), desc="series", mininterval=PROGRESS_SECONDS)
    for done, (row, result) in enumerate(progress):
        if done:
            progress.set_postfix_str(f"finish {expected_finish(time.perf_counter() - start, done, len(series)):%H:%M}", refresh=False)
        yield row, (result if isinstance(result, Problem) else prepare_series(*result, segmenter, rule, batch_size=batch_size))


def expected_finish(seconds: float, done: int, total: int) -> datetime:
    """Return the time of day at which `total` will be done, if `done` of them took so many seconds until now."""
    return datetime.now().astimezone() + timedelta(seconds=seconds / done * (total - done))


def time_sentence(seconds: float, done: int, total: int, *, limit_hours: float) -> str:
    """Say when all patients will be done, and what that is of the time allowed.

    >>> time_sentence(30, 3, 87, limit_hours=9).split("; ")[1]
    'that is 0.24 of 9 hours, within the limit.'
    """
    hours = seconds / done * total / 3600
    verdict = "within the limit" if hours <= limit_hours else "too long: take a larger segmentation_stride, fewer views or fewer folds"
    return (
        f"{done} of {total} patients in {seconds:.0f} s: all are expected to be done at {expected_finish(seconds, done, total):%H:%M}; "
        f"that is {hours:.2f} of {limit_hours:g} hours, {verdict}."
    )


def _read_ahead(series: pd.DataFrame, rule: SeriesRule, num_workers: int) -> Iterator[tuple[Any, Any]]:
    def read(path: str) -> tuple[Volume, np.ndarray] | Problem:
        try:
            return read_for_segmentation(path, rule)
        except VolumeError as error:
            return error.as_problem()

    waiting: list[tuple[Any, Future]] = []
    with ThreadPoolExecutor(max(num_workers, 1)) as reader:
        for row in series.itertuples(index=False):
            waiting.append((row, reader.submit(read, row.path)))
            if len(waiting) > max(READ_AHEAD, num_workers):
                first, future = waiting.pop(0)
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()


def write_sequences(
    series: pd.DataFrame,
    segmenter: nn.Module,
    rule: SeriesRule,
    folder: Path,
    *,
    root: Path,
    batch_size: int = 32,
    made_with: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> tuple[pd.DataFrame, list[Problem]]:
    """Prepare many series and write their kept slices to `folder/<patient>/<series>/<slice>.png`, and their tables beside them.

    A call that was interrupted goes on: series without problems whose table is there, from the same files and rule, are not prepared again.

    Args:
        series: patient_id, series, path.
        segmenter: in evaluation mode.
        rule: as in `prepare_series`.
        folder: of the slices.
        root: paths in the rows are relative to it.
        batch_size: slices a pass.
        made_with: what else decides about the slices, such as the segmenter's weights.
        overwrite: prepare every series anew.

    Returns:
        A row for every slice (as `write_sequence`, with patient_id and series), and problems; in the order of the series.

    Raises:
        CatalogError: no series could be read.
    """
    places = [folder / row.patient_id / row.series for row in series.itertuples()]
    notes = [{**asdict(rule), **(made_with or {}), "files": files_mark(path, rule.source)} for path in series["path"]]
    is_there = [not overwrite and is_current(place / TABLE, note) for place, note in zip(places, notes, strict=True)]
    results = iter(prepare_all(series[~np.array(is_there, dtype=bool)], segmenter, rule, batch_size=batch_size))
    tables, problems = [], []
    for place, note, is_written in zip(places, notes, is_there, strict=True):
        if is_written:
            tables.append(read_table(place / TABLE, made_by="04_cls_data"))
            continue
        row, result = next(results)
        if isinstance(result, Problem):
            problems.append(result)
            continue
        problems += result.problems
        tables.append(write_sequence(result, place, root=root).assign(patient_id=row.patient_id, series=row.series))
        if not result.problems:
            write_table(tables[-1], place / TABLE, made_with=note)
    next(results, None)  # so that its progress bar ends
    if not tables:
        raise CatalogError(f"None of {len(series)} series could be read; the first problem: {problems[0].path}: {problems[0].sentence}")
    return pd.concat(tables, ignore_index=True), problems


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


def predict_series(prepared: PreparedSeries, classifiers: Sequence[SequenceClassifier], **options: Any) -> dict[str, Any]:
    """Return what the classifiers of one MRI type say about a series: a row of `PREDICTION_COLUMNS`.

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


def predict_all(
    series: pd.DataFrame,
    segmenter: nn.Module,
    classifiers: Mapping[str, Sequence[SequenceClassifier]],
    rule: SeriesRule,
    *,
    batch_size: int = 32,
    num_workers: int = 1,
    limit_hours: float = 0.0,
    **options: Any,
) -> tuple[pd.DataFrame, list[Problem]]:
    """Predict many patients; only series of MRI types that have a classifier are read.

    After `N_TIMED` patients a line says when all of them will be done.

    Args:
        series: patient_id, series, path.
        segmenter: in evaluation mode.
        classifiers: of each MRI type, one a fold.
        rule: the one that the classifiers were trained with.
        batch_size: slices a pass.
        num_workers: threads that read.
        limit_hours: what the expected finish is compared with; 0: nothing is said.
        **options: size, is_stretched and views of `classify_sequence`.

    Returns:
        `PREDICTION_COLUMNS`, a row for each series that could be read; and problems.
    """
    rows, problems = [], []
    wanted = series[series["series"].isin(classifiers)]
    started, patients = time.perf_counter(), wanted["patient_id"].nunique()
    timed = set()
    for row, result in prepare_all(wanted, segmenter, rule, batch_size=batch_size, num_workers=num_workers):
        if limit_hours and row.patient_id not in timed and len(timed) <= N_TIMED:
            if len(timed) == N_TIMED:
                tqdm.write(time_sentence(time.perf_counter() - started, N_TIMED, patients, limit_hours=limit_hours))
            timed.add(row.patient_id)
        if isinstance(result, Problem):
            problems.append(result)
            continue
        problems += result.problems
        said = predict_series(
            result, classifiers[row.series], length=rule.sequence_length, stride=rule.chunk_stride, batch_size=batch_size, **options
        )
        rows.append({"patient_id": row.patient_id, "series": row.series, **said})
    return pd.DataFrame(rows, columns=list(PREDICTION_COLUMNS)), problems


def time_stages(
    series: pd.DataFrame, segmenter: nn.Module, classifiers: Mapping[str, Sequence[SequenceClassifier]], rule: SeriesRule, **options: Any
) -> dict[str, float]:
    """Return how many seconds reading, segmenting and classifying take, one after the other; `predict_all` reads ahead instead.

    Args:
        series: series, path; those that cannot be read are left out.
        segmenter: in evaluation mode.
        classifiers: of each MRI type.
        rule: as in `predict_all`.
        **options: as in `predict_all`.
    """
    seconds = dict.fromkeys(("read and window", "segment and filter", "classify"), 0.0)
    for row in series[series["series"].isin(classifiers)].itertuples(index=False):
        marks = [time.perf_counter()]
        try:
            volume, image = read_for_segmentation(row.path, rule)
        except VolumeError:
            continue
        marks.append(time.perf_counter())
        prepared = prepare_series(volume, image, segmenter, rule, batch_size=options.get("batch_size", 32))
        marks.append(time.perf_counter())
        predict_series(prepared, classifiers[row.series], length=rule.sequence_length, stride=rule.chunk_stride, **options)
        marks.append(time.perf_counter())
        for name, begin, end in zip(seconds, marks, marks[1:], strict=False):
            seconds[name] += end - begin
    return seconds
