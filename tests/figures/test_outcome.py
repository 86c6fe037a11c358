"""A finished run is told as its tables say."""

import numpy as np
import pandas as pd
import pytest
from helpers.pictures import legend_of
from matplotlib.colors import to_rgba

from t4e_utils.figures import outcome
from t4e_utils.figures.palette import FigureError
from t4e_utils.sampling.pictures import Picture


def some_slices(n, *, spacing_mm=(1.0, 1.0), plane=None):
    channels = np.full((6, 6, 3), 200, np.uint8)
    return [
        Picture(channels, ("image", "WT", "ET"), spacing_mm, plane, f"slice {9 + k}")
        for k in range(n)
    ]


def test_a_funnel_shows_what_is_lost_and_regained():
    axes = outcome.funnel({"in": 20, "read": 15, "predicted": 20}).axes[0]
    assert [patch.get_width() for patch in axes.patches] == [20, 15, 20]
    assert [text.get_text() for text in axes.texts] == ["20", "15", "−5", "20", "+5"]


def test_a_patient_story_ends_in_the_mean_of_the_series_that_have_a_prediction():
    table = pd.DataFrame({"patient_id": "00006", "series": ["FLAIR", "T1w"]}).assign(
        probability=[0.6, np.nan], n_slices=[26, np.nan], fallback=["largest tumour", ""]
    )
    figure = outcome.patient_story({"FLAIR": some_slices(3), "T1w": []}, table, n=2)
    title = "Patient 00006: from series to probability · grey values 0 to 255"
    assert figure.get_suptitle() == title
    axes = np.reshape(figure.axes, (2, 3))
    assert axes[0, 2].get_title() == "patient: 0.600"
    assert axes[0, 2].patches[0].get_width() == 0.6
    assert axes[1, 2].texts[0].get_text() == "no prediction"
    assert [each.get_title() for each in axes[0, :2]] == ["slice 9", "slice 11"]
    assert axes[0, 0].get_ylabel() == "FLAIR\n3 of 26 kept\nlargest tumour"
    assert axes[1, 0].texts[0].get_text() == "no slice was kept"


def test_a_patient_story_draws_each_series_in_its_own_proportions():
    pictures = {
        "FLAIR": some_slices(3, spacing_mm=(3.0, 1.0)),
        "T2w": some_slices(2, plane="axial"),
    }
    figure = outcome.patient_story(pictures, pd.DataFrame(columns=["series", "probability"]), n=2)
    axes = np.reshape(figure.axes, (2, 3))
    assert [each.get_aspect() for each in axes[:, 0]] == [3.0, 1.0]
    assert [[text.get_text() for text in each.texts] for each in axes[:, 1]] == [
        [],
        ["R", "L", "A", "P"],
    ]


def test_the_slices_with_most_influence_are_shown_in_order(palette):
    influence, positions = [0.1, -0.5, 0.0, 0.3], [10, 11, 13, 14]
    figure = outcome.slice_influence(some_slices(4), influence, positions=positions, n=2)
    bars, *shown = figure.axes
    assert [patch.get_height() for patch in bars.patches] == [0.1, -0.5, 0.0, 0.3]
    assert [axes.get_title() for axes in shown] == ["slice 11: −0.50", "slice 14: +0.30"]
    assert bars.patches[1].get_facecolor() == to_rgba(palette.class_colours[0])


def test_shares_of_test_and_out_of_fold_patients_each_add_up_to_one():
    axes = outcome.prediction_shift([0.1, 0.2, np.nan], [0.7, 0.8, 0.9]).axes[0]
    assert legend_of(axes) == ["out of fold, n = 2", "median 0.15", "test, n = 3", "median 0.80"]
    heights = [np.diff(patch.get_xy()[:, 0]) for patch in axes.patches]
    assert len(heights) == 2


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.04, "0.0 s"),
        (8.2, "8.2 s"),
        (59.96, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599.7, "1 h 00 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_durations_are_said_the_way_people_do(seconds, said):
    title = outcome.stage_times({"01": seconds}).axes[0].get_title(loc="left")
    assert title == f"Time of each stage: {said} in all"


def test_stages_are_timed_in_order():
    axes = outcome.stage_times({"01": 30.0, "02": 90.0}).axes[0]
    assert [patch.get_width() for patch in axes.patches] == [30, 90]
    assert axes.get_title(loc="left") == "Time of each stage: 2 min 00 s in all"


def test_fallbacks_are_listed_one_by_one():
    report = pd.DataFrame({"fallback": ["", "T1w: central slices; T2w: no readable series", None]})
    assert outcome.fallback_list(report) == [
        "none needed",
        "T1w: central slices",
        "T2w: no readable series",
        "none needed",
    ]


def test_a_story_is_of_one_patient():
    table = pd.DataFrame({"series": ["FLAIR", "FLAIR"], "probability": [0.1, 0.2]})
    with pytest.raises(FigureError, match="several rows of FLAIR: pass one row"):
        outcome.patient_story({"FLAIR": []}, table)
