from __future__ import annotations

import numpy as np
import pytest

from t4e_utils.annotations.regions import (
    areas_along_axes,
    areas_of,
    count_components,
    largest_component,
    measure_slices,
    regions_from_labels,
)

REGIONS = {"WT": (1, 2, 4), "ET": (4,)}


def drawn(text: str) -> np.ndarray:
    return np.array([[character == "#" for character in line] for line in text.split()])


def count_by_flooding(mask: np.ndarray) -> int:
    """Count pieces by painting them over, one pixel after the other."""
    left = {tuple(index) for index in np.argwhere(mask)}
    pieces = 0
    while left:
        pieces += 1
        front = [left.pop()]
        while front:
            y, x = front.pop()
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            front += near
    return pieces


def test_regions_are_unions_of_labels_in_the_order_of_the_mapping():
    labels = np.array([[[0, 1, 2, 3, 4]]], np.uint8)
    np.testing.assert_array_equal(
        regions_from_labels(labels, REGIONS), [[[[0, 1, 1, 0, 1]]], [[[0, 0, 0, 0, 1]]]]
    )
    np.testing.assert_array_equal(
        regions_from_labels(labels, {"ET": (4,), "none": ()})[:, 0, 0],
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
        ("###  #.#  ###", 1),  # a hole is no piece
        ("#####  #...#  #.#.#  #...#  #####", 2),  # but something in the hole is
    ],
)
def test_pieces_touch_at_corners_and_holes_do_not_count(picture, n):
    assert count_components(drawn(picture)) == n


@pytest.mark.parametrize("seed", range(10))
def test_pieces_are_those_found_by_flooding(seed):
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
    measures = measure_slices(image, masks)
    assert measures.columns.tolist() == [
        "slice",
        "brain_area",
        "wt_area",
        "et_area",
        "n_components",
    ]
    assert measures.to_numpy().tolist() == [[0, 0, 0, 0, 0], [1, 5, 3, 0, 2], [2, 8, 2, 1, 1]]


def test_measures_of_a_turned_view_are_those_of_its_copy():
    rng = np.random.default_rng(5)
    image, masks = rng.integers(0, 3, (4, 5, 6)).astype(np.uint8), rng.random((2, 4, 5, 6)) < 0.2
    turned, turned_masks = image.transpose(2, 0, 1)[::-1], masks.transpose(0, 3, 1, 2)[:, ::-1]
    expected = measure_slices(np.ascontiguousarray(turned), np.ascontiguousarray(turned_masks))
    assert measure_slices(turned, turned_masks).equals(expected)


@pytest.mark.parametrize("shape", [(3, 4, 5), (300, 4, 5), (0, 4, 5)])
def test_areas_along_all_axes_are_those_of_the_turned_volume(shape):
    volume = np.random.default_rng(0).integers(0, 3, shape, dtype=np.uint8)
    found = areas_along_axes(volume)
    for axis, areas in enumerate(found):
        assert areas.tolist() == areas_of(np.moveaxis(volume, axis, 0)).tolist()


def test_the_largest_piece_holds_voxels_that_touch_at_a_corner_and_an_empty_mask_has_none():
    mask = np.zeros((4, 5, 6), bool)
    mask[0, 0, :2] = True  # two voxels
    # three, each touching the next at a corner alone
    mask[1, 3, 3] = mask[2, 4, 4] = mask[3, 3, 5] = True
    found = largest_component(mask)
    assert sorted(map(tuple, np.argwhere(found).tolist())) == [(1, 3, 3), (2, 4, 4), (3, 3, 5)]
    assert not largest_component(np.zeros_like(mask)).any()
