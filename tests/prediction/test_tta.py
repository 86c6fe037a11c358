"""Views turn a square as their names say, and masks back to where they were."""

import numpy as np
import pytest
from helpers.stand_ins import disc

from t4e_utils.prediction.tta import MASK_VIEWS, VIEWS, apply_view, squares_of, undo_view
from t4e_utils.sampling.squares import Square


def test_a_rotation_turns_counter_clockwise_about_the_centre():
    square = np.zeros((1, 41, 41), np.uint8)
    square[0, 18:23, 35:40] = 255
    turned = apply_view(square, "rotate_10")[0]
    row, column = (np.average(axis, weights=turned) for axis in np.indices((41, 41)))
    angle = np.radians(10)
    there = (20 - 17 * np.sin(angle), 20 + 17 * np.cos(angle))
    assert (row, column) == pytest.approx(there, abs=0.15)


@pytest.mark.parametrize("view", MASK_VIEWS)
def test_turned_back_a_mask_is_where_it_was(view):
    truth = disc((64, 64), (24, 38), 11)[None]
    back = undo_view(apply_view(truth.astype(np.float32), view), view) > 0.5
    assert 2 * (back & truth).sum() / (back.sum() + truth.sum()) > 0.98


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("n_channels", [1, 3])
def test_channels_are_turned_as_single_pictures_are(view, n_channels):
    squares = np.random.default_rng(0).integers(0, 256, (2, 16, 16, n_channels), np.uint8)
    turned = apply_view(squares, view)
    assert turned.shape == squares.shape
    for channel in range(n_channels):
        alone = apply_view(squares[..., channel], view)
        np.testing.assert_array_equal(turned[..., channel], alone)


def test_views_turn_the_picture_as_their_names_say():
    generator = np.random.default_rng(0)
    pictures = [generator.integers(0, 256, (40, 36, 3), dtype=np.uint8) for _ in range(2)]
    square = Square(40)
    plain = squares_of(pictures[:1], square, "identity")
    np.testing.assert_array_equal(squares_of(pictures[:1], square, "hflip"), plain[..., ::-1])
    np.testing.assert_array_equal(squares_of(pictures[:1], square, "vflip"), plain[..., ::-1, :])
    wide = np.zeros((40, 40, 3), np.uint8)
    wide[disc((40, 40), (19.5, 19.5), 10)] = 255
    grown = squares_of([wide], square, "zoom_1.2") > 127
    assert grown[0, 0].sum() / (wide[..., 0] > 127).sum() == pytest.approx(1.44, rel=0.05)
    shapes = {squares_of(pictures[:2], Square(32), view).shape for view in VIEWS}
    assert shapes == {(2, 3, 32, 32)}
