"""Draws that depend on their seed alone, and changes that bring in nothing but black."""

import numpy as np
import pytest
from helpers.training_runs import AUGMENTATION

from t4e_utils.learning.augmentation import Augmentation, draw_seed, seed_draw

IMAGE = np.random.default_rng(0).integers(1, 256, (30, 24)).astype(np.uint8)


def drawn(augmentation, seed, image=IMAGE):
    transform = augmentation.compose()
    seed_draw(transform, seed)
    return transform(image=image)["image"]


def test_seeds_of_draws_do_not_repeat():
    seeds = [draw_seed(s, e, i) for s in range(5) for e in range(10) for i in range(50)]
    assert len(set(seeds)) > 0.999 * len(seeds)


def test_flips_and_turns_are_drawn_independently():
    transform = AUGMENTATION.compose()
    flips = {
        "none": IMAGE,
        "columns": IMAGE[:, ::-1],
        "rows": IMAGE[::-1],
        "both": IMAGE[::-1, ::-1],
    }
    counts = dict.fromkeys([*flips, "turned"], 0)
    for seed in range(800):
        seed_draw(transform, seed)
        image = transform(image=IMAGE)["image"]
        same = (name for name, flip in flips.items() if np.array_equal(image, flip))
        counts[next(same, "turned")] += 1
    assert counts.pop("turned") == pytest.approx(400, abs=50)
    assert list(counts.values()) == pytest.approx([100] * 4, abs=32)


@pytest.mark.parametrize(
    ("augmentation", "expected"),
    [
        (Augmentation(), IMAGE),
        (Augmentation(shift=0.5, scale=0.5, rotate_degrees=90), IMAGE),
        (Augmentation(flip_columns=1.0), IMAGE[:, ::-1]),
        (Augmentation(flip_rows=1.0), IMAGE[::-1]),
        (Augmentation(flip_columns=1.0, flip_rows=1.0), IMAGE[::-1, ::-1]),
        (Augmentation(affine=1.0), IMAGE),
    ],
)
def test_a_probability_of_0_leaves_a_change_out_and_1_always_makes_it(augmentation, expected):
    for seed in range(5):
        np.testing.assert_array_equal(drawn(augmentation, seed), expected)


@pytest.mark.parametrize("change", ["shift", "scale", "rotate_degrees"])
def test_what_comes_in_from_outside_is_black(change):
    augmentation = Augmentation(affine=1.0, **{change: 30 if change == "rotate_degrees" else 0.4})
    white = np.full((40, 40), 255, np.uint8)
    images = [drawn(augmentation, seed, white) for seed in range(10)]
    assert any((image[[0, -1]] == 0).any() for image in images)
    centre = [image[18:22, 18:22] for image in images]
    assert change == "shift" or all((part == 255).all() for part in centre)


def test_all_images_of_a_call_are_moved_by_one_draw():
    transform = AUGMENTATION.compose()
    for seed in range(10):
        seed_draw(transform, seed)
        images = transform(images=np.stack([IMAGE, IMAGE, 255 - IMAGE])[..., None])["images"]
        np.testing.assert_array_equal(images[0], images[1])
        seed_draw(transform, seed)
        np.testing.assert_array_equal(transform(image=IMAGE)["image"], images[0][..., 0])
