from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t4e_utils.competitions.brain_tumor.rules import select_sequence_slices, select_tumour_slices
from t4e_utils.sampling.chunks import chunk_bounds
from t4e_utils.sampling.cutting import sample_every
from t4e_utils.sampling.pictures import SliceError, read_slice, write_slice
from t4e_utils.sampling.squares import from_square, to_square


def measures(brain_area, wt_area, n_components=None) -> pd.DataFrame:
    n_components = [1 if area else 0 for area in wt_area] if n_components is None else n_components
    return pd.DataFrame(
        {"brain_area": brain_area, "wt_area": wt_area, "n_components": n_components}
    )


def smooth_images(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).random(shape).astype(np.float32)
    return np.stack([cv2.GaussianBlur(image, (0, 0), 6) for image in noise])


# Sampling


@pytest.mark.parametrize(
    ("n", "every"), [(0, 1), (1, 1), (9, 1), (14, 1), (16, 2), (60, 6), (155, 16)]
)
def test_about_ten_of_many_are_taken(n, every):
    assert list(sample_every(range(n), step=0.1)) == [i for i in range(n) if i % every == 0]


def test_a_step_of_zero_takes_all():
    assert list(sample_every(range(30), step=0.0)) == list(range(30))


def test_tumour_slices_are_those_with_enough_tumour_and_of_these_every_kth():
    table = measures([0, 1000, 1000, 1000, 1000, 1000], [0, 10, 11, 0, 500, 90])
    assert select_tumour_slices(table, sampling_step=0.0).tolist() == [
        False,
        False,
        True,
        False,
        True,
        True,
    ]
    many = measures([100] * 40, [0] * 10 + [50] * 30)
    assert np.flatnonzero(select_tumour_slices(many)).tolist() == list(range(10, 40, 3))


def test_every_kth_slice_of_brain_without_tumour_is_taken_beside_them_if_asked_for():
    # 5 empty ones, 30 of brain alone, 10 with tumour
    table = measures([0] * 5 + [100] * 40, [0] * 35 + [50] * 10)
    assert np.flatnonzero(select_tumour_slices(table)).tolist() == list(range(35, 45))
    chosen = select_tumour_slices(table, sampling_step=0.4, empty_step=0.25)
    # every eighth, every fourth
    assert np.flatnonzero(chosen).tolist() == [5, 13, 21, 29, 35, 39, 43]
    # too little tumour to learn from, too much to be called empty
    little = measures([100, 100, 100], [0, 1, 0])
    assert select_tumour_slices(little, empty_step=0.0).tolist() == [True, False, True]


def test_no_tumour_gives_no_slices_to_segment():
    assert not select_tumour_slices(measures([100, 0], [0, 0])).any()


# Slices for a sequence


def test_the_filter_keeps_slices_with_brain_tumour_and_few_pieces():
    table = measures(
        brain_area=[0, 100, 101, 500, 500, 500, 500],
        wt_area=[0, 50, 50, 12, 13, 50, 50],
        n_components=[0, 1, 1, 1, 1, 5, 6],
    )
    kept, fallback = select_sequence_slices(table, 1000)
    assert kept.tolist() == [False, False, True, False, True, True, False]
    assert fallback == ""


def test_if_none_passes_the_slices_with_the_largest_tumour_are_taken():
    table = measures([500] * 6, [1, 0, 5, 3, 3, 2])
    kept, fallback = select_sequence_slices(table, 1000, sequence_length=3)
    assert (kept.tolist(), fallback) == ([False, False, True, True, True, False], "largest tumour")


def test_slices_without_any_tumour_do_not_fill_up_the_largest():
    kept, fallback = select_sequence_slices(measures([500] * 6, [0, 0, 5, 0, 0, 0]), 1000)
    assert (kept.tolist(), fallback) == (
        [False, False, True, False, False, False],
        "largest tumour",
    )


