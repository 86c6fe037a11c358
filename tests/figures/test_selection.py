"""Chosen slices are marked, counted and shown as the tables say."""

import numpy as np
import pandas as pd
import pytest
from helpers.pictures import line

from t4e_utils.figures import selection, style
from t4e_utils.figures.palette import FigureError, Palette
from t4e_utils.sampling.pictures import Picture


def test_the_area_profile_marks_threshold_and_kept_slices():
    measures = pd.DataFrame(
        {
            "slice": [3, 4, 5, 6],
            "brain_area": 100,
            "wt_area": [0, 5, 20, 9],
            "et_area": 0,
            "n_components": [0, 1, 1, 7],
            "is_kept": [False, True, True, False],
        }
    )
    axes = selection.area_profile(measures, threshold=0.025, max_components=5).axes[0]
    assert line(axes, "WT").get_ydata().tolist() == [0, 0.05, 0.2, 0.09]
    assert line(axes, "threshold 0.025").get_ydata() == [0.025, 0.025]
    assert line(axes, "2 of 4 slices kept").get_xdata().tolist() == [4, 5]
    assert line(axes, "more than 5 separate tumours").get_xdata().tolist() == [6]


def test_the_step_between_kept_slices_is_said_where_there_is_one():
    measures = pd.DataFrame(
        {
            "slice": range(10),
            "brain_area": 100,
            "wt_area": [0, 9, 9, 9, 9, 9, 9, 9, 0, 0],
            "et_area": 0,
        }
    )
    kept = np.isin(np.arange(10), [1, 4, 7])
    assert line(
        selection.area_profile(measures, threshold=0.05, kept=kept).axes[0],
        "3 of 10 slices kept,\n1 in 3 of those above",
    )
    uneven = np.isin(np.arange(10), [1, 2, 7])
    assert line(
        selection.area_profile(measures, threshold=0.05, kept=uneven).axes[0], "3 of 10 slices kept"
    )


def test_kept_slices_are_counted_and_patients_without_any_are_named():
    table = pd.DataFrame(
        {
            "patient_id": ["a", "a", "b", "b"],
            "series": ["FLAIR", "FLAIR", "T2w", "FLAIR"],
            "is_kept": [1, 1, 1, 0],
        }
    )
    axes = selection.slices_kept(
        table, by=("series",), patients=["a", "b", "c"], groups=["FLAIR", "T2w"]
    ).axes[0]
    assert np.array_equal(axes.images[0].get_array(), [[2, 0], [0, 1], [0, 0]])
    assert axes.get_xlabel() == "none kept: a T2w, b FLAIR, c FLAIR, c T2w"
    assert axes.get_title(loc="left") == "Slices kept: 3 of 3 patients"


def test_a_patient_who_is_named_for_each_study_counts_once():
    table = pd.DataFrame({"patient_id": ["a", "a", "b"], "series": "FLAIR"})
    axes = selection.slices_kept(table, by=("series",), patients=["a", "a", "b"]).axes[0]
    assert np.array_equal(axes.images[0].get_array(), [[2], [1]])
    assert axes.get_title(loc="left") == "Slices kept: 3 of 2 patients"


def test_many_patients_are_sorted_by_their_slices_and_only_some_zeros_named():
    table = pd.DataFrame(
        {"patient_id": [f"{i:03d}" for i in range(40) for _ in range(i)], "series": "FLAIR"}
    )
    axes = selection.slices_kept(
        table, by=("series",), patients=[f"{i:03d}" for i in range(50)]
    ).axes[0]
    assert axes.images[0].get_array()[:, 0].tolist() == [*range(39, -1, -1), *[0] * 10]
    assert axes.get_xlabel().replace("\n", " ").endswith("and 5 more")


def test_kept_slices_stand_above_dropped_ones_and_blank_ones_are_no_examples():
    images = np.zeros((6, 5, 5), np.uint8)
    images[1:, 1:4, 1:4] = 80
    masks = np.zeros((2, 6, 5, 5), bool)
    masks[0, 4, 1:4, 1:4] = True
    measures = pd.DataFrame(
        {
            "brain_area": (images > 0).sum(axis=(1, 2)),
            "wt_area": masks[0].sum(axis=(1, 2)),
            "et_area": 0,
        }
    )
    measures = measures.assign(slice=range(6), is_kept=[False] * 4 + [True, False])
    channels = np.stack([images, *(masks * np.uint8(255))], axis=-1)
    pictures = [Picture(each, ("image", "WT", "ET"), (2.0, 1.0), "axial") for each in channels]
    figure = selection.kept_and_dropped(pictures, measures, n=4, reasons=["no tumour"] * 6)
    assert [figure.axes[k].get_ylabel() for k in (0, 4)] == ["kept (1)", "dropped (5)"]
    assert figure.axes[0].get_title() == "slice 4: 100.0%"
    assert [axes.get_title() for axes in figure.axes[4:]] == [
        f"slice {k}: 0.0%\nno tumour" for k in (1, 2, 3, 5)
    ]


def test_the_profile_is_called_after_its_rows_and_needs_the_columns_of_the_palette():
    rows = {"patient_id": "00006", "series": "FLAIR", "plane": "axial", "slice": [1, 2]}
    measures = pd.DataFrame({**rows, "brain_area": 10, "wt_area": [1, 2], "et_area": 0})
    axes = selection.area_profile(measures, threshold=0.1).axes[0]
    assert axes.get_title(loc="left") == "Patient 00006 · FLAIR · axial"
    assert axes.get_ylabel() == "share of the brain"
    with pytest.raises(FigureError, match="no column 'et_area'"):
        selection.area_profile(measures.drop(columns="et_area"), threshold=0.1)


def test_without_a_palette_the_regions_are_those_of_the_columns():
    style.set_palette(Palette())
    measures = pd.DataFrame({"slice": [1, 2], "foreground_area": 10, "vessel_area": [1, 5]})
    axes = selection.area_profile(measures, threshold=0.1).axes[0]
    assert line(axes, "vessel").get_ydata().tolist() == [0.1, 0.5]
