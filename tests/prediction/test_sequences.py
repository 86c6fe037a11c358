"""Sequences through a classifier: the fast path equals the plain one."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.stand_ins import precisions_of
from tiny_models import tiny_classifier

from t4e_utils.learning import TrainingError
from t4e_utils.learning.networks import load_network, with_precision
from t4e_utils.learning.weights import save_weights
from t4e_utils.prediction.sequences import (
    SequenceReading,
    chunk_probabilities,
    classify_sequence,
    embed_slices,
)
from t4e_utils.prediction.tta import squares_of
from t4e_utils.sampling.chunks import chunk_bounds
from t4e_utils.sampling.squares import Square

READING = SequenceReading(stride=2)


@pytest.fixture
def classifier():
    return tiny_classifier()


@pytest.fixture(scope="module")
def pictures():
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (40, 36, 3), dtype=np.uint8) for _ in range(14)]


@pytest.mark.parametrize("n", [1, 5, 6, 7, 14])
def test_windows_over_embeddings_equal_the_plain_computation_chunk_by_chunk(
    classifier, pictures, n
):
    squares = squares_of(pictures[:n], Square(32), "identity")
    fast = chunk_probabilities(
        classifier, embed_slices(classifier, squares, batch_size=8), stride=2
    )
    slow = []
    for start, stop in chunk_bounds(n, length=6, stride=2):
        chunk = np.zeros((1, 6, 3, 32, 32), np.uint8)
        chunk[0, : stop - start] = squares[start:stop]
        with torch.no_grad():
            slow.append(float(classifier(torch.from_numpy(chunk)).sigmoid()))
    np.testing.assert_allclose(fast, slow, atol=1e-5)


def test_predictions_do_not_depend_on_the_batch_size(classifier, pictures):
    one, other = (
        classify_sequence(classifier, pictures, replace(READING, batch_size=n)) for n in (1, 16)
    )
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_views_are_averaged_as_probabilities(classifier, pictures):
    ways = ("identity", "hflip"), ("identity",), ("hflip",)
    both, *single = (
        classify_sequence(classifier, pictures, replace(READING, views=views)) for views in ways
    )
    np.testing.assert_allclose(both, np.mean(single, axis=0), atol=1e-12)
    assert not np.allclose(single[0], single[1], atol=1e-7)


def test_half_precision_is_near_and_the_lstm_stays_in_full(classifier, pictures):
    full = classify_sequence(classifier, pictures, READING)
    lstm, backbone = precisions_of(classifier.lstm), precisions_of(classifier.backbone)
    auto = classify_sequence(with_precision(classifier, "auto"), pictures, READING)
    np.testing.assert_array_equal(auto, full)
    assert backbone == {torch.float32}
    with_precision(classifier, "bf16")
    squares = squares_of(pictures[:2], Square(32), "identity")
    assert embed_slices(classifier, squares, batch_size=8).dtype == torch.bfloat16
    half = classify_sequence(classifier, pictures, READING)
    np.testing.assert_allclose(half, full, atol=0.02)
    assert (half != full).any()
    assert backbone == {torch.float32, torch.bfloat16}
    assert lstm == {torch.float32}
    with pytest.raises(TrainingError, match="fp16' needs a GPU"):
        classify_sequence(with_precision(classifier, "fp16"), pictures, READING)


def test_a_saved_network_is_loaded_for_inference(tmp_path, classifier, pictures):
    save_weights(classifier, tmp_path / "best.safetensors", {})
    loaded = load_network(tmp_path / "best.safetensors")
    assert not loaded.training
    assert loaded.recipe == classifier.recipe
    found, expected = (classify_sequence(each, pictures, READING) for each in (loaded, classifier))
    np.testing.assert_array_equal(found, expected)
