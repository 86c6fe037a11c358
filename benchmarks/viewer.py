"""How fast the viewer follows its slider.

`python -m benchmarks.viewer` on a series of 200 slices of 512 x 512 with two masks.

Prints, for each plane, the time of a slice (window, colours, PNG, message to the widget), the same
drawn as a matplotlib figure, and the ratio.
"""

from __future__ import annotations

import io
import time

import numpy as np
import pandas as pd
from scipy import ndimage

from t4e_utils.figures import slices, style
from t4e_utils.figures.viewer import Viewer
from t4e_utils.scans import geometry
from t4e_utils.scans.volume import Volume

SHAPE, SPACING = (200, 512, 512), (1.0, 0.5, 0.5)
N_SLICES = {"viewer": 100, "figure": 5}


def series() -> tuple[Volume, np.ndarray]:
    """Return a smooth volume that fills its grid, the slowest to pack, and two nested blocks."""
    noise = np.random.default_rng(0).integers(0, 2000, SHAPE).astype(np.int16)
    masks = np.zeros((2, *SHAPE), bool)
    masks[0, 50:150, 100:300, 100:300], masks[1, 80:120, 150:250, 150:250] = True, True
    return Volume(
        ndimage.uniform_filter(noise, 5), SPACING, geometry.display_affine("axial", SPACING)
    ), masks


def seconds_of_slider(viewer: Viewer, n: int) -> float:
    begin = time.perf_counter()
    for step in range(n):
        viewer.slice.value = (viewer.slice.value + 1 + step % 2) % viewer.slice.max
    return (time.perf_counter() - begin) / n


def seconds_of_figure(volume: Volume, masks: np.ndarray, plane: str, n: int) -> float:
    begin = time.perf_counter()
    for step in range(n):
        piece = slices.cut(volume, plane, masks=masks, index=60 + step, is_cropped=False)
        figure = style.new_figure(5, 5)
        slices.draw_cut(figure.add_subplot(), piece, title="", prediction=piece.masks)
        figure.savefig(io.BytesIO(), format="png")
    return (time.perf_counter() - begin) / n


def main() -> None:
    volume, masks = series()
    reads = []
    viewer = Viewer(
        pd.DataFrame({"patient_id": ["00000"], "series": ["FLAIR"]}),
        lambda row: reads.append(row) or volume,
        truth=lambda row, v: masks,
        prediction=lambda row, v: masks,
        percentiles=(0.5, 99.5),
    )
    print(f"{'plane':10} {'viewer ms':>10} {'figure ms':>10} {'ratio':>8}")
    for plane in geometry.PLANES:
        viewer.plane.value = plane
        fast, slow = (
            seconds_of_slider(viewer, N_SLICES["viewer"]),
            seconds_of_figure(volume, masks, plane, N_SLICES["figure"]),
        )
        print(f"{plane:10} {1000 * fast:10.1f} {1000 * slow:10.1f} {slow / fast:8.1f}")
    print(f"reads of the series: {len(reads)}")


if __name__ == "__main__":
    main()
