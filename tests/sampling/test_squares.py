"""Slices of any shape become squares and come back, each pixel at its place."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from t4e_utils.sampling.squares import Square, from_square, to_square


def smooth_images(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).random(shape).astype(np.float32)
    return np.stack([cv2.GaussianBlur(image, (0, 0), 6) for image in noise])


def test_padding_centres_the_slice_in_zeros():
    image = np.full((1, 2, 5), 7, np.uint8)
    square = to_square(image, Square(5))
    np.testing.assert_array_equal(square[0], [[0] * 5, [7] * 5, [7] * 5, [0] * 5, [0] * 5])


def test_stretching_fills_the_square():
    square = Square(20, is_stretched=True)
    assert (to_square(np.full((2, 30, 50), 7, np.uint8), square) == 7).all()


def test_a_slice_that_is_a_square_of_the_right_size_is_not_changed():
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    np.testing.assert_array_equal(to_square(images, Square(32)), images)
    np.testing.assert_array_equal(from_square(images, (32, 32), Square(32)), images)


@pytest.mark.parametrize(
    ("size", "zoom", "side"), [(224, 1.2, 268), (96, 1.2, 115), (100, 1.15, 115), (224, 1.0, 224)]
)
def test_side_of_a_zoom_is_rounded_down(size, zoom, side):
    assert Square(size, zoom=zoom).side == side


def test_zoom_resizes_to_its_side_and_cuts_the_centre():
    images = np.random.default_rng(0).integers(0, 256, (1, 224, 224)).astype(np.uint8)
    resized = cv2.resize(images[0], (268, 268), interpolation=cv2.INTER_LINEAR)
    square = Square(224, zoom=1.2)
    np.testing.assert_array_equal(to_square(images, square)[0], resized[22:246, 22:246])


def test_shrinking_takes_means_and_nearest_keeps_masks_binary():
    image = np.random.default_rng(0).integers(0, 2, (1, 64, 64)).astype(np.uint8) * 255
    means = image.reshape(16, 4, 16, 4).mean(axis=(1, 3))
    assert np.abs(to_square(image, Square(16))[0] - means).max() <= 0.5
    assert set(np.unique(to_square(image, Square(20), is_nearest=True))) == {0, 255}


@pytest.mark.parametrize("shape", [(40, 60), (61, 40), (50, 50), (33, 32)])
@pytest.mark.parametrize("is_stretched", [True, False])
def test_a_map_comes_back_to_its_slice(shape, is_stretched):
    maps, square = smooth_images((3, *shape)), Square(128, is_stretched)
    back = from_square(to_square(maps, square), shape, square)
    assert back.shape == maps.shape
    inner = (slice(None), slice(3, -3), slice(3, -3))
    assert np.abs(back - maps)[inner].max() < 0.01


@pytest.mark.parametrize("shape", [(100, 140), (141, 100), (120, 120)])
def test_a_zoomed_map_comes_back_with_zeros_where_nothing_was_seen(shape):
    maps, square = smooth_images((1, *shape)), Square(224, zoom=1.2)
    back = from_square(to_square(maps, square), shape, square)[0]
    seen = max(shape) / 1.2
    from_centre = np.max(np.abs(np.indices(shape).T - (np.array(shape) - 1) / 2), axis=-1).T
    is_inside, is_outside = from_centre < seen / 2 - 2, from_centre > seen / 2 + 2
    # there the padding shines through
    is_inside[[0, 1, -2, -1]] = is_inside[:, [0, 1, -2, -1]] = False
    assert np.abs(back - maps[0])[is_inside].max() < 0.02
    assert is_outside.any()
    assert (back[is_outside] == 0).all()


@pytest.mark.parametrize("shape", [(31, 44), (32, 45), (45, 32)])
def test_a_pixel_comes_back_to_its_place_whatever_the_parity(shape):
    image, square = np.zeros((1, *shape), np.float32), Square(max(shape))
    image[0, 20, 9] = 1
    np.testing.assert_array_equal(from_square(to_square(image, square), shape, square), image)


@pytest.mark.parametrize("n_channels", [1, 2, 3, 4])
def test_channels_go_the_same_way_as_single_images(n_channels):
    images = np.random.default_rng(0).integers(0, 256, (2, 30, 41, n_channels)).astype(np.uint8)
    square = Square(24, zoom=1.2)
    found = to_square(images, square)
    for channel in range(n_channels):
        expected = to_square(images[..., channel], square)
        np.testing.assert_array_equal(found[..., channel], expected)
    assert from_square(found, (30, 41), square).shape == images.shape


def test_turned_views_are_taken_as_they_are():
    images = np.random.default_rng(0).integers(0, 256, (4, 30, 41)).astype(np.uint8)
    view, square = images.transpose(2, 0, 1)[:, ::-1, ::-1], Square(20)
    np.testing.assert_array_equal(
        to_square(view, square), to_square(np.ascontiguousarray(view), square)
    )
