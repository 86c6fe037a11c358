"""One slice as an RGB array and as a PNG, drawn with OpenCV: fast enough to follow a slider."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from matplotlib.colors import to_rgb

from t4e_utils.figures import slices
from t4e_utils.scans import intensity

HEIGHT = 460  # pixels of the longer side of a slice
FONT, LETTER_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.55
FILL = 0.45  # how much of a predicted pixel is colour
FAST = [cv2.IMWRITE_PNG_COMPRESSION, 1]
# of letters, in shares of width and height
PLACES = {
    "left": (0.015, 0.5),
    "right": (0.965, 0.5),
    "top": (0.49, 0.045),
    "bottom": (0.49, 0.985),
}


def encode(image: np.ndarray) -> bytes:
    """Return an RGB image (H, W, 3) uint8 as a PNG, packed lightly: time matters here, not size."""
    return cv2.imencode(".png", image[..., ::-1], FAST)[1].tobytes()


def draw_rgb(
    image: np.ndarray,
    masks: Mapping[str, np.ndarray],
    spacing_mm: tuple[float, float],
    letters: Mapping[str, str],
    *,
    window: tuple[float, float],
    height: int = HEIGHT,
) -> np.ndarray:
    """Draw a slice as `slices.draw_slice` does, about ten times as fast (`benchmarks/viewer.py`).

    Args:
        image: Shape (H, W).
        masks: Regions (R, H, W) under "truth", drawn as contours, and under "prediction", drawn as
            overlays, in the colours of the palette.
        spacing_mm: Distance of rows and of columns.
        letters: Directions at the edges, as `geometry.orientation_letters` returns them.
        window: Grey values drawn black and white.
        height: Of the longer side, in pixels.

    Returns:
        Shape (rows, columns, 3), uint8; the longer side has `height` pixels.
    """
    millimetres = np.array(image.shape) * spacing_mm
    rows, columns = np.maximum(np.rint(millimetres * height / millimetres.max()), 1).astype(int)
    size = int(columns), int(rows)
    grey = np.ascontiguousarray(intensity.to_uint8(image, window))
    grey = cv2.resize(grey, size, interpolation=cv2.INTER_LINEAR)
    drawn = np.repeat(grey[..., None], 3, axis=2)
    for kind in ("prediction", "truth"):
        several = masks.get(kind, ())
        for name, mask in zip(slices.mask_colours(several), several, strict=True):
            colour = tuple(round(255 * part) for part in to_rgb(name))
            large = np.ascontiguousarray(mask, dtype=np.uint8)
            large = cv2.resize(large, size, interpolation=cv2.INTER_NEAREST)
            if kind == "prediction":
                filled = large.astype(bool)
                mixed = (1 - FILL) * grey[filled, None] + FILL * np.array(colour)
                drawn[filled] = np.rint(mixed).astype(np.uint8)
            else:
                outlines, _ = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
                cv2.drawContours(drawn, outlines, -1, colour, 1)
    for edge, letter in letters.items():
        place = tuple(int(share * n) for share, n in zip(PLACES[edge], size, strict=True))
        for ink, thickness in ((0, 3), (255, 1)):
            look = (FONT, LETTER_SCALE, (ink,) * 3, thickness, cv2.LINE_AA)
            cv2.putText(drawn, letter, place, *look)
    return drawn
