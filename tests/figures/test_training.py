"""Training curves show the numbers they are given, and batches what a network receives."""

import numpy as np
import pandas as pd
from helpers.pictures import legend_of, line

from t4e_utils.figures import training
from t4e_utils.sampling.pictures import Picture

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


def test_training_curves_are_the_columns_of_the_history(palette):
    loss, score = training.training_curves(HISTORY).axes
    assert line(loss, "valid loss").get_ydata().tolist() == HISTORY["valid_loss"].tolist()
    assert line(loss, "train loss").get_xdata().tolist() == [1, 2, 3, 4]
    assert line(score, "dice wt").get_ydata().tolist() == HISTORY["dice_wt"].tolist()
    assert line(score, "dice wt").get_color() == palette.colours["WT"]
    assert line(loss, "best epoch 3").get_xdata() == [3, 3]
    warm_up = next(patch for patch in loss.patches)
    assert (warm_up.get_x(), warm_up.get_x() + warm_up.get_width()) == (0.5, 2.5)


def test_the_best_epoch_can_be_given():
    loss, _ = training.training_curves(HISTORY, best_epoch=4).axes
    assert line(loss, "best epoch 4").get_xdata() == [4, 4]


def test_several_trainings_share_a_picture_and_folds_of_a_series_a_colour(palette):
    runs = {"FLAIR 0": HISTORY, "FLAIR 1": HISTORY, "T2w 0": HISTORY}
    figure = training.training_curves(runs, best_epoch={"FLAIR 0": 4, "FLAIR 1": 2, "T2w 0": 2})
    assert legend_of(figure) == ["FLAIR", "T2w", "training", "validation"]
    assert {each.get_color() for each in figure.axes[1].lines} == {
        palette.colours["FLAIR"],
        palette.colours["T2w"],
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


def test_several_scores_of_several_trainings_have_a_panel_each():
    runs = {"FLAIR 0": HISTORY, "T2w 0": HISTORY.assign(dice_wt=0.3)}
    loss, first, second = training.training_curves(runs, scores=["score", "dice_wt"]).axes
    assert [each.get_ylabel() for each in (loss, first, second)] == ["loss", "score", "dice wt"]
    curves = [each.get_ydata().tolist() for each in second.lines if len(each.get_xdata()) == 4]
    assert curves == [HISTORY["dice_wt"].tolist(), [0.3] * 4]


def test_a_batch_is_drawn_pixel_by_pixel():
    images = np.arange(2 * 4 * 4, dtype=np.uint8).reshape(2, 4, 4)
    items = [
        Picture(images[k, ..., None], ("image",), title=name)
        for k, name in enumerate(("one", "two"))
    ]
    figure = training.batch_grid(items)
    assert [axes.get_title() for axes in figure.axes] == ["one", "two"]
    assert np.array_equal(figure.axes[1].images[0].get_array(), images[1])
    assert figure.axes[1].images[0].get_interpolation() == "nearest"
    assert "2 images, 4 × 4 pixels, uint8" in figure.get_suptitle()


class DataSet:
    """Items as a data set gives them; notes which were read."""

    def __init__(self):
        self.read = []

    def __len__(self):
        return 40

    def __getitem__(self, index):
        self.read.append(index)
        masks = np.zeros((2, 6, 6), bool)
        masks[0, 2:4, 2:4] = True
        return {"inputs": np.full((1, 6, 6), index, np.uint8), "targets": masks}


def test_of_a_data_set_only_the_items_shown_are_read():
    data = DataSet()
    figure = training.batch_grid(data, n=3)
    assert data.read == [0, 19, 39]
    assert [int(axes.images[0].get_array()[0, 0]) for axes in figure.axes] == [0, 19, 39]
    assert all(len(axes.collections) == 1 for axes in figure.axes)
    assert legend_of(figure) == ["WT", "ET"]
