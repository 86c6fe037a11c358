"""Training curves and segmentation quality show the numbers they are given."""

import numpy as np
import pandas as pd
from helpers.pictures import legend_of, line

from t4e_utils.figures import overlap, style, training
from t4e_utils.metrics import intervals

HISTORY = pd.DataFrame(
    {
        "epoch": [1, 2, 3, 4],
        "phase": ["warm-up", "warm-up", "all", "all"],
        "train_loss": [0.9, 0.6, 0.4, 0.3],
        "valid_loss": [0.95, 0.7, 0.5, 0.6],
        "dice_wt": [0.1, 0.5, 0.7, 0.8],
        "score": [0.1, 0.4, 0.6, 0.7],
    }
)


def test_training_curves_are_the_columns_of_the_history():
    loss, score = training.training_curves(HISTORY).axes
    assert line(loss, "valid loss").get_ydata().tolist() == HISTORY["valid_loss"].tolist()
    assert line(loss, "train loss").get_xdata().tolist() == [1, 2, 3, 4]
    assert line(score, "dice wt").get_ydata().tolist() == HISTORY["dice_wt"].tolist()
    assert line(score, "dice wt").get_color() == style.REGION_COLOURS["WT"]
    assert line(loss, "best epoch 3").get_xdata() == [3, 3]
    warm_up = next(patch for patch in loss.patches)
    assert (warm_up.get_x(), warm_up.get_x() + warm_up.get_width()) == (0.5, 2.5)


def test_the_best_epoch_can_be_given():
    loss, _ = training.training_curves(HISTORY, best_epoch=4).axes
    assert line(loss, "best epoch 4").get_xdata() == [4, 4]


def test_several_trainings_share_a_picture_and_folds_of_a_type_a_colour():
    runs = {"FLAIR 0": HISTORY, "FLAIR 1": HISTORY, "T2w 0": HISTORY}
    figure = training.training_curves(runs, best_epoch={"FLAIR 0": 4, "FLAIR 1": 2, "T2w 0": 2})
    assert legend_of(figure) == ["FLAIR", "T2w", "training", "validation"]
    assert {each.get_color() for each in figure.axes[1].lines} == {
        style.SERIES_COLOURS["FLAIR"],
        style.SERIES_COLOURS["T2w"],
    }
    assert len([each for each in figure.axes[1].lines if len(each.get_xdata()) == 4]) == 3


def test_without_validation_no_epoch_is_the_best():
    history = HISTORY[["epoch", "train_loss"]].assign(valid_loss=np.nan)
    figure = training.training_curves(history)
    assert len(figure.axes) == 1
    assert training.best_row(history) is None
    assert training.best_row(HISTORY.assign(valid_loss=np.nan)) == 4
    assert len(figure.axes[0].lines) == 1


def test_a_score_that_repeats_another_is_drawn_once():
    repeated = HISTORY.assign(patient_auc=HISTORY["score"])
    assert training.score_columns(HISTORY) == ["dice_wt", "score"]
    assert training.score_columns(repeated) == ["dice_wt", "patient_auc"]
    assert training.score_columns(repeated, is_alone=False) == ["score"]


def test_best_median_and_worst_are_found_among_finite_figures():
    assert intervals.best_median_worst([0.2, np.nan, 0.9, 0.5]) == {
        "best": 2,
        "median": 3,
        "worst": 0,
    }
    assert intervals.best_median_worst([0.3, 0.9]) == {"best": 1, "worst": 0}
    assert intervals.best_median_worst([np.nan, 0.4]) == {"only": 1}
    assert intervals.best_median_worst([np.nan]) == {}


def test_dice_is_grouped_by_plane_type_and_size():
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
    assert by_series.get_title(loc="left") == "MRI type"
    assert np.allclose(
        sorted(set(by_size.collections[0].get_offsets()[:, 0])), [1, 2, 3]
    )  # a region of no size has no place here
    assert "4 patients" in figure.get_suptitle()


def test_the_threshold_sweep_names_the_best_threshold():
    table = pd.DataFrame({"threshold": [0.5, 0.3, 0.7], "region": "WT", "dice": [0.8, 0.9, np.nan]})
    axes = overlap.threshold_sweep(table, chosen=0.5).axes[0]
    assert legend_of(axes) == ["WT: best 0.900 at 0.30", "in use: 0.5"]
    assert axes.lines[0].get_xdata().tolist() == [0.3, 0.5]


def test_several_scores_of_several_trainings_have_a_panel_each():
    runs = {"FLAIR 0": HISTORY, "T2w 0": HISTORY.assign(dice_wt=0.3)}
    loss, first, second = training.training_curves(runs, scores=["score", "dice_wt"]).axes
    assert [each.get_ylabel() for each in (loss, first, second)] == ["loss", "score", "dice wt"]
    curves = [each.get_ydata().tolist() for each in second.lines if len(each.get_xdata()) == 4]
    assert curves == [HISTORY["dice_wt"].tolist(), [0.3] * 4]
