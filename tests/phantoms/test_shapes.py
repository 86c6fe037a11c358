"""Shapes are signed distances, and waves have the mean and spread that they promise."""

from __future__ import annotations

import numpy as np
import pytest

from t4e_utils.phantoms.shapes import coverage, ellipsoid, make_waves, rotation, tube


def points_of(*places) -> np.ndarray:
    return np.array(places, np.float32).T


def test_waves_have_mean_zero_variance_one_and_their_wavelength():
    waves = make_waves(np.random.default_rng(0), 20.0)
    values = waves(np.random.default_rng(1).uniform(-500, 500, (3, 20_000)).astype(np.float32))
    assert values.dtype == np.float32
    assert values.mean() == pytest.approx(0, abs=0.03)
    assert values.std() == pytest.approx(1, abs=0.05)
    lengths = 2 * np.pi / np.linalg.norm(waves.vectors, axis=1)
    assert (np.abs(lengths / 20 - 1) < 0.18).all()


def test_rotations_turn_about_x_then_y_then_z():
    np.testing.assert_allclose(rotation((0, 0, 90)) @ (1, 0, 0), (0, 1, 0), atol=1e-12)
    np.testing.assert_allclose(rotation((90, 90, 0)) @ (0, 1, 0), (1, 0, 0), atol=1e-12)
    np.testing.assert_allclose(
        rotation((10, 20, 30)) @ rotation((10, 20, 30)).T, np.eye(3), atol=1e-12
    )


def test_the_distance_to_a_ball_is_exact_and_that_to_an_ellipsoid_has_its_sign():
    places = points_of((5, 0, 0), (0, 7, 0), (3, 4, 12))
    np.testing.assert_allclose(ellipsoid(places, (0, 0, 0), (6, 6, 6)), (-1, 1, 7), atol=1e-4)
    found = ellipsoid(points_of((4, 2, 3), (0, 2, 3.5), (0, 7, 3)), (0, 2, 3), (3, 4, 1))
    assert (np.sign(found) == (1, -1, 1)).all()


def test_a_tube_is_a_chain_of_cones_with_round_ends():
    nodes = ((0, 0, 0, 1), (10, 0, 0, 3), (10, 10, 0, 3))
    places = points_of((-2, 0, 0), (5, 4, 0), (10, 5, 0), (10, 16, 0))
    np.testing.assert_allclose(tube(places, nodes), (1, 2, -3, 3), atol=1e-5)


def test_the_cover_of_a_voxel_is_a_ramp_over_the_border():
    np.testing.assert_allclose(coverage(np.array([-9, -1, 0, 1, 9]), 2.0), (1, 0.75, 0.5, 0.25, 0))
