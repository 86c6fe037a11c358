"""Fusion of series.

A hand-computed tables, a slow second implementation, and a head cut in other planes.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from t4e_utils.phantoms.head import make_head
from t4e_utils.phantoms.head_painting import paint
from t4e_utils.prediction.fusion import LARGEST_SIDE, fuse_maps
from t4e_utils.scans.geometry import PLANES, display_affine

RNG = np.random.default_rng(0)


def affine_of(spacing, origin=(0, 0, 0)):
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    return affine


def fused(maps, affines, weights, grid):
    shape = maps[grid].shape
    return fuse_maps(
        maps, affines, weights, affine=affines[grid], shape=shape, slices=range(shape[0])
    )


def test_maps_on_one_grid_are_averaged_by_weight():
    maps = {
        "a": np.full((2, 3, 4), 200, np.uint8),
        "b": np.full((2, 3, 4), 100, np.uint8),
        "c": np.zeros((2, 3, 4), np.uint8),
    }
    affines = dict.fromkeys(maps, affine_of((5, 1, 1)))
    np.testing.assert_allclose(
        fused(maps, affines, {"a": 3, "b": 1, "c": 1}, "c"), (3 * 200 + 100) / 5
    )
    np.testing.assert_array_equal(fused({"a": maps["a"]}, affines, {"a": 2}, "a"), 200)


def test_between_two_slices_the_map_is_interpolated_and_beyond_half_a_voxel_the_series_has_no_say():
    thick, fine = np.zeros((2, 1, 1)), np.full((8, 1, 1), 50.0)
    thick[1] = 100
    # fine slices at -3 ... 4 mm, thick ones at 0 and 4 mm
    affines = {"thick": affine_of((4, 1, 1)), "fine": affine_of((1, 1, 1), (-3, 0, 0))}
    alone = fuse_maps(
        {"thick": thick},
        affines,
        {"thick": 1},
        affine=affines["fine"],
        shape=fine.shape,
        slices=range(8),
    )
    np.testing.assert_allclose(alone.ravel(), [0, 0, 0, 0, 25, 50, 75, 100])
    both = fused({"thick": thick, "fine": fine}, affines, {"thick": 1, "fine": 1}, "fine")
    # thick is asked from -2 mm on
    np.testing.assert_allclose(both.ravel(), [50, 25, 25, 25, 37.5, 50, 62.5, 75])


def test_the_result_is_that_of_a_slow_second_implementation_for_oblique_grids():
    turn = np.array([[0.1, 0.9, 0.2], [0.8, -0.2, 0.3], [-0.4, 0.1, 1.1]])
    affines = {"a": affine_of((3, 1.5, 2), (-4, 2, 1)), "b": affine_of((1, 1, 1))}
    affines["b"][:3, :3], affines["b"][:3, 3] = turn, (1, -2, 3)
    maps = {"a": RNG.random((6, 9, 11)), "b": RNG.random((8, 12, 10))}
    slices = [1, 4, 7]
    found = fuse_maps(
        maps, affines, {"a": 2, "b": 0.5}, affine=affines["b"], shape=maps["b"].shape, slices=slices
    )
    for n, z in enumerate(slices):
        for r in range(12):
            for c in range(10):
                total = weight = 0.0
                for name, w in (("a", 2), ("b", 0.5)):
                    at = (np.linalg.inv(affines[name]) @ affines["b"] @ [z, r, c, 1])[:3]
                    if all(
                        -0.5 <= x <= size - 0.5
                        for x, size in zip(at, maps[name].shape, strict=True)
                    ):
                        total += (
                            w * map_coordinates(maps[name], at[:, None], order=1, mode="nearest")[0]
                        )
                        weight += w
                assert found[n, r, c] == pytest.approx(total / weight, abs=1e-5)


def test_large_maps_are_thinned_out_without_being_shifted():
    side = 2 * LARGEST_SIDE + 7
    ramp = np.broadcast_to(np.linspace(0, 100, side), (2, side, side))
    affines = {"a": affine_of((1, 1, 1))}
    found = fused({"a": ramp}, affines, {"a": 1}, "a")
    np.testing.assert_allclose(found[..., : -3 * 3], ramp[..., : -3 * 3], atol=1e-3)
    # 9 rows, of which rows 0, 4 and 8 are left
    narrow = np.broadcast_to(np.arange(9.0)[:, None], (1, 9, 4 * LARGEST_SIDE))
    np.testing.assert_allclose(
        fused({"a": narrow}, affines, {"a": 1}, "a")[0, :, 0], range(9), atol=1e-5
    )


@pytest.mark.parametrize("plane", PLANES)
def test_the_tumour_of_a_head_lies_at_the_same_place_in_series_of_other_planes(plane):
    head = make_head(3, 1)
    truths, affines = {}, {}
    for name, (shape, spacing) in {
        "axial": ((36, 64, 64), (5, 3.5, 3.5)),
        "coronal": ((44, 60, 70), (5.5, 3, 3.2)),
        "sagittal": ((40, 80, 50), (4.5, 2.8, 4)),
    }.items():
        affines[name] = display_affine(name, spacing)
        affines[name][:3, 3] = -affines[name][:3, :3] @ ((np.array(shape) - 1) / 2)
        truths[name] = paint(head, affines[name], shape, ["FLAIR"])[1] > 0
    for other in set(PLANES) - {plane}:
        shape = truths[plane].shape
        moved = (
            fuse_maps(
                {other: 255.0 * truths[other]},
                affines,
                {other: 1},
                affine=affines[plane],
                shape=shape,
                slices=range(shape[0]),
            )
            > 127
        )
        assert (
            2
            * np.count_nonzero(moved & truths[plane])
            / (np.count_nonzero(moved) + np.count_nonzero(truths[plane]))
            > 0.9
        )
