"""Random changes of pictures, drawn apart from being applied."""

from __future__ import annotations

import random

import albumentations as A
import numpy as np


def augmentation() -> A.Compose:
    """Flips and an affine draw, each with probability 0.5.

    Shift 6.25%, scale 10%, rotation 45 degrees (T4E).

    What comes in from outside is black: mirrored tissue could hold a second tumour.
    """
    affine = A.Affine(
        translate_percent=(-0.0625, 0.0625), scale=(0.9, 1.1), rotate=(-45, 45), p=0.5
    )
    return A.Compose([A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5), affine])


def draw_seed(seed: int, epoch: int, index: int) -> int:
    """Seed of one item's draw, a 32-bit number."""
    return int(np.random.SeedSequence([seed, epoch, index]).generate_state(1)[0])


def seed_draw(transform: A.Compose, seed: int) -> None:
    """Make the next call of `transform` depend on `seed` alone.

    Not `set_random_seed`: that gives each part the same seed, and then a slice is flipped both ways
    and turned, or nothing.
    """
    transform.set_random_state(np.random.default_rng(seed), random.Random(seed))