@pytest.mark.parametrize(
    ("n", "length", "expected"),
    [(7, 3, [2, 3, 4]), (8, 3, [2, 3, 4]), (2, 3, [0, 1]), (3, 3, [0, 1, 2]), (0, 3, [])],
)
def test_without_tumour_the_central_slices_are_taken(n, length, expected):
    kept, fallback = select_sequence_slices(
        measures([500] * n, [0] * n), 1000, sequence_length=length
    )
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
    kept, fallback = select_sequence_slices(measures(*zip(*rows, strict=True)), 1000)
    assert kept.any()
    assert fallback in ("", "largest tumour", "central slices")
    assert fallback == "" or kept.sum() <= 35


# Chunks


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (0, []),
        (1, [(0, 1)]),
        (20, [(0, 20)]),
        (35, [(0, 35)]),
        (36, [(0, 35), (5, 36)]),
        (41, [(0, 35), (5, 40), (10, 41)]),
        (40, [(0, 35), (5, 40)]),
    ],
)
def test_chunk_bounds_match_the_specification(n, expected):
    assert chunk_bounds(n) == expected


def test_a_hundred_steps_give_fourteen_chunks():
    assert len(chunk_bounds(100)) == 14
    assert chunk_bounds(100)[-1] == (65, 100)


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 60), st.integers(1, 20))
def test_chunks_cover_every_step_if_the_stride_is_not_longer_and_only_the_last_is_short(
    n, length, stride
):
    bounds = chunk_bounds(n, length=length, stride=stride)
    covered = {step for start, stop in bounds for step in range(start, stop)}
    assert covered == set(range(n)) if stride <= length else bounds[0][0] == 0
    assert all(stop - start == length for start, stop in bounds[:-1])
    expected = 1 if n <= length else int(np.ceil((n - length) / stride)) + 1
    assert len(bounds) == expected


# Squares


def test_padding_centres_the_slice_in_zeros():
    image = np.full((1, 2, 5), 7, np.uint8)
    square = to_square(image, 5)
    np.testing.assert_array_equal(square[0], [[0] * 5, [7] * 5, [7] * 5, [0] * 5, [0] * 5])


def test_stretching_fills_the_square():
    assert (to_square(np.full((2, 30, 50), 7, np.uint8), 20, stretch=True) == 7).all()


def test_a_slice_that_is_a_square_of_the_right_size_is_not_changed():
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    np.testing.assert_array_equal(to_square(images, 32), images)
    np.testing.assert_array_equal(from_square(images, (32, 32)), images)


