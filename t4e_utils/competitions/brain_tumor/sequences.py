"""From a series folder to its sequence of 3-channel slices.

One path for training and for the hidden test set.

series -> 8-bit volume (D, H, W) -> masks (2, D, H, W) -> kept slices as pictures (K, H, W, 3), of
which `prediction` makes a probability. Where series vote on the masks, those of a patient are
prepared together. Memory is bounded by one series, or the series of one patient, and the few that
are read ahead.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn
from tqdm import tqdm

from t4e_utils import T4EError
from t4e_utils.annotations.regions import largest_component, measure_slices
from t4e_utils.competitions.brain_tumor.rules import select_sequence_slices
from t4e_utils.learning.devices import device_of
from t4e_utils.prediction.fusion import fuse_maps
from t4e_utils.prediction.masks import region_probabilities, segment_slices
from t4e_utils.progress import PROGRESS_SECONDS, expected_finish
from t4e_utils.sampling.pictures import write_slice
from t4e_utils.scans.intensity import window_to_uint8
from t4e_utils.scans.problems import Problem, VolumeError
from t4e_utils.scans.reading import read_series
from t4e_utils.scans.volume import Volume
from t4e_utils.tables.catalog import CatalogError
from t4e_utils.tables.inventory import files_fingerprint
from t4e_utils.tables.store import is_current, read_table, write_table

READ_AHEAD = 2  # series read while the networks work; bounds the memory
TABLE = "slices.parquet"  # beside the pictures of a series
COARSE_MM = 5.0  # at most between the slices of a coarse pass: what is smaller can be overlooked
REGIONS = ("WT", "ET")
# where slices lie is then a guess
UNPLACED = {
    "gap",
    "mosaic",
    "no_orientation",
    "no_positions",
    "no_spacing",
    "same_position",
    "uneven_spacing",
}


class SequenceError(T4EError):
    """Series cannot become sequences by this rule."""


@dataclass(frozen=True)
class SeriesRule:
    """How a series becomes a sequence; every number is a parameter of notebooks 04 and 06."""

    # window of the volume; (0, 100) is its minimum and maximum
    percentiles: Sequence[float] = (0.5, 99.5)
    segmenter_size: int = 224  # side of the segmenter's input, pixels
    is_stretched: bool = False  # any slice to the square; otherwise padded to a square first
    segmentation_zoom: float = 1.2  # about the centre, before segmenting
    mask_threshold: float = 0.5  # probability above which a pixel is tumour
    min_brain_fraction: float = 0.1  # of the pixels; other slices are blank
    # predicted whole tumour over brain area, more than this is kept
    min_tumour_share: float = 0.025
    max_components: int = 5  # 8-connected pieces of whole tumour, at most
    sequence_length: int = 35  # slices a chunk
    chunk_stride: int = 5  # slices between the starts of chunks
    source: str = "dicom"  # or "jpg", the mirror of the data set as JPEG files
    # 1: every slice; k: every k-th (COARSE_MM apart at most), then all around those that show
    # tumour
    segmentation_stride: int = 1
    segmentation_views: Sequence[str] = (
        "identity",
    )  # averaged masks, some of inference.MASK_VIEWS
    # For "WT" and "ET", what each series of a patient says counts so much in the masks of all of
    # them, see `fusion`; {}: each draws its own.
    series_weights: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __post_init__(self):
        weights = [
            weight
            for region in self.series_weights.values()
            for weight in (region.values() if isinstance(region, Mapping) else [None])
        ]
        if set(self.series_weights) - set(REGIONS) or not all(
            isinstance(weight, (int, float)) and weight > 0 for weight in weights
        ):
            raise SequenceError(
                f"series_weights is {self.series_weights}: give weights above 0 by series for "
                f"{' and '.join(REGIONS)}, such as "
                '{"WT": {"FLAIR": 3, "T2w": 1}, "ET": {"T1wCE": 1}}; series that are not named '
                "have no say, {} lets each draw its own mask."
            )
        if self.series_weights and self.segmentation_stride > 1:
            raise SequenceError(
                f"segmentation_stride is {self.segmentation_stride}, but series_weights lets "
                "the series of a patient vote, and that takes every slice: "
                "give segmentation_stride 1, or prepare the training data with series_weights {}."
            )

    @property
    def voters(self) -> set[str]:
        """The series whose maps are asked for a mask of any series."""
        return {name for region in self.series_weights.values() for name in region}


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
        raise VolumeError(
            "blank",
            str(folder),
            "The series has the same value everywhere: there is nothing to see in it.",
        )
    return volume, image


def prepare_series(
    volume: Volume,
    image: np.ndarray,
    segmenter: nn.Module,
    rule: SeriesRule,
    *,
    batch_size: int = 32,
) -> PreparedSeries:
    """Predict the masks of a series and keep the slices that show the tumour.

    Blank slices are not segmented. If no slice passes the filter, the fallback keeps up to
    `rule.sequence_length` slices; whatever `rule.segmentation_stride` left out is segmented before
    that.

    Args:
        volume: as read.
        image: (D, H, W) uint8, from `read_for_segmentation`.
        segmenter: in evaluation mode.
        rule: filter and sizes.
        batch_size: slices a pass.
    """
    filled = _filled(image, rule)
    stride = max(1, min(rule.segmentation_stride, int(COARSE_MM // volume.spacing_mm[0])))
    masks, skipped = _segment(image, filled, segmenter, rule, stride=stride, batch_size=batch_size)
    measures, kept, fallback = _select(image, masks, rule)
    if fallback and len(skipped):
        _fill(masks, skipped, image, segmenter, rule, batch_size=batch_size)
        measures, kept, fallback = _select(image, masks, rule)
    return _prepared(volume, image, masks, measures, kept, fallback)


def prepare_patient(
    read: Mapping[str, tuple[Volume, np.ndarray]],
    segmenter: nn.Module,
    rule: SeriesRule,
    *,
    batch_size: int = 32,
) -> dict[str, PreparedSeries]:
    """Prepare the series of a patient, by name.

    With `rule.series_weights` their masks are those on which they agree.

    A region on which none of the series has a say stays as each series draws it, and a mask ends
    where its series shows nothing. A series of which it is not known where it lies (JPEG files,
    `UNPLACED`) draws its own masks and has no say in the others.

    Args:
        read: volume and image of each series, from `read_for_segmentation`.
        segmenter: in evaluation mode.
        rule: as in `prepare_series`.
        batch_size: slices a pass.
    """
    together = _vote(
        {name: each for name, each in read.items() if _can_vote(each[0], rule)},
        segmenter,
        rule,
        batch_size=batch_size,
    )
    return {
        name: together.get(name) or prepare_series(*each, segmenter, rule, batch_size=batch_size)
        for name, each in read.items()
    }


def _can_vote(volume: Volume, rule: SeriesRule) -> bool:
    is_placed = not UNPLACED & {problem.code for problem in volume.meta.get("problems", ())}
    return bool(rule.series_weights) and rule.source == "dicom" and is_placed


def _vote(
    read: Mapping[str, tuple[Volume, np.ndarray]],
    segmenter: nn.Module,
    rule: SeriesRule,
    *,
    batch_size: int,
) -> dict[str, PreparedSeries]:
    voters = {
        region: {
            name: weight
            for name, weight in rule.series_weights.get(region, {}).items()
            if name in read
        }
        for region in REGIONS
    }
    asked = set().union(*voters.values()) if all(voters.values()) else set(read)
    maps = {
        name: _probabilities(read[name][1], segmenter, rule, batch_size=batch_size)
        for name in sorted(asked)
    }
    affines, prepared = {name: read[name][0].affine for name in asked}, {}
    for name, (volume, image) in read.items():
        filled, masks = _filled(image, rule), np.zeros((len(REGIONS), *image.shape), bool)
        grid = {
            "affine": volume.affine,
            "shape": image.shape,
            "slices": filled,
            "device": device_of(segmenter),
        }
        for r, weights in enumerate(voters.values()):
            found = (
                fuse_maps({voter: maps[voter][r] for voter in weights}, affines, weights, **grid)
                if weights
                else maps[name][r, filled]
            )
            masks[r, filled] = (found > 255 * rule.mask_threshold) & (image[filled] > 0)
        prepared[name] = _prepared(volume, image, masks, *_select(image, masks, rule))
    return prepared


def _probabilities(
    image: np.ndarray, segmenter: nn.Module, rule: SeriesRule, *, batch_size: int
) -> np.ndarray:
    """Probabilities of the regions (2, D, H, W) uint8, 255 for 1; 0 in blank slices."""
    maps, filled = np.zeros((len(REGIONS), *image.shape), np.uint8), _filled(image, rule)
    for part, found in region_probabilities(
        segmenter, image[filled], **_views(rule), batch_size=batch_size
    ):
        maps[:, filled[part]] = np.rint(255 * found).astype(np.uint8).swapaxes(0, 1)
    return maps


def _filled(image: np.ndarray, rule: SeriesRule) -> np.ndarray:
    """Indices of the slices that are not blank."""
    return np.flatnonzero(
        (image > 0).sum(axis=(1, 2)) > rule.min_brain_fraction * image.shape[1] * image.shape[2]
    )


def _views(rule: SeriesRule) -> dict[str, Any]:
    """How the segmenter looks at slices: options of `inference.region_probabilities`."""
    return {
        "size": rule.segmenter_size,
        "is_stretched": rule.is_stretched,
        "zoom": rule.segmentation_zoom,
        "views": rule.segmentation_views,
    }


def _prepared(
    volume: Volume,
    image: np.ndarray,
    masks: np.ndarray,
    measures: pd.DataFrame,
    kept: np.ndarray,
    fallback: str,
) -> PreparedSeries:
    pictures = np.stack([image[kept], *(masks[:, kept].astype(np.uint8) * 255)], axis=-1)
    return PreparedSeries(
        pictures,
        measures.assign(is_kept=kept),
        fallback,
        volume,
        list(volume.meta.get("problems", ())),
    )


def _segment(
    image: np.ndarray,
    filled: np.ndarray,
    segmenter: nn.Module,
    rule: SeriesRule,
    *,
    stride: int,
    batch_size: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Masks (2, D, H, W) of the slices that are not blank, and the indices of those that a
    coarse pass left out.
    """
    masks = np.zeros((2, *image.shape), bool)
    coarse = (
        np.unique([*range(0, len(filled), stride), max(len(filled) - 1, 0)])
        if len(filled)
        else np.array([], int)
    )
    _fill(masks, filled[coarse], image, segmenter, rule, batch_size=batch_size)
    shows_tumour = masks[0, filled[coarse]].any(axis=(1, 2))
    gaps = zip(coarse[:-1], coarse[1:], shows_tumour[:-1] | shows_tumour[1:], strict=True)
    fine = np.array(
        [index for first, last, is_near in gaps if is_near for index in range(first + 1, last)], int
    )
    _fill(masks, filled[fine], image, segmenter, rule, batch_size=batch_size)
    return masks, np.delete(filled, [*coarse, *fine])


