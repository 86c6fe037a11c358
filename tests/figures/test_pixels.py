"""Slices as arrays have their masks and letters where they belong."""

import numpy as np
import pytest

from t4e_utils.figures import slices, style
from t4e_utils.figures.palette import Palette
from t4e_utils.figures.pixels import FILL, draw_rgb
from t4e_utils.scans import geometry

BLUE = (86, 180, 233)  # #56B4E9, the colour of WT


def square():
    mask = np.zeros((2, 20, 40), bool)
    mask[0, 5:15, 10:30] = True
    return mask


def test_a_truth_is_a_line_along_the_border_of_its_mask_at_the_place_of_the_pixels():
    drawn = draw_rgb(
        np.zeros((20, 40), np.uint8),
        {"truth": square()},
        (2.0, 1.0),
        {},
        window=(0, 255),
        height=400,
    )
    assert drawn.shape == (400, 400, 3)
    rows, columns = np.nonzero((drawn == BLUE).all(axis=-1))
    # 20 display pixels a row, 10 a column
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (100, 299, 100, 299)
    assert not drawn[102:298, 102:298].any()


def test_a_prediction_fills_its_mask_and_lets_the_image_through():
    drawn = draw_rgb(
        np.full((20, 40), 100, np.uint8),
        {"prediction": square()},
        (1.0, 1.0),
        {},
        window=(0, 255),
        height=40,
    )
    assert drawn[10, 20].tolist() == [round((1 - FILL) * 100 + FILL * part) for part in BLUE]
    assert drawn[2, 2].tolist() == [100] * 3
    assert (drawn[10, 20] != 100).all()


def test_colours_are_those_of_the_palette():
    style.set_palette(Palette(colours={"vessel": "#0A141E"}, regions=("vessel",)))
    image = np.zeros((20, 40), np.uint8)
    drawn = draw_rgb(image, {"truth": square()[:1]}, (1.0, 1.0), {}, window=(0, 255))
    assert {tuple(colour) for colour in np.unique(drawn.reshape(-1, 3), axis=0).tolist()} == {
        (0, 0, 0),
        (10, 20, 30),
    }


@pytest.mark.parametrize("plane", geometry.PLANES)
def test_each_letter_stands_at_its_edge(plane):
    letters = slices.PLANE_LETTERS[plane]
    for edge in letters:
        drawn = draw_rgb(
            np.zeros((50, 50), np.uint8),
            {},
            (1.0, 1.0),
            {edge: letters[edge]},
            window=(0, 255),
            height=400,
        )[..., 0]
        row, column = (np.mean(where) / 400 for where in np.nonzero(drawn))
        near = {"left": column < 0.1, "right": column > 0.9, "top": row < 0.1, "bottom": row > 0.9}
        assert near[edge]
        assert sum(near.values()) == 1
