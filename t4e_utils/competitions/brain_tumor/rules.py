"""Which slices are learnt from, and which are classified."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from t4e_utils.sampling.chunks import SEQUENCE_LENGTH
from t4e_utils.sampling.cutting import CutRule, sample_every

# about three slices with tumour and four without, of each plane and contrast
SYNTHETIC_STEP, SYNTHETIC_EMPTY_STEP = 0.35, 0.25


@dataclass(frozen=True)
class SliceRule(CutRule):
    """How annotated volumes become slices to learn segmentation from."""

    min_tumour_share: float = 0.01  # of the brain area, more than this is kept
    sampling_step: float = 0.1  # of the slices left, every max(round(step * n), 1)-th is kept
    # as sampling_step, of the slices that show brain but no tumour; None keeps none of them
    empty_step: float | None = None

    def choose(self, measures: pd.DataFrame) -> np.ndarray:
        """See `select_tumour_slices`."""
        return select_tumour_slices(
            measures,
            min_tumour_share=self.min_tumour_share,
            sampling_step=self.sampling_step,
            empty_step=self.empty_step,
        )

    def for_synthetic(self) -> SliceRule:
        """Return the rule for drawn patients: few slices of each, most of them without tumour."""
        return replace(self, sampling_step=SYNTHETIC_STEP, empty_step=SYNTHETIC_EMPTY_STEP)


def select_tumour_slices(
    measures: pd.DataFrame,
    *,
    min_tumour_share: float = 0.01,
    sampling_step: float = 0.1,
    empty_step: float | None = None,
) -> np.ndarray:
    """Choose the slices to learn segmentation from: enough tumour, and not all of them (stage 1).

    Args:
        measures: a row a slice in order, columns brain_area and wt_area in pixels, of one volume
            cut in one plane.
        min_tumour_share: smallest share (exclusive) of the brain that is tumour.
        sampling_step: see `sample_every`.
        empty_step: likewise, of the slices that show brain but no tumour; None chooses none of
            them, as the team did.

    Returns:
        Bool (n,), true where the slice is chosen.
    """
    candidates = np.flatnonzero(_tumour_share(measures) > min_tumour_share)
    chosen = _chosen(sample_every(candidates, step=sampling_step), len(measures))
    if empty_step is not None:
        is_empty = (measures["brain_area"].to_numpy() > 0) & (measures["wt_area"].to_numpy() == 0)
        chosen[sample_every(np.flatnonzero(is_empty), step=empty_step)] = True
    return chosen


def select_sequence_slices(
    measures: pd.DataFrame,
    n_pixels_per_slice: int,
    *,
    min_brain_fraction: float = 0.1,
    min_tumour_share: float = 0.025,
    max_components: int = 5,
    sequence_length: int = SEQUENCE_LENGTH,
) -> tuple[np.ndarray, str]:
    """Choose the slices of a series that go into the sequence to classify (stage 2).

    Never none of them.

    Args:
        measures: a row a slice in order, columns brain_area, wt_area (pixels) and n_components of
            the predicted tumour.
        n_pixels_per_slice: height x width.
        min_brain_fraction: smallest share (exclusive) of the slice that is not black.
        min_tumour_share: smallest share (exclusive) of the brain that is tumour.
        max_components: more separate pieces than this are taken for noise.
        sequence_length: slices to take when the filter leaves none.

    Returns:
        Bool (n,), true where the slice is kept, and why: "" the filter left some; "largest tumour"
        it left none, so the slices with the most tumour; "central slices" no tumour was predicted,
        so the middle of the series.
    """
    is_brain = measures["brain_area"].to_numpy() > min_brain_fraction * n_pixels_per_slice
    is_tumour = _tumour_share(measures) > min_tumour_share
    kept = is_brain & is_tumour & (measures["n_components"].to_numpy() <= max_components)
    if kept.any():
        return kept, ""
    wt_area, n = measures["wt_area"].to_numpy(), len(measures)
    if (wt_area > 0).any():
        most = np.argsort(-wt_area, kind="stable")[:sequence_length]
        return _chosen(most[wt_area[most] > 0], n), "largest tumour"
    first = max((n - sequence_length) // 2, 0)
    return _chosen(np.arange(first, min(first + sequence_length, n)), n), "central slices"


def _tumour_share(measures: pd.DataFrame) -> np.ndarray:
    brain = measures["brain_area"].to_numpy(dtype=float)
    return np.divide(
        measures["wt_area"].to_numpy(dtype=float), brain, out=np.zeros_like(brain), where=brain > 0
    )


def _chosen(indices: np.ndarray, n: int) -> np.ndarray:
    chosen = np.zeros(n, dtype=bool)
    chosen[indices] = True
    return chosen
