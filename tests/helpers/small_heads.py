"""Heads of a few slices with bright tumours, and what makes sequences of them."""

import numpy as np

from helpers.stand_ins import BrightIsTumour, disc
from t4e_utils.competitions.brain_tumor.rules import SeriesRule
from t4e_utils.competitions.brain_tumor.sequences import Preparer
from t4e_utils.scans.geometry import display_affine
from t4e_utils.scans.volume import Volume

RULE = SeriesRule(segmentation_zoom=1.0, sequence_length=6, chunk_stride=2)
SHAPE = (16, 40, 36)


def head(tumour_slices=(), *, radius=6, n_discs=1, brightness=1000, slice_mm=4.0):
    """A brain of grey 300 in slices 2 to 14, with bright discs in some of them.

    Slice 0 holds the brightest pixel.
    """
    array = np.zeros(SHAPE, np.uint16)
    array[2:14, disc(SHAPE[1:], (20, 18), 15)] = 300
    array[0, 0, 0] = 1000
    for index in tumour_slices:
        for k in range(n_discs):
            array[
                index,
                disc(
                    SHAPE[1:], (20 - 8 * (n_discs > 1) + 4 * (k // 3) * 2, 8 + 8 * (k % 3)), radius
                ),
            ] = brightness
    return Volume(array, (slice_mm, 1.0, 1.0), display_affine("axial", (slice_mm, 1.0, 1.0)))


class Counting(BrightIsTumour):
    """Counts the slices that it segments."""

    n_slices = 0

    def forward(self, images):
        self.n_slices += len(images)
        return super().forward(images)


def stand_in(kind=BrightIsTumour, *args, **recipe):
    return kind(*args, size=64, **{"percentiles": (0, 100), **recipe})


def preparer(rule=RULE, segmenter=None):
    return Preparer(segmenter or stand_in(), rule)
