"""Single pictures through a classifier."""

import numpy as np
import pytest
import torch

from t4e_utils.learning.networks import Recipe, build
from t4e_utils.prediction.pictures import PictureReading, classify_pictures
from t4e_utils.prediction.tta import squares_of


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(0)
    recipe = Recipe("image", "test_resnet", n_inputs=2, n_outputs=3, normalisation="unit", size=32)
    return build(recipe).eval()


@pytest.fixture(scope="module")
def pictures():
    generator = np.random.default_rng(0)
    sides = [(40, 36), (32, 32), (20, 50), (33, 31), (60, 60)]
    return [generator.integers(0, 256, (*side, 2), dtype=np.uint8) for side in sides]


def test_pictures_of_any_size_get_what_the_network_says_of_their_squares(classifier, pictures):
    found = classify_pictures(classifier, pictures, PictureReading(batch_size=2))
    squares = squares_of(pictures, classifier.recipe.square, "identity")
    with torch.no_grad():
        logits = classifier(torch.from_numpy(squares))
    assert found.shape == (5, 3)
    np.testing.assert_allclose(found, torch.sigmoid(logits).numpy(), atol=1e-6)


def test_views_are_averaged_as_probabilities(classifier, pictures):
    both, *single = (
        classify_pictures(classifier, pictures, PictureReading(views))
        for views in (("identity", "hflip"), ("identity",), ("hflip",))
    )
    np.testing.assert_allclose(both, np.mean(single, axis=0), atol=1e-12)
    assert not np.allclose(single[0], single[1], atol=1e-7)


def test_pictures_are_read_when_they_are_wanted_and_none_are_none(classifier, pictures):
    class Files:
        def __len__(self):
            return len(pictures)

        def __getitem__(self, index):
            return pictures[index]

    reading = PictureReading(batch_size=2)
    np.testing.assert_array_equal(
        classify_pictures(classifier, Files(), reading),
        classify_pictures(classifier, pictures, reading),
    )
    assert classify_pictures(classifier, [], reading).shape == (0, 3)
