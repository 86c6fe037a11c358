from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from t4e_utils.annotations.regions import (
    area_shares,
    areas_along_axes,
    areas_of,
    count_components,
    filled_outline,
    labels_of,
    largest_component,
    measure_masks,
    measure_slices,
    regions_from_labels,
)

REGIONS = {"Whole": (1, 2, 4), "Core": (4,)}
MEASURED = {"regions": tuple(REGIONS), "foreground": "tissue"}


def drawn(text: str) -> np.ndarray:
    return np.array([[character == "#" for character in line] for line in text.split()])


def count_by_flooding(mask: np.ndarray) -> int:
    """Count components by painting them over, one pixel after the other."""
    left = {tuple(index) for index in np.argwhere(mask)}
    components = 0
    while left:
        components += 1
        front = [left.pop()]
        while front:
            y, x = front.pop()
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            front += near
    return components


def test_regions_are_unions_of_labels_in_the_order_of_the_mapping():
    labels = np.array([[[0, 1, 2, 3, 4]]], np.uint8)
    np.testing.assert_array_equal(
        regions_from_labels(labels, REGIONS), [[[[0, 1, 1, 0, 1]]], [[[0, 0, 0, 0, 1]]]]
    )
    np.testing.assert_array_equal(
        regions_from_labels(labels, {"Core": (4,), "none": ()})[:, 0, 0],
        [[0, 0, 0, 0, 1], [0, 0, 0, 0, 0]],
    )


def test_regions_take_label_maps_of_any_integer_type_and_layout():
    labels = np.random.default_rng(0).integers(0, 5, (4, 5, 6))
    expected = np.stack([np.isin(labels, values) for values in REGIONS.values()])
    for dtype in (np.uint8, np.int16, np.int64):
        np.testing.assert_array_equal(regions_from_labels(labels.astype(dtype), REGIONS), expected)
    np.testing.assert_array_equal(
        regions_from_labels(labels.transpose(2, 1, 0), REGIONS), expected.transpose(0, 3, 2, 1)
    )


@pytest.mark.parametrize(
    ("picture", "n"),
    [
        ("...  ...", 0),
        ("#..  ...", 1),
        ("#..  .#.", 1),  # corners touch
        ("#.#  ...", 2),
        ("###  #.#  ###", 1),  # a hole is no component
        ("#####  #...#  #.#.#  #...#  #####", 2),  # but something in the hole is
    ],
)
def test_components_touch_at_corners_and_holes_do_not_count(picture, n):
    assert count_components(drawn(picture)) == n


@pytest.mark.parametrize("seed", range(10))
def test_components_are_those_found_by_flooding(seed):
    mask = np.random.default_rng(seed).random((12, 15)) < 0.3
    assert count_components(mask) == count_by_flooding(mask)


def test_measures_match_a_table_made_by_hand():
    image = np.zeros((3, 2, 4), np.uint8)
    image[1] = [[9, 9, 0, 1], [9, 0, 0, 1]]
    image[2] = 255
    masks = np.zeros((2, 3, 2, 4), bool)
    masks[0, 1] = [[1, 0, 0, 1], [0, 0, 0, 1]]
    masks[0, 2] = [[1, 1, 0, 0], [0, 0, 0, 0]]
    masks[1, 2, 0, 0] = True
    measures = measure_slices(image, masks, **MEASURED)
    assert measures.columns.tolist() == [
        "slice",
        "tissue_area",
        "whole_area",
        "core_area",
        "n_components",
    ]
    assert measures.to_numpy().tolist() == [[0, 0, 0, 0, 0], [1, 5, 3, 0, 2], [2, 8, 2, 1, 1]]


def test_measures_of_a_turned_view_are_those_of_its_copy():
    rng = np.random.default_rng(5)
    image, masks = rng.integers(0, 3, (4, 5, 6)).astype(np.uint8), rng.random((2, 4, 5, 6)) < 0.2
    turned, turned_masks = image.transpose(2, 0, 1)[::-1], masks.transpose(0, 3, 1, 2)[:, ::-1]
    expected = measure_slices(
        np.ascontiguousarray(turned), np.ascontiguousarray(turned_masks), **MEASURED
    )
    assert measure_slices(turned, turned_masks, **MEASURED).equals(expected)


