"""Which slices the segmenter learns from, and which ones are classified."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t4e_utils.competitions.brain_tumor.rules import SeriesRule, SliceRule
from t4e_utils.phantoms.head_randomisation import make_synthetic_patient
from t4e_utils.prediction import PredictionError
from t4e_utils.sampling.cutting import cut_drawn_patients


def measures(brain_area, wt_area, n_components=None) -> pd.DataFrame:
    n_components = [1 if area else 0 for area in wt_area] if n_components is None else n_components
    return pd.DataFrame(
        {"brain_area": brain_area, "wt_area": wt_area, "n_components": n_components}
    )


# Slices to learn segmentation from


def test_tumour_slices_are_those_with_enough_tumour_and_of_these_every_kth():
    table = measures([0, 1000, 1000, 1000, 1000, 1000], [0, 10, 11, 0, 500, 90])
    chosen = SliceRule(sampling_step=0.0).choose(table)
    assert chosen.tolist() == [False, False, True, False, True, True]
    many = measures([100] * 40, [0] * 10 + [50] * 30)
    assert np.flatnonzero(SliceRule().choose(many)).tolist() == list(range(10, 40, 3))


def test_every_kth_slice_of_brain_without_tumour_is_taken_beside_them_if_wanted():
    # 5 empty ones, 30 of brain alone, 10 with tumour
    table = measures([0] * 5 + [100] * 40, [0] * 35 + [50] * 10)
    assert np.flatnonzero(SliceRule().choose(table)).tolist() == list(range(35, 45))
    chosen = SliceRule(sampling_step=0.4, empty_step=0.25).choose(table)
    # every eighth, every fourth
    assert np.flatnonzero(chosen).tolist() == [5, 13, 21, 29, 35, 39, 43]
    # too little tumour to learn from, too much to be called empty
    little = measures([100, 100, 100], [0, 1, 0])
    assert SliceRule(empty_step=0.0).choose(little).tolist() == [True, False, True]


def test_no_tumour_gives_no_slices_to_segment():
    assert not SliceRule().choose(measures([100, 0], [0, 0])).any()


def test_synthetic_heads_become_few_slices_with_and_without_tumour(tmp_path):
    cut = cut_drawn_patients(
        partial(make_synthetic_patient, size=32),
        3,
        tmp_path / "synthetic",
        root=tmp_path,
        rule=SliceRule(sampling_step=0.0).for_synthetic(),
        seed=0,
        n_jobs=1,
    )
    counts = cut.groupby(["patient_id", "series", "plane"])["wt_area"].agg(
        with_tumour=lambda area: (area > 0).sum(), without=lambda area: (area == 0).sum()
    )
    assert len(counts) == 3 * 4 * 3
    assert counts.min().min() >= 1
    assert counts.max().max() <= 7  # however many slices a head has


# Slices for a sequence


def test_the_filter_keeps_slices_with_brain_tumour_and_few_components():
    table = measures(
        brain_area=[0, 100, 101, 500, 500, 500, 500],
        wt_area=[0, 50, 50, 12, 13, 50, 50],
        n_components=[0, 1, 1, 1, 1, 5, 6],
    )
    kept, fallback = SeriesRule().choose(table, 1000)
    assert kept.tolist() == [False, False, True, False, True, True, False]
    assert fallback == ""


def test_if_none_passes_the_slices_with_the_largest_tumour_are_taken():
    table = measures([500] * 6, [1, 0, 5, 3, 3, 2])
    kept, fallback = SeriesRule(sequence_length=3).choose(table, 1000)
    assert (kept.tolist(), fallback) == ([False, False, True, True, True, False], "largest tumour")


def test_slices_without_any_tumour_do_not_fill_up_the_largest():
    kept, fallback = SeriesRule().choose(measures([500] * 6, [0, 0, 5, 0, 0, 0]), 1000)
    assert (kept.tolist(), fallback) == (
        [False, False, True, False, False, False],
        "largest tumour",
    )


@pytest.mark.parametrize(
    ("n", "length", "expected"),
    [(7, 3, [2, 3, 4]), (8, 3, [2, 3, 4]), (2, 3, [0, 1]), (3, 3, [0, 1, 2]), (0, 3, [])],
)
def test_without_tumour_the_central_slices_are_taken(n, length, expected):
    kept, fallback = SeriesRule(sequence_length=length).choose(measures([500] * n, [0] * n), 1000)
    assert (np.flatnonzero(kept).tolist(), fallback) == (expected, "central slices")


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 400), st.integers(0, 60), st.integers(0, 9)),
        min_size=1,
        max_size=80,
    )
)
def test_a_series_never_loses_all_its_slices(rows):
    kept, fallback = SeriesRule().choose(measures(*zip(*rows, strict=True)), 1000)
    assert kept.any()
    assert fallback in ("", "largest tumour", "central slices")
    assert fallback == "" or kept.sum() <= 35


def test_the_largest_tumour_is_the_largest_component_of_the_series():
    image, masks = np.full((6, 20, 20), 9, np.uint8), np.zeros((2, 6, 20, 20), bool)
    masks[0, 0, :1, :3] = True  # alone, and larger in its slice than the other in any one
    masks[0, 3:6, 9, 9:11] = True
    measured, kept, fallback = SeriesRule(sequence_length=2).select(image, masks)
    assert (np.flatnonzero(kept).tolist(), fallback) == ([3, 4], "largest tumour")
    assert measured["wt_area"].tolist() == [3, 0, 0, 2, 2, 2]


@pytest.mark.parametrize(
    "weights", [{"TC": {"FLAIR": 1}}, {"WT": {"FLAIR": 0}}, {"WT": {"FLAIR": "3"}}, {"ET": 1}]
)
def test_weights_that_make_no_sense_are_refused(weights):
    with pytest.raises(PredictionError, match="give weights above 0 by series for WT and ET"):
        SeriesRule(series_weights=weights)


def test_a_vote_of_series_takes_every_slice():
    weights = {"WT": {"FLAIR": 3, "T2w": 1}, "ET": {"T1wCE": 1}}
    assert SeriesRule(series_weights=weights).voters == {"FLAIR", "T2w", "T1wCE"}
    with pytest.raises(PredictionError, match="segmentation_stride is 2, but series_weights"):
        SeriesRule(series_weights=weights, segmentation_stride=2)
