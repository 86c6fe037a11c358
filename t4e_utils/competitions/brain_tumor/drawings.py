"""Drawings of the method: the two stages from scans to a probability, and the sequence classifier.

The small images are a phantom's. `python -m t4e_utils.competitions.brain_tumor.drawings` writes
both into `docs/figures/`.
"""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from t4e_utils.annotations.regions import regions_from_labels
from t4e_utils.competitions.brain_tumor.classifier import ClassifierSettings
from t4e_utils.competitions.brain_tumor.data import CONTRASTS, PALETTE, REGIONS
from t4e_utils.figures import slices, style
from t4e_utils.figures.drawing import arrow, box, canvas, caption, panel
from t4e_utils.learning.networks import Recipe, build
from t4e_utils.phantoms import head_scans
from t4e_utils.scans import intensity

STAGE_COLOURS = ("#EAF4FB", "#FDF4E3")


@functools.cache
def _phantom() -> dict[str, np.ndarray]:
    """Draw slices (D, S, S) of each contrast of one phantom, 8 bit, and "masks" (2, D, S, S)."""
    patient = head_scans.make_patient(8, 1, size=112, tumour_ml=110)
    masks = regions_from_labels(patient.labels.array, REGIONS)
    filled = patient.labels.array + (patient.contrasts["FLAIR"].array > 0)
    rows, columns = slices.filled_box(filled, margin=0.04)
    side = max(rows.stop - rows.start, columns.stop - columns.start)
    starts = [(each.start + each.stop - side) // 2 for each in (rows, columns)]
    square = (..., *(slice(start, start + side) for start in starts))
    shown = np.flatnonzero(masks[0].any(axis=(1, 2)))
    images = {
        name: intensity.to_uint8(v.array, intensity.window_from_percentiles(v.array))[shown][square]
        for name, v in patient.contrasts.items()
    }
    return images | {"masks": masks[:, shown][square]}


def thumbnail(
    axes: Axes,
    x: float,
    y: float,
    size: float,
    *,
    contrast: str = "FLAIR",
    level: float = 0.5,
    draw: str = "",
) -> None:
    """Put a small slice into a drawing.

    Args:
        axes: The drawing.
        x: Of the centre of the slice.
        y: The same.
        size: Side of the slice.
        contrast: What the slice shows.
        level: 0 to 1, from the lowest to the highest slice with tumour.
        draw: "truth" for contours, "prediction" for overlays, "" for none.
    """
    drawn = _phantom()
    index = round(level * (len(drawn[contrast]) - 1))
    inside = axes.inset_axes((x - size / 2, y - size / 2, size, size), transform=axes.transData)
    slices.draw_slice(inside, drawn[contrast][index])
    masks, colours = drawn["masks"][:, index], [PALETTE.colours[name] for name in REGIONS]
    if draw == "prediction":
        slices.draw_overlay(inside, masks, colours=colours)
    for mask, colour in zip(masks, colours, strict=True) if draw == "truth" else ():
        slices.draw_contour(inside, mask, colour=colour)
    inside.spines[:].set(visible=True, color="white", linewidth=1.2)


@style.styled
def pipeline_drawing() -> Figure:
    """Draw the method: a segmenter's masks choose and mark the slices for the classifier."""
    axes = canvas(14, 7.7)
    panel(axes, 4.2, 7.6, "Stage 1 · find the tumour", "notebooks 02 and 03", STAGE_COLOURS[0])
    panel(
        axes,
        0.1,
        3.8,
        "Stage 2 · predict MGMT methylation",
        "notebooks 04, 05 and 06",
        STAGE_COLOURS[1],
    )
    _stage_one(axes, 5.88)
    _stage_two(axes, 1.95)
    arrow(axes, (7.4, 5.23), (7.4, 4.0), (3.02, 4.0), (3.02, 2.08))
    axes.text(7.55, 4.66, "trained segmenter", fontsize=8.5, color=style.INK, va="center")
    return axes.figure


def _four_series(axes: Axes, y: float, text: str) -> None:
    for place, contrast in enumerate(CONTRASTS):
        x, down = 0.95 + 0.97 * (place % 2), 0.97 * (place // 2)
        thumbnail(axes, x, y + 0.42 - down, 0.95, contrast=contrast)
    caption(axes, 1.43, y - 1.12, text)


def _stage_one(axes: Axes, y: float) -> None:
    _four_series(axes, y, "BraTS21: 4 contrasts\nand expert labels")
    arrow(axes, (2.55, y), (3.3, y))
    for shift, level in ((0.5, 0.75), (0.25, 0.62), (0.0, 0.5)):
        thumbnail(
            axes,
            4.1 + shift,
            y + 0.6 * shift - 0.1,
            1.35,
            contrast="T1wCE",
            level=level,
            draw="truth",
        )
    caption(axes, 4.35, y - 0.95, "slices of three planes with\nmore than 1% tumour")
    arrow(axes, (5.45, y), (6.2, y))
    box(axes, 7.4, y, 2.3, 1.3, "UNet++\nDenseNet-121 encoder\nDice loss")
    arrow(axes, (8.65, y), (9.4, y))
    thumbnail(axes, 10.2, y, 1.4, contrast="T1wCE", draw="prediction")
    caption(axes, 10.2, y - 0.78, "masks of unseen patients")
    for place, (name, text) in enumerate(
        (("WT", "whole tumour (WT)"), ("ET", "enhancing tumour (ET)"))
    ):
        axes.add_patch(
            Rectangle((11.3, y + 0.1 - 0.45 * place), 0.26, 0.26, color=PALETTE.colours[name])
        )
        axes.text(11.7, y + 0.23 - 0.45 * place, text, va="center", fontsize=9)


def _stage_two(axes: Axes, y: float) -> None:
    _four_series(axes, y, "RSNA-MICCAI:\n4 DICOM series")
    arrow(axes, (2.55, y), (3.5, y))
    for shift, level in ((0.6, 0.8), (0.4, 0.7), (0.2, 0.6), (0.0, 0.5)):
        thumbnail(axes, 4.25 + shift, y + 0.5 * shift - 0.1, 1.25, level=level, draw="prediction")
    caption(
        axes,
        4.5,
        y - 0.87,
        "slices with more than 2.5%\npredicted tumour; image,\nWT and ET as 3 channels",
    )
    arrow(axes, (5.62, y), (6.1, y))
    for place in range(6):
        thumbnail(
            axes,
            6.55 + 0.13 * place,
            y - 0.03 * place,
            0.72,
            level=0.8 - 0.08 * place,
            draw="prediction",
        )
    caption(axes, 6.87, y - 0.67, "chunks of 35,\nstride 5")
    arrow(axes, (7.68, y), (8.1, y))
    box(axes, 9.1, y, 1.95, 1.15, "ECA-NFNet-L0\neach slice by itself")
    arrow(axes, (10.12, y), (10.5, y))
    box(axes, 11.25, y, 1.45, 1.15, "BiLSTM\nover the chunk")
    caption(axes, 10.05, y - 0.75, "one model for each contrast")
    arrow(axes, (12.02, y), (12.4, y))
    _bars(axes, 12.55, y, (0.62, 0.48, 0.71, 0.55))
    caption(axes, 13.1, y - 0.87, "mean over chunks,\nthen over contrasts")


def _bars(axes: Axes, x: float, y: float, values: Sequence[float]) -> None:
    """Draw a probability for each contrast and their mean."""
    for place, (name, value) in enumerate(zip(CONTRASTS, values, strict=True)):
        corner = (x, y + 0.42 - 0.32 * place)
        axes.add_patch(Rectangle(corner, 1.1 * value, 0.22, color=PALETTE.colours[name]))
    axes.plot([x + 1.1 * np.mean(values)] * 2, [y - 0.66, y + 0.76], color=style.INK, linewidth=1.8)


@style.styled
def classifier_drawing(recipe: Recipe) -> Figure:
    """Draw the sequence classifier: a backbone for each slice, a bidirectional LSTM, one logit.

    Args:
        recipe: Of the network.
    """
    length, hidden = (recipe.options[name] for name in ("sequence_length", "lstm_hidden"))
    embedding = build(recipe).backbone.num_features
    axes = canvas(13, 5.5)
    rows = {4.9: ("slice 1", 0.35), 3.8: ("slice 2", 0.45), 2.7: ("slice 3", 0.55)}
    rows[1.0] = (f"slice {length}", 0.7)
    for y, (name, level) in rows.items():
        axes.text(1.05, y, name, ha="right", va="center", fontsize=9)
        thumbnail(axes, 1.65, y, 0.95, level=level, draw="prediction")
        _branch(axes, y, recipe.backbone, f"LSTM {hidden} × 2")
    for above, below in itertools.pairwise(rows):
        ends, look = [(8.1, above - 0.33), (8.1, below + 0.33)], {"shrinkA": 0, "shrinkB": 0}
        look |= {"arrowstyle": "<|-|>", "mutation_scale": 10, "color": style.WARM}
        axes.add_patch(FancyArrowPatch(*ends, **look))
    for x in (1.65, 3.95, 6.25):
        axes.text(x, 1.85, "⋮", ha="center", va="center", fontsize=15, color=style.MUTED)
    caption(axes, 1.65, 0.42, f"3 channels, {recipe.size} × {recipe.size}")
    caption(axes, 3.95, 0.6, "the same weights for every slice")
    caption(axes, 6.25, 0.6, f"{embedding:,} numbers each")
    caption(axes, 8.1, 0.6, "both directions")
    box(axes, 10.6, 2.95, 1.6, 1.2, f"linear\n{length} × {2 * hidden} → 1")
    arrow(axes, (11.42, 2.95), (11.9, 2.95))
    look = {"ha": "center", "va": "center", "fontsize": 9.5, "fontweight": "bold"}
    axes.text(12.45, 2.95, f"logit of\n{PALETTE.outcome}", **look)
    return axes.figure


def _branch(axes: Axes, y: float, backbone: str, unit: str) -> None:
    """Draw the way of one slice through the network."""
    arrow(axes, (2.25, y), (2.8, y))
    box(axes, 3.95, y, 2.25, 0.62, backbone)
    arrow(axes, (5.12, y), (5.65, y))
    look = {"facecolor": style.PALE, "edgecolor": style.MUTED, "linewidth": 0.8}
    axes.add_patch(Rectangle((5.7, y - 0.13), 1.1, 0.26, **look))
    arrow(axes, (6.85, y), (7.38, y))
    box(axes, 8.1, y, 1.4, 0.62, unit, edge=style.WARM, colour=STAGE_COLOURS[1])
    arrow(axes, (8.85, y), (9.2, y), (9.75, 2.95 + 0.2 * (y - 2.95)))


def main(folder: str = "docs/figures") -> None:
    """Draw the method and the classifier as PNG files."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    recipe = ClassifierSettings().recipe((0.5, 99.5), "fp32")
    drawn = {"pipeline": pipeline_drawing(), "classifier": classifier_drawing(recipe)}
    for name, figure in drawn.items():
        figure.savefig(target / f"{name}.png", dpi=130)
        print(f"wrote {target / name}.png")


if __name__ == "__main__":
    main(*sys.argv[1:2])