@pytest.mark.parametrize("shape", [(3, 4, 5), (300, 4, 5), (0, 4, 5)])
def test_areas_along_all_axes_are_those_of_the_turned_volume(shape):
    volume = np.random.default_rng(0).integers(0, 3, shape, dtype=np.uint8)
    found = areas_along_axes(volume)
    for axis, areas in enumerate(found):
        assert areas.tolist() == areas_of(np.moveaxis(volume, axis, 0)).tolist()


def test_the_largest_component_holds_voxels_that_touch_at_a_corner_and_an_empty_mask_has_none():
    mask = np.zeros((4, 5, 6), bool)
    mask[0, 0, :2] = True  # two voxels
    # three, each touching the next at a corner alone
    mask[1, 3, 3] = mask[2, 4, 4] = mask[3, 3, 5] = True
    found = largest_component(mask)
    assert sorted(map(tuple, np.argwhere(found).tolist())) == [(1, 3, 3), (2, 4, 4), (3, 3, 5)]
    assert not largest_component(np.zeros_like(mask)).any()


def test_labels_of_regions_have_the_background_among_them():
    assert labels_of(REGIONS) == {0, 1, 2, 4}


def test_any_number_of_regions_is_measured_and_the_components_are_those_of_the_first():
    masks = np.zeros((3, 1, 2, 5), bool)
    masks[0, 0, 0, ::2] = masks[1, 0, 0, 0] = True
    measures = measure_masks(masks, regions=("a", "B", "c d"))
    assert measures.columns.tolist() == ["slice", "a_area", "b_area", "c d_area", "n_components"]
    assert measures.to_numpy().tolist() == [[0, 3, 1, 0, 3]]
    known = measure_masks(masks, [[7], [8], [9]], regions=("a", "B", "c d"))
    assert known.to_numpy().tolist() == [[0, 7, 8, 9, 3]]


def test_shares_are_of_the_foreground_and_0_without_one():
    measures = pd.DataFrame(
        {"tissue_area": [4, 0, 10], "whole_area": [2, 0, 5], "core_area": [1, 0, 0]},
        index=[7, 8, 9],
    )
    shares = area_shares(measures, **MEASURED)
    assert shares.to_dict("list") == {"Whole": [0.5, 0, 0.5], "Core": [0.25, 0, 0]}
    assert shares.index.tolist() == [7, 8, 9]


def test_of_equally_large_components_the_first_is_taken():
    mask = np.zeros((2, 3, 5), bool)
    mask[0, 0, 0] = mask[1, 2, 4] = True
    assert np.argwhere(largest_component(mask)).tolist() == [[0, 0, 0]]


def test_a_black_hole_lies_inside_the_outline_and_a_bay_does_not():
    image = np.array(
        [[[0, 0, 0, 0, 0], [0, 9, 1, 9, 0], [0, 9, 0, 9, 0], [0, 9, 9, 9, 0]]], np.uint8
    )
    expected = image > 0
    expected[0, 2, 2] = True
    np.testing.assert_array_equal(filled_outline(image), expected)
    image[0, 1, 2] = 0  # now it is open to the outside
    np.testing.assert_array_equal(filled_outline(image), image > 0)


def outside_by_flooding(black: np.ndarray) -> np.ndarray:
    """Return what black pixels the border reaches, from neighbour to neighbour."""
    reached = np.zeros(black.shape, bool)
    front = [(y, x) for y, x in np.ndindex(black.shape) if black[y, x]]
    front = [
        (y, x) for y, x in front if {y, x} & {0} or y + 1 == len(black) or x + 1 == len(black.T)
    ]
    while front:
        y, x = front.pop()
        if 0 <= y < len(black) and 0 <= x < len(black.T) and black[y, x] and not reached[y, x]:
            reached[y, x] = True
            front += [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
    return reached


@pytest.mark.parametrize("dtype", [np.uint8, np.int16])
def test_outlines_are_filled_slice_by_slice_as_by_flooding(dtype):
    rng = np.random.default_rng(3)
    image = np.where(rng.random((8, 13, 15)) < 0.6, rng.integers(1, 9, (8, 13, 15)), 0).astype(
        dtype
    )
    expected = [~outside_by_flooding(each == 0) for each in image]
    np.testing.assert_array_equal(filled_outline(image), expected)
    assert (filled_outline(image) & (image == 0)).any()
    np.testing.assert_array_equal(filled_outline(-image.astype(np.int16)), expected)
