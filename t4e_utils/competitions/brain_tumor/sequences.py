"""From a series folder to its sequence of 3-channel pictures: one path for training and for test.

series -> 8-bit volume (D, H, W) -> masks (2, D, H, W) -> kept slices as pictures (K, H, W, 3), of
which `prediction` makes a probability. Where series vote on the masks, those of a patient are
prepared together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from t4e_utils.annotations.regions import filled_outline
from t4e_utils.competitions.brain_tumor.data import REGIONS
from t4e_utils.competitions.brain_tumor.rules import SeriesRule
from t4e_utils.learning.devices import device_of
from t4e_utils.prediction import PredictionError
from t4e_utils.prediction.fusion import fuse_maps
from t4e_utils.prediction.masks import MaskReading, region_probabilities, segment_slices
from t4e_utils.prediction.rehearsal import ramp, require_finite
from t4e_utils.prediction.streaming import Resume, Walk, for_each
from t4e_utils.sampling.pictures import Picture, stack_channels, write_picture
from t4e_utils.scans.intensity import window_to_uint8
from t4e_utils.scans.problems import Problem, VolumeError
from t4e_utils.scans.reading import read_series
from t4e_utils.scans.volume import Volume

COARSE_MM = 5.0  # at most between the slices of a coarse pass: what is smaller can be overlooked
# problems of series of which it is a guess where their slices lie
WITHOUT_POSITION = {
    "gap",
    "mosaic",
    "no_orientation",
    "no_positions",
    "no_spacing",
    "same_position",
    "uneven_spacing",
}
ReadSeries = tuple[Volume, np.ndarray]  # as read, and its image (D, H, W) uint8


@dataclass(frozen=True)
class PreparedSeries:
    """A series with predicted masks, reduced to the slices worth classifying."""

    pictures: np.ndarray  # (K, H, W, 3) uint8: image, whole tumour, enhancing tumour (0 or 255)
    measures: pd.DataFrame  # one row for each of the D slices, with is_kept
    fallback: str  # "" or what was done because the filter kept nothing
    volume: Volume  # as read

    @property
    def kept(self) -> np.ndarray:
        """Indices of the kept slices in the volume, (K,)."""
        return np.flatnonzero(self.measures["is_kept"].to_numpy())

    def drawn(self) -> list[Picture]:
        """Return the kept slices with what is needed to draw them."""
        spacing, names = self.volume.spacing_mm[1:], ("image", *REGIONS)
        return [
            Picture(channels, names, spacing, self.volume.plane, f"slice {index}")
            for index, channels in zip(self.kept, self.pictures, strict=True)
        ]

    @property
    def problems(self) -> list[Problem]:
        """What is odd about the series."""
        return list(self.volume.meta.get("problems", ()))


@dataclass(frozen=True)
class Preparer:
    """A segmenter with the rule by which it turns series into sequences."""

    segmenter: nn.Module  # in evaluation mode; its recipe has the window
    rule: SeriesRule
    batch_size: int = 8  # slices per pass; results do not depend on it

    @property
    def reading(self) -> MaskReading:
        """How the segmenter is used on slices."""
        rule = self.rule
        views = tuple(rule.segmentation_views)
        return MaskReading(rule.mask_threshold, rule.segmentation_zoom, views, self.batch_size)

    @property
    def walk(self) -> Walk:
        """How a table of series is walked through."""
        return Walk(group_by="patient_id" if self.rule.series_weights else "")

    def rehearse(self) -> None:
        """Let the segmenter see one picture, before any series.

        Raises:
            PredictionError: what it says is not finite.
        """
        image = ramp(self.segmenter.recipe.size, 1)[None, :, :, 0]
        for _, maps in region_probabilities(self.segmenter, image, self.reading):
            require_finite(maps, self.segmenter, "segmenter")

    def read(self, folder: str | Path) -> ReadSeries:
        """Read a series and window it to 8 bits.

        Raises:
            VolumeError: no readable series, or one without contrast ("blank").
        """
        volume = read_series(folder, source=self.rule.source)
        image = window_to_uint8(volume.array, self.segmenter.recipe.percentiles)
        if not image.any():
            sentence = "The series has the same value everywhere: there is nothing to see in it."
            raise VolumeError("blank", str(folder), sentence)
        return volume, image

    def prepare_patient(self, read: Mapping[str, ReadSeries]) -> dict[str, PreparedSeries]:
        """Prepare the series of a patient, by name.

        With `rule.series_weights` their masks are those on which they agree. A region on which none
        of the series has a say stays as each series draws it, and a mask ends at the outline of
        what its series shows. A series of which it is not known where it lies (JPEG files,
        `WITHOUT_POSITION`) draws its own masks and has no say in the others.

        Args:
            read: volume and image of each series, from `read`.
        """
        together = self._vote({name: own for name, own in read.items() if self._can_vote(own[0])})
        return {
            name: together[name] if name in together else self.prepare_series(*own)
            for name, own in read.items()
        }

    def prepare_series(self, volume: Volume, image: np.ndarray) -> PreparedSeries:
        """Predict the masks of a series by itself and keep the slices that show the tumour.

        Blank slices are not segmented. If no slice passes the filter, the fallback keeps up to
        `rule.sequence_length` slices; whatever `rule.segmentation_stride` left out is segmented
        before that.

        Args:
            volume: as read.
            image: (D, H, W) uint8, from `read`.
        """
        stride = min(self.rule.segmentation_stride, int(COARSE_MM // volume.spacing_mm[0]))
        masks, skipped = self._segment(image, max(1, stride))
        measures, kept, fallback = self.rule.select(image, masks)
        if fallback and len(skipped):
            self._fill(masks, skipped, image)
            measures, kept, fallback = self.rule.select(image, masks)
        return _prepared(volume, image, masks, measures, kept, fallback)

    def _can_vote(self, volume: Volume) -> bool:
        codes = {problem.code for problem in volume.meta.get("problems", ())}
        is_placed = self.rule.source == "dicom" and not WITHOUT_POSITION & codes
        return bool(self.rule.series_weights) and is_placed

    def _vote(self, read: Mapping[str, ReadSeries]) -> dict[str, PreparedSeries]:
        weights = [self.rule.series_weights.get(region, {}) for region in REGIONS]
        voters = [{name: own[name] for name in own if name in read} for own in weights]
        used = set().union(*voters) if all(voters) else set(read)
        maps = {name: self._probabilities(read[name][1]) for name in sorted(used)}
        affines, prepared = {name: read[name][0].affine for name in used}, {}
        for name, (volume, image) in read.items():
            filled, masks = self._filled(image), np.zeros((len(REGIONS), *image.shape), bool)
            grid = {"affine": volume.affine, "shape": image.shape, "slices": filled}
            grid["device"] = device_of(self.segmenter)
            inside = filled_outline(image)[filled]
            for r, say in enumerate(voters):
                found = maps[name][r, filled] if not say else None
                if say:
                    found = fuse_maps({v: maps[v][r] for v in say}, affines, say, **grid)
                masks[r, filled] = (found > 255 * self.rule.mask_threshold) & inside
            prepared[name] = _prepared(volume, image, masks, *self.rule.select(image, masks))
        return prepared

    def _probabilities(self, image: np.ndarray) -> np.ndarray:
        """Probabilities of the regions (2, D, H, W) uint8, 255 for 1; 0 in blank slices."""
        maps, filled = np.zeros((len(REGIONS), *image.shape), np.uint8), self._filled(image)
        for part, found in region_probabilities(self.segmenter, image[filled], self.reading):
            maps[:, filled[part]] = np.rint(255 * found).astype(np.uint8).swapaxes(0, 1)
        return maps

    def _filled(self, image: np.ndarray) -> np.ndarray:
        """Indices of the slices that are not blank."""
        is_filled = (image > 0).sum(axis=(1, 2)) > self.rule.min_brain_fraction * image[0].size
        return np.flatnonzero(is_filled)

    def _segment(self, image: np.ndarray, stride: int) -> tuple[np.ndarray, np.ndarray]:
        """Masks (2, D, H, W) of slices that are not blank; indices that a coarse pass left out."""
        masks, filled = np.zeros((len(REGIONS), *image.shape), bool), self._filled(image)
        ends = [*range(0, len(filled), stride), len(filled) - 1] if len(filled) else []
        coarse = np.unique(np.array(ends, int))
        self._fill(masks, filled[coarse], image)
        shows_tumour = masks[0, filled[coarse]].any(axis=(1, 2))
        gaps = zip(coarse[:-1], coarse[1:], shows_tumour[:-1] | shows_tumour[1:], strict=True)
        between = [range(first + 1, last) for first, last, is_near in gaps if is_near]
        fine = np.array([index for own in between for index in own], int)
        self._fill(masks, filled[fine], image)
        return masks, np.delete(filled, [*coarse, *fine])

    def _fill(self, masks: np.ndarray, indices: np.ndarray, image: np.ndarray) -> None:
        masks[:, indices] = segment_slices(self.segmenter, image[indices], self.reading)


def _prepared(
    volume: Volume,
    image: np.ndarray,
    masks: np.ndarray,
    measures: pd.DataFrame,
    kept: np.ndarray,
    fallback: str,
) -> PreparedSeries:
    pictures = stack_channels(image[kept], masks[:, kept])
    return PreparedSeries(pictures, measures.assign(is_kept=kept), fallback, volume)


def write_sequences(
    series: pd.DataFrame,
    preparer: Preparer,
    folder: Path,
    *,
    root: Path,
    provenance: Mapping[str, Any],
    overwrite: bool = False,
) -> tuple[pd.DataFrame, list[Problem]]:
    """Prepare many series and write their kept slices to `folder/<patient>/<series>/<slice>.png`.

    A call that was interrupted goes on, see `prediction.streaming`.

    Args:
        series: patient_id, series, path.
        preparer: segmenter and rule.
        folder: of the slices.
        root: paths in the rows are relative to it.
        provenance: what else decides about the slices, such as the segmenter's weights.
        overwrite: prepare every series anew.

    Returns:
        One row for every slice (as `write_sequence`, with patient_id and series), and problems; in
        the order of the series.

    Raises:
        PredictionError: no series could be read, or a series that has a say is nowhere.
    """
    rule, names = preparer.rule, sorted(set(series["series"]))
    if missing := sorted(rule.voters - set(names)):
        raise PredictionError(
            f"series_weights names {', '.join(missing)}, but the series here are "
            f"{', '.join(names)}: correct the name, or leave it out."
        )
    resume = Resume(
        place=lambda row: folder / row.patient_id / row.series,
        provenance={**asdict(rule), **provenance},
        source=rule.source,
        overwrite=overwrite,
        root=root,
    )
    work = partial(_write_all, preparer=preparer, folder=folder, root=root)
    table, problems = for_each(series, preparer.read, work, walk=preparer.walk, resume=resume)
    if table.empty:
        raise PredictionError(
            f"None of {len(series)} series could be read; the first problem: "
            f"{problems[0].path}: {problems[0].sentence}"
        )
    return table, problems


def _write_all(
    rows: Sequence[Any], read: Sequence[ReadSeries], *, preparer: Preparer, folder: Path, root: Path
) -> list[tuple[pd.DataFrame, list[Problem]]]:
    prepared = preparer.prepare_patient(
        {row.series: own for row, own in zip(rows, read, strict=True)}
    )
    results = []
    for row in rows:
        own = prepared[row.series]
        table = write_sequence(own, folder / row.patient_id / row.series, root=root)
        results.append((table.assign(patient_id=row.patient_id, series=row.series), own.problems))
    return results


def write_sequence(prepared: PreparedSeries, folder: Path, *, root: Path) -> pd.DataFrame:
    """Write the kept slices of a series as pictures `folder/<slice>.png`.

    Args:
        prepared: the series.
        folder: of the pictures.
        root: paths in the rows are relative to it.

    Returns:
        One row for every slice of the series; `path` is empty and `position` -1 where the slice was
        not kept.
    """
    paths = np.full(len(prepared.measures), "", dtype=object)
    positions = np.full(len(paths), -1)
    for position, (index, picture) in enumerate(zip(prepared.kept, prepared.pictures, strict=True)):
        path = write_picture(folder / f"{index:04d}.png", picture)
        paths[index], positions[index] = str(path.relative_to(root)), position
    volume = prepared.volume
    return prepared.measures.assign(
        path=paths,
        position=positions,
        plane=volume.plane,
        height=volume.array.shape[1],
        width=volume.array.shape[2],
        row_mm=volume.spacing_mm[1],
        column_mm=volume.spacing_mm[2],
        n_slices=len(paths),
        fallback=prepared.fallback,
    )