def test_zoom_resizes_to_the_rounded_side_and_cuts_the_centre():
    images = np.random.default_rng(0).integers(0, 256, (1, 224, 224)).astype(np.uint8)
    resized = cv2.resize(images[0], (269, 269), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(to_square(images, 224, zoom=1.2)[0], resized[22:246, 22:246])


def test_shrinking_takes_means_and_nearest_keeps_masks_binary():
    image = np.random.default_rng(0).integers(0, 2, (1, 64, 64)).astype(np.uint8) * 255
    means = image.reshape(16, 4, 16, 4).mean(axis=(1, 3))
    assert np.abs(to_square(image, 16)[0] - means).max() <= 0.5
    assert set(np.unique(to_square(image, 20, nearest=True))) == {0, 255}


@pytest.mark.parametrize("shape", [(40, 60), (61, 40), (50, 50), (33, 32)])
@pytest.mark.parametrize("is_stretched", [True, False])
def test_a_map_comes_back_to_its_slice(shape, is_stretched):
    maps = smooth_images((3, *shape))
    back = from_square(to_square(maps, 128, stretch=is_stretched), shape, stretch=is_stretched)
    assert back.shape == maps.shape
    inner = (slice(None), slice(3, -3), slice(3, -3))
    assert np.abs(back - maps)[inner].max() < 0.01


@pytest.mark.parametrize("shape", [(100, 140), (141, 100), (120, 120)])
def test_a_zoomed_map_comes_back_with_zeros_where_nothing_was_seen(shape):
    maps = smooth_images((1, *shape))
    back = from_square(to_square(maps, 224, zoom=1.2), shape, zoom=1.2)[0]
    seen = max(shape) / 1.2
    from_centre = np.max(np.abs(np.indices(shape).T - (np.array(shape) - 1) / 2), axis=-1).T
    is_inside, is_outside = from_centre < seen / 2 - 2, from_centre > seen / 2 + 2
    # there the padding shines through
    is_inside[[0, 1, -2, -1]] = is_inside[:, [0, 1, -2, -1]] = False
    assert np.abs(back - maps[0])[is_inside].max() < 0.02
    assert is_outside.any()
    assert (back[is_outside] == 0).all()


def test_a_pixel_comes_back_to_its_place_whatever_the_parity():
    for shape in [(31, 44), (32, 45), (45, 32)]:
        image = np.zeros((1, *shape), np.float32)
        image[0, 20, 9] = 1
        square = to_square(image, max(shape))
        np.testing.assert_array_equal(from_square(square, shape), image)


def test_channels_go_the_same_way_as_single_images():
    images = np.random.default_rng(0).integers(0, 256, (2, 30, 41, 3)).astype(np.uint8)
    square = to_square(images, 24, zoom=1.2)
    for channel in range(3):
        np.testing.assert_array_equal(
            square[..., channel], to_square(images[..., channel], 24, zoom=1.2)
        )
    assert from_square(square, (30, 41), zoom=1.2).shape == images.shape


def test_turned_views_are_taken_as_they_are():
    images = np.random.default_rng(0).integers(0, 256, (4, 30, 41)).astype(np.uint8)
    view = images.transpose(2, 0, 1)[:, ::-1, ::-1]
    np.testing.assert_array_equal(to_square(view, 20), to_square(np.ascontiguousarray(view), 20))


# Stored slices


def test_a_slice_comes_back_as_it_was_written(tmp_path):
    rng = np.random.default_rng(0)
    image, masks = rng.integers(0, 256, (7, 9)).astype(np.uint8), rng.random((2, 7, 9)) < 0.4
    stored = read_slice(write_slice(tmp_path / "new" / "1.png", image, masks))
    assert stored.flags.c_contiguous
    np.testing.assert_array_equal(stored[..., 0], image)
    np.testing.assert_array_equal(stored[..., 1:], np.moveaxis(masks, 0, -1) * 255)


def test_a_stored_slice_looks_red_green_and_blue_to_others(tmp_path):
    from PIL import Image

    image, masks = np.full((4, 4), 200, np.uint8), np.zeros((2, 4, 4), bool)
    masks[0, 1], masks[1, 2] = True, True
    with Image.open(write_slice(tmp_path / "1.png", image, masks)) as opened:
        assert opened.getpixel((0, 0)) == (200, 0, 0)
        assert opened.getpixel((0, 1)) == (200, 255, 0)
        assert opened.getpixel((0, 2)) == (200, 0, 255)


def test_no_half_written_slice_is_left(tmp_path):
    write_slice(tmp_path / "1.png", np.zeros((4, 4), np.uint8), np.zeros((2, 4, 4), bool))
    assert [path.name for path in tmp_path.iterdir()] == ["1.png"]


@pytest.mark.parametrize(
    ("image", "masks"),
    [
        (np.zeros((4, 4), np.float32), np.zeros((2, 4, 4))),
        (np.zeros((4, 4), np.uint8), np.zeros((4, 4))),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((2, 4, 4))),
    ],
)
def test_arrays_that_are_no_slice_are_refused(tmp_path, image, masks):
    with pytest.raises(
        SliceError, match=r"a slice is a uint8 image \(H, W\) with masks \(2, H, W\)"
    ):
        write_slice(tmp_path / "1.png", image, masks)


def test_a_missing_slice_is_named(tmp_path):
    with pytest.raises(SliceError, match=r"7\.png cannot be read \(No such file"):
        read_slice(tmp_path / "7.png")


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "grey"])
def test_a_damaged_slice_is_refused(tmp_path, damage):
    path = write_slice(
        tmp_path / "1.png", np.zeros((40, 40), np.uint8), np.zeros((2, 40, 40), bool)
    )
    grey = cv2.imencode(".png", np.zeros((4, 4), np.uint8))[1].tobytes()
    path.write_bytes(
        {"empty": b"", "cut": path.read_bytes()[:-30], "text": b"no image", "grey": grey}[damage]
    )
    with pytest.raises(SliceError, match="damaged or no 8-bit PNG of three channels"):
        read_slice(path)