def _fill(
    masks: np.ndarray,
    indices: np.ndarray,
    image: np.ndarray,
    segmenter: nn.Module,
    rule: SeriesRule,
    *,
    batch_size: int,
) -> None:
    masks[:, indices] = segment_slices(
        segmenter,
        image[indices],
        threshold=rule.mask_threshold,
        batch_size=batch_size,
        **_views(rule),
    )


def _select(
    image: np.ndarray, masks: np.ndarray, rule: SeriesRule
) -> tuple[pd.DataFrame, np.ndarray, str]:
    options = {
        name: getattr(rule, name)
        for name in ("min_brain_fraction", "min_tumour_share", "max_components", "sequence_length")
    }
    measures, n_pixels = measure_slices(image, masks), image.shape[1] * image.shape[2]
    kept, fallback = select_sequence_slices(measures, n_pixels, **options)
    # what lies elsewhere is more often false: its slices are not kept
    if fallback == "largest tumour":
        piece = measures.assign(wt_area=largest_component(masks[0]).sum(axis=(1, 2)))
        kept, _ = select_sequence_slices(piece, n_pixels, **options)
    return measures, kept, fallback


def prepare_all(
    series: pd.DataFrame,
    segmenter: nn.Module,
    rule: SeriesRule,
    *,
    batch_size: int = 32,
    num_workers: int = 1,
) -> Iterator[tuple[Any, PreparedSeries | Problem]]:
    """Prepare many series, reading the next ones while the segmenter works.

    Args:
        series: a row a series, with the columns patient_id, series and path.
        segmenter: in evaluation mode.
        rule: as in `prepare_patient`.
        batch_size: slices a pass.
        num_workers: threads that read; as many series may wait in memory, at least `READ_AHEAD`.

    Yields:
        The row (named tuple), and the prepared series or the problem that kept it from being read;
        patient by patient, and else in the order of the table.
    """
    start, done = time.perf_counter(), 0
    series = in_patients(series, rule)
    progress = tqdm(
        _read_ahead(series, rule, num_workers),
        total=len(series),
        desc="series",
        mininterval=PROGRESS_SECONDS,
    )
    for _, group in groupby(
        progress, key=lambda item: item[0].patient_id if rule.series_weights else item[0]
    ):
        found = list(group)
        read = {row.series: result for row, result in found if not isinstance(result, Problem)}
        prepared = prepare_patient(read, segmenter, rule, batch_size=batch_size)
        yield from (
            (row, result if isinstance(result, Problem) else prepared[row.series])
            for row, result in found
        )
        done += len(found)
        progress.set_postfix_str(
            f"finish {expected_finish(time.perf_counter() - start, done, len(series)):%H:%M}",
            refresh=False,
        )


