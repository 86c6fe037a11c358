"""Planes, displays and letters of every orientation, also of oblique ones."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest

from t4e_utils.scans.geometry import (
    PLANES,
    GeometryError,
    display_affine,
    display_axes,
    display_directions,
    orientation_letters,
    plane_of,
    reorient,
    spacing_of,
)

RIGHT, ANTERIOR, SUPERIOR = np.eye(3)
SIGNED_PERMUTATIONS = [
    np.eye(3)[list(order)] * signs
    for order in permutations(range(3))
    for signs in product((1, -1), repeat=3)
]


def affine_from(
    directions: np.ndarray, spacing_mm=(3.0, 0.5, 0.7), origin=(11.0, -22.0, 33.0)
) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(directions) * spacing_mm
    affine[:3, 3] = origin
    return affine


def rotation(degrees: float, axis: np.ndarray) -> np.ndarray:
    """Rodrigues' formula."""
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def places(array: np.ndarray, affine: np.ndarray) -> dict[int, tuple[float, ...]]:
    """Return where each voxel lies, by its value; slowly, one voxel at a time."""
    return {
        int(array[index]): tuple(np.round(affine @ (*index, 1), 6)[:3])
        for index in np.ndindex(array.shape)
    }


@pytest.mark.parametrize(
    ("plane", "slices", "rows", "columns"),
    [
        ("axial", SUPERIOR, -ANTERIOR, -RIGHT),
        ("coronal", -ANTERIOR, -SUPERIOR, -RIGHT),
        ("sagittal", -RIGHT, -SUPERIOR, -ANTERIOR),
    ],
)
def test_display_runs_as_radiological_series_are_drawn(plane, slices, rows, columns):
    np.testing.assert_array_equal(
        display_directions(plane), np.column_stack([slices, rows, columns])
    )


@pytest.mark.parametrize(
    ("plane", "letters"),
    [
        ("axial", {"left": "R", "right": "L", "top": "A", "bottom": "P"}),
        ("coronal", {"left": "R", "right": "L", "top": "S", "bottom": "I"}),
        ("sagittal", {"left": "A", "right": "P", "top": "S", "bottom": "I"}),
    ],
)
def test_letters_stand_where_a_radiologist_expects_them(plane, letters):
    assert orientation_letters(display_affine(plane)) == letters


@pytest.mark.parametrize("plane", PLANES)
def test_a_series_in_display_keeps_its_plane_and_is_not_turned(plane):
    affine = display_affine(plane, (3.0, 2.0, 1.0))
    assert plane_of(affine) == plane
    assert spacing_of(affine) == (3.0, 2.0, 1.0)
    assert display_axes(affine, plane) == ((0, 1, 2), (False, False, False))


@pytest.mark.parametrize("directions", SIGNED_PERMUTATIONS)
@pytest.mark.parametrize("plane", PLANES)
def test_every_orientation_is_turned_to_display_with_each_voxel_staying_in_its_place(
    directions, plane
):
    array, affine = np.arange(2 * 3 * 4).reshape(2, 3, 4), affine_from(directions)
    turned, turned_affine = reorient(array, affine, plane)
    np.testing.assert_allclose(
        turned_affine[:3, :3] / spacing_of(turned_affine), display_directions(plane), atol=1e-12
    )
    assert places(turned, turned_affine) == places(array, affine)


@pytest.mark.parametrize("first", PLANES)
@pytest.mark.parametrize("second", PLANES)
def test_turning_to_another_plane_and_back_is_the_identity(first, second):
    array = np.arange(2 * 3 * 4 * 2).reshape(2, 3, 4, 2)
    affine = display_affine(first, (3.0, 2.0, 1.0))
    back, back_affine = reorient(*reorient(array, affine, second), first)
    np.testing.assert_array_equal(back, array)
    np.testing.assert_allclose(back_affine, affine)


@pytest.mark.parametrize("seed", range(40))
def test_an_oblique_volume_gets_the_planes_it_is_turned_to_and_comes_back(seed):
    rng = np.random.default_rng(seed)
    turn = rotation(rng.uniform(0, 180), rng.normal(size=3))
    array, affine = (
        np.arange(2 * 3 * 4).reshape(2, 3, 4),
        affine_from(turn @ SIGNED_PERMUTATIONS[seed]),
    )
    own, own_affine = reorient(array, affine, plane_of(affine))
    for plane in PLANES:
        turned, turned_affine = reorient(own, own_affine, plane)
        assert plane_of(turned_affine) == plane
        back, back_affine = reorient(turned, turned_affine, plane_of(own_affine))
        np.testing.assert_array_equal(back, own)
        np.testing.assert_allclose(back_affine, own_affine, atol=1e-9)
    assert own.shape[0] == array.shape[0]


@pytest.mark.parametrize("degrees", [-40, -20, 20, 40])
def test_a_slightly_oblique_plane_is_named_by_its_nearest(degrees):
    for plane in PLANES:
        tilted = rotation(degrees, np.array([1.0, 0.2, 0.1])) @ display_directions(plane)
        assert plane_of(affine_from(tilted)) == plane


def test_a_tilted_gantry_does_not_change_the_plane():
    affine = display_affine("axial", (5.0, 0.5, 0.5))
    # the table moves on along y, further than from slice to slice
    affine[:3, 0] += 2.0 * ANTERIOR * 3
    assert plane_of(affine) == "axial"
    assert orientation_letters(affine) == orientation_letters(display_affine("axial"))


def test_an_image_turned_by_180_degrees_is_turned_back():
    array, affine = np.arange(2 * 3 * 4).reshape(2, 3, 4), display_affine("axial")
    upside_down = affine @ np.diag([1.0, -1.0, -1.0, 1.0])
    turned, _ = reorient(array, upside_down, "axial")
    np.testing.assert_array_equal(turned, array[:, ::-1, ::-1])
    assert orientation_letters(upside_down) == {
        "left": "L",
        "right": "R",
        "top": "P",
        "bottom": "A",
    }


def test_reorient_gives_a_view():
    array = np.zeros((2, 3, 4))
    assert np.shares_memory(reorient(array, display_affine("axial"), "coronal")[0], array)


def test_an_unknown_plane_is_refused():
    with pytest.raises(
        GeometryError, match="'oblique' is not known: choose from axial, coronal, sagittal"
    ):
        display_directions("oblique")


@pytest.mark.parametrize("affine", [np.zeros((4, 4)), np.full((4, 4), np.nan), np.eye(3)])
def test_an_affine_that_is_none_is_refused(affine):
    with pytest.raises(GeometryError, match="must be 4x4, finite and invertible"):
        plane_of(affine)
