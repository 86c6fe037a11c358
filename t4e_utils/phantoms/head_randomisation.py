"""Annotated heads of random appearance, for a segmenter with few real patients to learn from.

With one or two annotated patients a network remembers where their tumours lie. Heads whose
brightness, contrast, tumour and surroundings are drawn far wider than real ones leave it nothing to
remember but what a tumour is: domain randomisation, as Billot et al. (SynthSeg, Medical Image
Analysis 86, 2023) train networks on drawn images alone that then segment scans of any contrast.
Anatomy is that of the phantoms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from scipy.ndimage import gaussian_filter

from t4e_utils.phantoms.head import Appearance, Head, brain_distance
from t4e_utils.phantoms.head_painting import points_of_slices
from t4e_utils.phantoms.head_scans import NOISE, Patient, make_patient
from t4e_utils.phantoms.shapes import make_waves
from t4e_utils.scans.volume import Volume

# Lowest and highest relative brightness, white matter = 1.
BRAIN = {
    "FLAIR": dict(
        white=(1, 1),
        grey=(1.0, 1.4),
        fluid=(0.15, 0.6),
        oedema=(1.25, 3.4),
        rim=(1.1, 3.5),
        core=(0.4, 3.2),
        vessel=(0.3, 1.2),
    ),
    "T1w": dict(
        white=(1, 1),
        grey=(0.7, 0.95),
        fluid=(0.2, 0.55),
        oedema=(0.5, 0.95),
        rim=(0.5, 1.15),
        core=(0.3, 0.9),
        vessel=(0.4, 1.2),
    ),
    "T1wCE": dict(
        white=(1, 1),
        grey=(0.7, 0.98),
        fluid=(0.2, 0.55),
        oedema=(0.48, 1.0),
        rim=(1.2, 6.0),
        core=(0.25, 0.9),
        vessel=(1.0, 3.0),
    ),
    "T2w": dict(
        white=(1, 1),
        grey=(1.0, 1.5),
        fluid=(1.8, 3.6),
        oedema=(1.4, 2.8),
        rim=(1.1, 2.6),
        core=(1.3, 3.2),
        vessel=(0.3, 0.8),
    ),
}
OUTSIDE = {
    "FLAIR": dict(fluid=(0.1, 0.4), bone=(0.05, 0.3), scalp=(0.4, 3.0)),
    "T1w": dict(fluid=(0.2, 0.5), bone=(0.05, 0.4), scalp=(1.0, 3.0)),
    "T1wCE": dict(fluid=(0.2, 0.6), bone=(0.05, 0.4), scalp=(1.0, 3.0)),
    "T2w": dict(fluid=(2.0, 3.5), bone=(0.05, 0.3), scalp=(0.5, 3.0)),
}
FLESH = (0.04, 4.0)  # of each of the pieces below the brain: muscle, fat, marrow, mucosa, air
N_PIECES = 5
PIECE_MM = (22.0, 70.0)  # wavelength of their borders
FACE_MM = {"half_width": (62, 78), "half_length": (88, 106), "forward": (4, 16), "skin": (2, 8)}
THICKNESS_MM = {"fluid": (1, 3), "bone": (3, 7), "scalp": (5, 12)}  # around the brain, from within
EYE_MM = (32, 70, -38)  # distance from the midline, y, z; in fat, as the scalp
TUMOUR_ML = (12.0, 220.0)
CORE_SHARE = (0.15, 0.8)  # rim and necrosis, share of the whole tumour
RIM_SIZE, VENTRICLE_SIZE = (0.5, 1.4), (0.5, 2.2)  # share of the usual one
GRAIN_CONTRAST = (0.02, 0.2)
# otherwise nothing takes up contrast agent, as in most gliomas of low grade
ENHANCING_CHANCE = 0.75
SKULL_CHANCE = 0.6  # otherwise skull-stripped
GAMMA = (0.35, 1.6)  # exponent of the brightness, of each contrast
BLUR_VOXELS = (0.0, 0.8)


def make_synthetic_patient(seed: int, *, size: int = 64) -> Patient:
    """Draw an annotated patient of random appearance, on the grid of `head_scans.make_patient`.

    Args:
        seed: decides everything.
        size: rows and columns; there are three quarters as many slices.
    """
    rng = np.random.default_rng([seed, 6])
    is_enhancing = rng.random() < ENHANCING_CHANCE
    appearance = Appearance(
        intensities={
            contrast: _draw_brain(rng, ranges, is_enhancing=is_enhancing)
            for contrast, ranges in BRAIN.items()
        },
        grain_contrast=rng.uniform(*GRAIN_CONTRAST),
        core_share=rng.uniform(*CORE_SHARE),
        rim_size=_draw(rng, RIM_SIZE),
        ventricle_size=_draw(rng, VENTRICLE_SIZE),
    )
    drawn = make_patient(
        seed,
        int(rng.integers(2)),
        size=size,
        tumour_ml=_draw(rng, TUMOUR_ML),
        appearance=appearance,
    )
    layers = _layers_outside(drawn.head, drawn.labels, rng) if rng.random() < SKULL_CHANCE else {}
    contrasts = {
        contrast: replace(volume, array=_disturbed(volume.array, rng))
        for contrast, volume in drawn.contrasts.items()
    }
    contrasts = {
        contrast: replace(volume, array=_with_skull(volume.array, layers, contrast, rng))
        for contrast, volume in contrasts.items()
    }
    labels = (
        drawn.labels.array
        if is_enhancing
        else np.where(drawn.labels.array == 4, 1, drawn.labels.array).astype(np.uint8)
    )
    return Patient(contrasts, replace(drawn.labels, array=labels), drawn.head)


def _draw(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    """Draw evenly on a logarithmic scale: half as bright is as far away as twice as bright."""
    return float(np.exp(rng.uniform(*np.log(bounds))))


def _draw_brain(
    rng: np.random.Generator, ranges: Mapping[str, tuple[float, float]], *, is_enhancing: bool
) -> dict[str, float]:
    """Draw the brightness of each tissue; what does not enhance is like the oedema."""
    drawn = {tissue: _draw(rng, bounds) for tissue, bounds in ranges.items()}
    inner = drawn["oedema"] * rng.uniform(0.85, 1.15)
    return drawn if is_enhancing else {**drawn, "rim": inner, "core": inner}


def _disturbed(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a scan of other contrast and sharpness, the brain above 0, all else exactly 0."""
    is_brain = array > 0
    top = np.percentile(array[is_brain], 99.5)
    bent = top * np.clip(array / top, 0, 3) ** _draw(rng, GAMMA)
    sigma = rng.uniform(*BLUR_VOXELS)
    # of what is averaged that is brain: its edge does not darken
    share = gaussian_filter(is_brain.astype(np.float32), sigma)
    blurred = gaussian_filter(bent, sigma) / np.maximum(share, 0.1)
    return np.where(is_brain, np.maximum(np.rint(blurred), 1), 0).astype(np.int16)


