"""Which slices drive a prediction: one exchanged embedding equals one exchanged picture."""

from dataclasses import replace

import numpy as np
import pytest
from tiny_models import tiny_classifier

from t4e_utils.learning.networks import with_precision
from t4e_utils.prediction.influence import occlusion_influence
from t4e_utils.prediction.sequences import SequenceReading, classify_sequence

READING = SequenceReading(stride=2, views=("identity", "hflip"))


@pytest.fixture(scope="module")
def pictures():
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (40, 36, 3), dtype=np.uint8) for _ in range(9)]


@pytest.mark.parametrize("n", [4, 9])
def test_the_influence_of_a_slice_is_what_a_black_picture_in_its_place_takes_away(pictures, n):
    classifier, pictures = tiny_classifier(), pictures[:n]
    whole = classify_sequence(classifier, pictures, READING).mean()
    slow = []
    for k in range(n):
        without = [*pictures[:k], np.zeros_like(pictures[k]), *pictures[k + 1 :]]
        slow.append(whole - classify_sequence(classifier, without, READING).mean())
    found = occlusion_influence(classifier, pictures, READING)
    np.testing.assert_allclose(found, slow, atol=1e-6)
    assert np.ptp(found) > 1e-4


def test_the_influence_is_computed_in_the_precision_of_the_recipe(pictures):
    classifier, reading = tiny_classifier(), replace(READING, views=("identity",))
    full = occlusion_influence(classifier, pictures, reading)
    half = occlusion_influence(with_precision(classifier, "bf16"), pictures, reading)
    np.testing.assert_allclose(half, full, atol=0.02)
    assert (half != full).any()
