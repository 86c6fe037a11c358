"""T4E's rules: which slices the segmenter learns from, and which ones are classified.

Tables of slices have the columns brain_area, wt_area, et_area and n_components (of the whole
tumour), areas in pixels. The brain is what is not black.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from t4e_utils.annotations.regions import area_shares, largest_component, measure_slices
from t4e_utils.competitions.brain_tumor.conventions import COMMON, read_labels
from t4e_utils.competitions.brain_tumor.data import REGIONS
from t4e_utils.prediction import PredictionError
from t4e_utils.sampling.chunks import sample_every
from t4e_utils.sampling.cutting import CutRule
from t4e_utils.scans.volume import Volume

FOREGROUND = "brain"
MEASURED = {"regions": tuple(REGIONS), "foreground": FOREGROUND}  # by `measure_slices`
# what a card may state
Share = Annotated[float, Field(ge=-1, le=1)]  # of pixels; below 0 every slice has more
Count = Annotated[int, Field(ge=1, le=4096)]  # more than any series has slices
Weight = Annotated[float, Field(gt=0, le=1e6)]
# about three slices with tumour and four without, of each plane and contrast
SYNTHETIC_STEP, SYNTHETIC_EMPTY_STEP = 0.35, 0.25


@dataclass(frozen=True)
class SliceRule(CutRule):
    """How annotated volumes become slices to learn segmentation from: enough tumour, not all."""

    regions: Mapping[str, Sequence[int]] = field(default_factory=lambda: REGIONS)
    foreground: str = FOREGROUND
    min_tumour_share: float = 0.01  # of the brain area, more than this is kept
    sampling_step: float = 0.1  # of the slices left, every max(round(step * n), 1)-th is kept
    # as sampling_step, of the slices that show brain but no tumour; None keeps none of them
    empty_step: float | None = None
    convention: str = COMMON  # of the segmentations, see `conventions`

    def read_labels(self, path: str) -> Volume:
        """Read a segmentation with the labels of `REGIONS`, whatever convention it has.

        Raises:
            VolumeError: it cannot be read, or has labels of another convention.
        """
        return read_labels(path, convention=self.convention)

    def choose(self, measures: pd.DataFrame) -> np.ndarray:
        """Return which slices of one volume and plane are stored, bool (n,).

        Args:
            measures: one row per slice in order.
        """
        candidates = np.flatnonzero(_tumour_share(measures) > self.min_tumour_share)
        chosen = _chosen(sample_every(candidates, step=self.sampling_step), len(measures))
        if self.empty_step is not None:
            is_brain, has_tumour = measures["brain_area"] > 0, measures["wt_area"] > 0
            empty = np.flatnonzero(is_brain & ~has_tumour)
            chosen[sample_every(empty, step=self.empty_step)] = True
        return chosen

    def for_synthetic(self) -> SliceRule:
        """Return the rule for drawn patients: few slices of each, most of them without tumour.

        Neighbours look alike, but no two patients do.
        """
        return replace(self, sampling_step=SYNTHETIC_STEP, empty_step=SYNTHETIC_EMPTY_STEP)


@dataclass(frozen=True)
class SeriesRule:
    """How a series becomes a sequence; every number is a parameter of notebooks 04 and 06."""

    # about the centre, before segmenting
    segmentation_zoom: Annotated[float, Field(ge=1, le=8)] = 1.2
    mask_threshold: Share = 0.5  # probability above which a pixel is tumour
    min_brain_fraction: Share = 0.1  # of the pixels; other slices are blank
    min_tumour_share: Share = 0.025  # predicted whole tumour over brain area, more is kept
    # 8-connected components of whole tumour, at most
    max_components: Annotated[int, Field(ge=0)] = 5
    sequence_length: Count = 35  # slices per chunk
    chunk_stride: Count = 5  # slices between the starts of chunks
    source: Literal["dicom", "jpg"] = "dicom"  # "jpg": the mirror of the data set as JPEG files
    # 1: every slice; k: every k-th, then all around those that show tumour
    segmentation_stride: Count = 1
    segmentation_views: Sequence[str] = ("identity",)  # averaged masks, some of `MASK_VIEWS`
    # for WT and ET, what each contrast of a patient counts in the masks of all of them, see
    # `prediction.fusion`; {}: each draws its own
    series_weights: Mapping[str, Mapping[str, Weight]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse weights that make no sense.

        Raises:
            PredictionError: naming them.
        """
        weights = [
            weight
            for region in self.series_weights.values()
            for weight in (region.values() if isinstance(region, Mapping) else [None])
        ]
        is_sound = all(isinstance(weight, (int, float)) and weight > 0 for weight in weights)
        if set(self.series_weights) - set(REGIONS) or not is_sound:
            raise PredictionError(
                f"series_weights is {self.series_weights}: give weights above 0 by series for "
                f'{" and ".join(REGIONS)}, such as {{"WT": {{"FLAIR": 3, "T2w": 1}}, "ET": '
                '{"T1wCE": 1}}; series that are not named have no say, {} lets each draw its own '
                "mask."
            )
        if self.series_weights and self.segmentation_stride > 1:
            raise PredictionError(
                f"segmentation_stride is {self.segmentation_stride}, but series_weights lets the "
                "series of a patient vote, and that takes every slice: give segmentation_stride 1, "
                "or prepare the training data with series_weights {}."
            )

    @property
    def voters(self) -> set[str]:
        """The series whose maps count in a mask of any series."""
        return {name for region in self.series_weights.values() for name in region}

    def select(self, image: np.ndarray, masks: np.ndarray) -> tuple[pd.DataFrame, np.ndarray, str]:
        """Choose the slices of a series that go into its sequence; never none of them.

        Args:
            image: (D, H, W) uint8.
            masks: (2, D, H, W) bool, predicted.

        Returns:
            Measures (one row per slice); bool (D,), true where the slice is kept; and why: "" the
            filter left some; "largest tumour" it left none, so the slices with the largest
            component of tumour; "central slices" no tumour was predicted, so the middle.
        """
        measures, n_pixels = measure_slices(image, masks, **MEASURED), image[0].size
        kept, fallback = self.choose(measures, n_pixels)
        if fallback == "largest tumour":  # what lies elsewhere is more often false
            largest = measures.assign(wt_area=largest_component(masks[0]).sum(axis=(1, 2)))
            kept, _ = self.choose(largest, n_pixels)
        return measures, kept, fallback

    def choose(self, measures: pd.DataFrame, n_pixels: int) -> tuple[np.ndarray, str]:
        """Return which slices are kept, and the fallback, as `select`, from measures alone.

        Args:
            measures: one row per slice in order.
            n_pixels: of a slice.
        """
        is_brain = measures["brain_area"].to_numpy() > self.min_brain_fraction * n_pixels
        is_tumour = _tumour_share(measures) > self.min_tumour_share
        is_simple = measures["n_components"].to_numpy() <= self.max_components
        kept = is_brain & is_tumour & is_simple
        if kept.any():
            return kept, ""
        wt_area, n = measures["wt_area"].to_numpy(), len(measures)
        if (wt_area > 0).any():
            most = np.argsort(-wt_area, kind="stable")[: self.sequence_length]
            return _chosen(most[wt_area[most] > 0], n), "largest tumour"
        first = max((n - self.sequence_length) // 2, 0)
        middle = np.arange(first, min(first + self.sequence_length, n))
        return _chosen(middle, n), "central slices"


def _tumour_share(measures: pd.DataFrame) -> np.ndarray:
    return area_shares(measures, regions=("WT",), foreground=FOREGROUND)["WT"].to_numpy()


def _chosen(indices: np.ndarray, n: int) -> np.ndarray:
    chosen = np.zeros(n, dtype=bool)
    chosen[indices] = True
    return chosen