def in_patients(series: pd.DataFrame, rule: SeriesRule) -> pd.DataFrame:
    """Return the rows with those of a patient beside each other, patients in the order of their
    first row, if series vote; else as they are.
    """
    if not rule.series_weights:
        return series
    return series.iloc[np.argsort(pd.factorize(series["patient_id"])[0], kind="stable")]


def _read_ahead(
    series: pd.DataFrame, rule: SeriesRule, num_workers: int
) -> Iterator[tuple[Any, Any]]:
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
    provenance: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> tuple[pd.DataFrame, list[Problem]]:
    """Prepare many series and write their kept slices to `folder/<patient>/<series>/<slice>.png`,
    and their tables beside them.

    A call that was interrupted goes on: series without problems whose table is there, from the same
    files and rule, are not prepared again; where series vote, patients all of whose series are.

    Args:
        series: patient_id, series, path.
        segmenter: in evaluation mode.
        rule: as in `prepare_patient`.
        folder: of the slices.
        root: paths in the rows are relative to it.
        batch_size: slices a pass.
        provenance: what else decides about the slices, such as the segmenter's weights.
        overwrite: prepare every series anew.

    Returns:
        A row for every slice (as `write_sequence`, with patient_id and series), and problems; in
        the order of the series.

    Raises:
        CatalogError: no series could be read.
        SequenceError: a series that has a say is nowhere.
    """
    if missing := sorted(rule.voters - set(series["series"])):
        raise SequenceError(
            f"series_weights names {', '.join(missing)}, but the series here are "
            f"{', '.join(sorted(set(series['series'])))}: correct the name, or leave it out."
        )
    series = in_patients(series, rule)
    places = [folder / row.patient_id / row.series for row in series.itertuples()]
    marks = series.assign(mark=[files_fingerprint(path, rule.source) for path in series["path"]])
    if rule.series_weights:  # what one series shows decides about the others
        marks["mark"] = marks["patient_id"].map(marks.groupby("patient_id")["mark"].agg(list))
    notes = [{**asdict(rule), **(provenance or {}), "files": mark} for mark in marks["mark"]]
    is_there = pd.Series(
        [
            not overwrite and is_current(place / TABLE, note)
            for place, note in zip(places, notes, strict=True)
        ],
        index=series.index,
        dtype=bool,
    )
    is_there = (
        is_there.groupby(series["patient_id"]).transform("all") if rule.series_weights else is_there
    )
    results = iter(prepare_all(series[~is_there], segmenter, rule, batch_size=batch_size))
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
        tables.append(
            write_sequence(result, place, root=root).assign(
                patient_id=row.patient_id, series=row.series
            )
        )
        if not result.problems:
            write_table(tables[-1], place / TABLE, provenance=note)
    next(results, None)  # so that its progress bar ends
    if not tables:
        raise CatalogError(
            f"None of {len(series)} series could be read; the first problem: "
            f"{problems[0].path}: {problems[0].sentence}"
        )
    return pd.concat(tables, ignore_index=True), problems


def write_sequence(prepared: PreparedSeries, folder: Path, *, root: Path) -> pd.DataFrame:
    """Write the kept slices of a series as pictures.

    Args:
        prepared: the series.
        folder: pictures go to `folder/<slice>.png`.
        root: paths in the rows are relative to it.

    Returns:
        A row for every slice of the series; `path` is empty and `position` -1 where the slice was
        not kept.
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
        path=paths,
        position=positions,
        plane=prepared.volume.plane,
        height=height,
        width=width,
        row_mm=row_mm,
        column_mm=column_mm,
        n_slices=len(paths),
        fallback=prepared.fallback,
    )
