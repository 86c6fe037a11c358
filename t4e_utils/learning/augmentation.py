"""Random changes of pictures: what is drawn is kept apart from being applied."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would look for updates when imported

import albumentations as A
import numpy as np


@dataclass(frozen=True)
class Augmentation:
    """Flips and one affine draw; what comes in from outside is black.

    Mirrored tissue at the border could hold a second lesion. A probability of 0 leaves a change
    out.
    """

    flip_columns: float = 0.0  # probability of a flip left to right
    flip_rows: float = 0.0  # probability of a flip upside down
    affine: float = 0.0  # probability of shift, scale and rotation together
    shift: float = 0.0  # at most, share of the side
    scale: float = 0.0  # at most, share of the size
    rotate_degrees: float = 0.0  # at most

    def compose(self) -> A.Compose:
        """Return the changes as albumentations applies them."""
        parts: list[A.BasicTransform] = []
        if self.flip_columns:
            parts.append(A.HorizontalFlip(p=self.flip_columns))
        if self.flip_rows:
            parts.append(A.VerticalFlip(p=self.flip_rows))
        if self.affine:
            affine = A.Affine(
                translate_percent=(-self.shift, self.shift),
                scale=(1 - self.scale, 1 + self.scale),
                rotate=(-self.rotate_degrees, self.rotate_degrees),
                p=self.affine,
            )
            parts.append(affine)
        return A.Compose(parts)


def draw_seed(seed: int, epoch: int, index: int) -> int:
    """Return the seed of one item's draw, a 32-bit number."""
    return int(np.random.SeedSequence([seed, epoch, index]).generate_state(1)[0])


def seed_draw(transform: A.Compose, seed: int) -> None:
    """Make the next call of `transform` depend on `seed` alone.

    Not `set_random_seed`: that gives each part the same seed, and then a slice is flipped both ways
    and turned, or nothing.
    """
    transform.set_random_state(np.random.default_rng(seed), random.Random(seed))
