"""Cases, overlap by group and thresholds show the numbers they are given."""

import numpy as np
import pandas as pd
from helpers.pictures import legend_of

from t4e_utils.figures import overlap
from t4e_utils.sampling.pictures import Picture


def test_a_triptych_states_the_dice_of_each_region():
    channels = np.zeros((8, 8, 3), np.uint8)
    channels[1:5, 1:5, 1], channels[2:4, 2:4, 2] = 255, 255
    case = Picture(channels, ("image", "WT", "ET"), (2.0, 1.0), "axial", "worst")
    predicted = np.stack([case.masks[0], np.zeros((8, 8), bool)])
    figure = overlap.triptychs([(case, predicted)])
    image, expert, prediction = figure.axes
    assert prediction.get_title() == "Dice WT 1.00 · ET 0.00"
    assert image.get_ylabel() == "worst"
    assert len(expert.collections) == 2
    assert len(image.images) == 1
    assert {text.get_text() for text in image.texts} == set("RLAP")
    assert {axes.get_aspect() for axes in figure.axes} == {2.0}


def test_dice_is_grouped_by_plane_series_and_size():
    table = pd.DataFrame(
        [
            {
                "patient_id": i,
                "series": "FLAIR",
                "plane": plane,
                "region": region,
                "dice": 0.5 + 0.1 * i,
                "truth_ml": float(i),
            }
            for i in range(4)
            for plane in ("axial", "sagittal")
            for region in ("WT", "ET")
        ]
    )
    figure = overlap.dice_distribution(table)
    by_plane, by_series, by_size = figure.axes
    assert [label.get_text() for label in by_plane.get_xticklabels()] == ["axial", "sagittal"]
    assert [text.get_text() for text in by_plane.texts] == ["0.65"] * 4
    assert by_series.get_title(loc="left") == "series"
    assert np.allclose(
        sorted(set(by_size.collections[0].get_offsets()[:, 0])), [1, 2, 3]
    )  # a region of no size has no place here
    assert "4 patients" in figure.get_suptitle()


def test_the_threshold_sweep_names_the_best_threshold():
    table = pd.DataFrame({"threshold": [0.5, 0.3, 0.7], "region": "WT", "dice": [0.8, 0.9, np.nan]})
    axes = overlap.threshold_sweep(table, chosen=0.5).axes[0]
    assert legend_of(axes) == ["WT: best 0.900 at 0.30", "in use: 0.5"]
    assert axes.lines[0].get_xdata().tolist() == [0.3, 0.5]
