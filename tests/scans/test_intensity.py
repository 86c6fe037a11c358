"""Windows are percentiles of the whole volume, grey levels those of the formula."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t4e_utils import T4EError
from t4e_utils.scans.intensity import to_uint8, window_from_percentiles, window_to_uint8


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32])
@pytest.mark.parametrize("percentiles", [(0.5, 99.5), (1, 90), (0, 99), (25.0, 75.0)])
def test_percentiles_are_those_of_numpy_over_nonzero_voxels(dtype, percentiles):
    array = np.random.default_rng(3).integers(0, 100, (5, 6, 7)).astype(dtype)
    expected = np.percentile(array[array != 0], percentiles)
    np.testing.assert_allclose(window_from_percentiles(array, percentiles), expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_percentiles_of_the_whole_array_count_zeros_and_negative_values(dtype):
    array = np.random.default_rng(3).integers(-50, 50, (5, 6, 7)).astype(dtype)
    expected = np.percentile(array, (10, 80))
    np.testing.assert_allclose(
        window_from_percentiles(array, (10, 80), nonzero=False), expected, rtol=1e-6
    )


@pytest.mark.parametrize("nonzero", [True, False])
def test_zero_to_hundred_is_minimum_and_maximum_of_everything(nonzero):
    array = np.array([[0, 5], [9, 7]], np.uint16)
    assert window_from_percentiles(array, (0, 100), nonzero=nonzero) == (0.0, 9.0)


def test_one_bright_vessel_does_not_blacken_the_volume():
    array = np.random.default_rng(0).integers(100, 200, (20, 30, 30)).astype(np.int16)
    array[10, 10, 10:14] = 30_000
    low, high = window_from_percentiles(array)
    assert 100 <= low < high < 201


def test_what_is_not_finite_is_left_out():
    array = np.array([np.nan, np.inf, -np.inf, 1.0, 3.0], np.float32)
    assert window_from_percentiles(array, (0, 100)) == (1.0, 3.0)
    assert window_from_percentiles(array, (0, 50)) == (1.0, 2.0)


@pytest.mark.parametrize("percentiles", [(0, 100), (0.5, 99.5)])
def test_a_constant_array_gives_a_window_of_no_width_and_a_black_image(percentiles):
    array = np.full((2, 3, 4), 7, np.int16)
    window = window_from_percentiles(array, percentiles)
    assert window == (7.0, 7.0)
    assert not to_uint8(array, window).any()


@pytest.mark.parametrize(
    "array", [np.zeros((2, 2)), np.full((2, 2), np.nan), np.zeros((0, 3), np.int16)]
)
def test_an_array_of_nothing_gives_zero_to_zero(array):
    assert window_from_percentiles(array) == (0.0, 0.0)


def test_grey_levels_match_a_table_made_by_hand():
    values = np.array([-5, 10, 11, 12, 35, 60, 99], np.int16)
    np.testing.assert_array_equal(to_uint8(values, (10, 60)), [0, 0, 5, 10, 128, 255, 255])


@settings(deadline=None)
@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=30),
    st.floats(-100, 100),
    st.floats(0.5, 500),
)
def test_grey_levels_match_the_formula_in_double_precision(values, low, width):
    array = np.array(values, np.float32)
    exact = np.clip((array.astype(float) - low) / width, 0, 1) * 255
    assert np.abs(to_uint8(array, (low, low + width)) - exact).max() <= 0.5 + 1e-2


def test_what_is_not_finite_becomes_black():
    array = np.array([np.nan, np.inf, -np.inf, 2.0], np.float32)
    np.testing.assert_array_equal(to_uint8(array, (0, 2)), [0, 0, 0, 255])


def test_large_arrays_are_converted_in_parts_with_the_same_result():
    # more than one part
    array = np.random.default_rng(1).integers(0, 4000, (37, 200, 210)).astype(np.uint16)
    expected = np.rint(np.clip((array.astype(np.float64) - 100) / 3000, 0, 1) * 255)
    grey = to_uint8(array, (100, 3100))
    assert grey.dtype == np.uint8
    assert np.abs(grey - expected).max() <= 1
    assert (grey != expected).mean() < 1e-4


def test_the_input_is_not_changed():
    array = np.array([1.0, np.nan, 3.0], np.float32)
    to_uint8(array, window_from_percentiles(array))
    np.testing.assert_array_equal(array, [1.0, np.nan, 3.0])


@pytest.mark.parametrize("percentiles", [(99, 1), (5, 5), (-1, 99), (0, 101), (1, 2, 3)])
def test_percentiles_that_do_not_grow_are_refused(percentiles):
    with pytest.raises(T4EError, match="not two growing numbers of 0 to 100"):
        window_from_percentiles(np.arange(5), percentiles)


@pytest.mark.parametrize("window", [(5, 1), (0, np.inf), (np.nan, 1)])
def test_a_window_upside_down_is_refused(window):
    with pytest.raises(T4EError, match=r"is not \(low, high\)"):
        to_uint8(np.arange(5), window)


def test_a_volume_in_8_bits_is_windowed_by_its_own_percentiles():
    array = np.random.default_rng(0).integers(0, 900, (4, 5, 6)).astype(np.int16)
    window = np.percentile(array[array != 0], (5, 90))
    np.testing.assert_array_equal(window_to_uint8(array, (5, 90)), to_uint8(array, window))