def _layers_outside(head: Head, grid: Volume, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return the texture (D, H, W) of tissues around the brain, mean 1, 0 where one is not."""
    shape = grid.array.shape
    points = points_of_slices(head, grid.affine, slice(0, shape[0]), shape[1:])
    distance, (x, y, z) = brain_distance(head, points)[0], points
    # fluid fills the sulci too
    edges = [-np.inf, *np.cumsum([rng.uniform(*bounds) for bounds in THICKNESS_MM.values()])]
    where = {
        tissue: (distance >= inner) & (distance < outer)
        for tissue, inner, outer in zip(THICKNESS_MM, edges, edges[1:], strict=False)
    }
    half_width, half_length, forward, skin = (rng.uniform(*bounds) for bounds in FACE_MM.values())
    from_skin = half_width * (1 - np.hypot(x / half_width, (y - forward) / half_length))
    is_face = (z < -20) & (distance >= edges[2]) & (from_skin > 0)
    from_eye = np.sqrt((np.abs(x) - EYE_MM[0]) ** 2 + (y - EYE_MM[1]) ** 2 + (z - EYE_MM[2]) ** 2)
    is_eye, is_orbit = from_eye < 12, (from_eye < 18) & (distance >= edges[1])
    is_fat = (where["scalp"] & ~is_face) | (is_face & (from_skin < skin)) | is_orbit
    piece = np.argmax(
        [make_waves(rng, _draw(rng, PIECE_MM))(points) for _ in range(N_PIECES)], axis=0
    )
    texture = 1 + 0.2 * make_waves(rng, 15.0)(points)
    layers = {"fluid": where["fluid"] | is_eye, "bone": where["bone"] & ~is_orbit, "scalp": is_fat}
    layers |= {f"flesh {k}": is_face & ~is_fat & (piece == k) for k in range(N_PIECES)}
    return {
        tissue: (inside * np.clip(texture, 0.03, 3)).reshape(shape)
        for tissue, inside in layers.items()
    }


def _with_skull(
    array: np.ndarray, layers: Mapping[str, np.ndarray], contrast: str, rng: np.random.Generator
) -> np.ndarray:
    """Return a scan with tissues around the brain, each of a brightness drawn for this contrast."""
    white = np.median(array[array > 0])
    for tissue, texture in layers.items():
        colour = white * _draw(rng, OUTSIDE[contrast].get(tissue, FLESH))
        noise = NOISE * white * rng.standard_normal(array.shape)
        array = np.where(
            (texture > 0) & (array == 0), np.maximum(np.rint(colour * texture + noise), 1), array
        )
    return array.astype(np.int16)
