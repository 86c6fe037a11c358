"""Drawings of the method: the two stages from scans to a probability, and the sequence classifier.

`python -m t4e_utils.figures.pipeline` writes the picture of the README, `docs/figures/pipeline.png`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from t4e_utils.figures import slices, style

STAGE_COLOURS = {"1": "#E8F3FA", "2": "#FDF3E1"}
TARGET = Path("docs/figures/pipeline.png")


def sketch(size: int = 96, *, level: float = 0.0, contrast: str = "FLAIR") -> tuple[np.ndarray, np.ndarray]:
    """Draw a made-up axial brain slice and its regions.

    Args:
        size: Side in pixels.
        level: -1 to 1, from low to high in the head; the tumour is largest at 0.
        contrast: MRI type, which decides what is bright.

    Returns:
        Image (size, size) from 0 to 1, and masks (2, size, size) of WT and ET.
    """
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    shrink = np.sqrt(1 - 0.55 * level**2)
    brain = (x / 0.74) ** 2 + (y / 0.9) ** 2 < shrink**2
    folds = 0.06 * np.sin(9 * np.arctan2(y, x) + 14 * np.hypot(x, y)) + 0.05 * np.cos(17 * x) * np.cos(13 * y)
    ventricles = ((np.abs(x) - 0.13) / 0.09) ** 2 + (y / (0.34 - 0.1 * abs(level))) ** 2 < 1
    far = np.hypot(x - 0.33, y + 0.3 + 0.1 * np.sin(3 * x)) / max(1 - level**2, 1e-3) ** 0.5
    whole, rim, core = brain & (far < 0.34), brain & (far < 0.2), brain & (far < 0.11)
    fluid, oedema, ring, dead = {"FLAIR": (0.12, 0.9, 0.75, 0.45), "T1w": (0.15, 0.36, 0.42, 0.25),
                                 "T1wCE": (0.15, 0.36, 1.0, 0.22), "T2w": (0.95, 0.85, 0.6, 0.8)}[contrast]  # fmt: skip
    image = np.where(brain, 0.52 + folds, 0.0)
    for where, grey in ((ventricles & brain, fluid), (whole, oedema), (rim, ring), (core, dead)):
        image = np.where(where, grey + 0.3 * folds, image)
    return np.clip(image, 0, 1), np.stack([whole, rim & ~core])


def thumbnail(
    axes: Axes,
    x: float,
    y: float,
    size: float,
    image: np.ndarray,
    masks: np.ndarray | None = None,
    *,
    filled: bool = True,
) -> None:
    """Put a small image with masks into a drawing; x and y are its centre."""
    inside = axes.inset_axes((x - size / 2, y - size / 2, size, size), transform=axes.transData)
    slices.draw_slice(
        inside, image, window=(0, 1), prediction=masks if filled else None, truth=None if filled else masks
    )
    inside.set_facecolor("black")


def box(
    axes: Axes,
    x: float,
    y: float,
    width: float,
    height: float,
    text: str,
    *,
    colour: str = "white",
    edge: str = style.ACCENT,
) -> None:
    """Draw a rounded box around a text; x and y are its centre."""
    axes.add_patch(FancyBboxPatch((x - width / 2, y - height / 2), width, height, boxstyle="round,pad=0,rounding_size=0.12",
                                  facecolor=colour, edgecolor=edge, linewidth=1.4))  # fmt: skip
    head, _, rest = text.partition("\n")
    axes.text(
        x,
        y + (0.13 * rest.count("\n") + 0.14 if rest else 0),
        head,
        ha="center",
        va="center",
        fontweight="bold",
        fontsize=9.5,
    )
    if rest:
        axes.text(x, y - 0.13, rest, ha="center", va="center", fontsize=8.5, color=style.MUTED, linespacing=1.35)


def arrow(axes: Axes, start: tuple[float, float], stop: tuple[float, float], *, bend: float = 0.0) -> None:
    """Draw an arrow between two points."""
    axes.add_patch(FancyArrowPatch(start, stop, arrowstyle="-|>", mutation_scale=13, color=style.INK, linewidth=1.4, shrinkA=3, shrinkB=3,
                                   connectionstyle=f"arc3,rad={bend}"))  # fmt: skip


def stage(axes: Axes, bottom: float, top: float, title: str, colour: str, *, right: float) -> None:
    """Draw the background of a stage."""
    axes.add_patch(FancyBboxPatch((0.1, bottom), right - 0.2, top - bottom, boxstyle="round,pad=0,rounding_size=0.2", facecolor=colour,
                                  edgecolor="none", zorder=0))  # fmt: skip
    axes.text(0.35, top - 0.25, title, fontsize=11, fontweight="bold", va="center")


def caption(axes: Axes, x: float, y: float, text: str) -> None:
    """Write a small explanation, centred."""
    axes.text(x, y, text, ha="center", va="top", fontsize=8.5, color=style.MUTED, linespacing=1.3)


def canvas(width: float, height: float, *, inches: float = 11.0) -> Axes:
    """Return an empty axes in which a unit is the same length both ways."""
    axes = style.new_picture(inches, inches * height / width).add_subplot()
    axes.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    axes.set_axis_off()
    return axes


@style.styled
def pipeline_drawing() -> Figure:
    """Draw the method in two stages: slices with expert masks train a segmenter; its masks choose and mark slices for the classifier."""
    axes = canvas(14, 7.2)
    stage(axes, 3.75, 7.1, "Stage 1 · find the tumour", STAGE_COLOURS["1"], right=14)
    stage(axes, 0.1, 3.55, "Stage 2 · predict MGMT methylation", STAGE_COLOURS["2"], right=14)
    _stage_one(axes, 5.35)
    _stage_two(axes, 1.75)
    arrow(axes, (10.05, 4.55), (4.1, 2.72), bend=0.12)
    return axes.figure


def _stage_one(axes: Axes, y: float) -> None:
    for place, contrast in enumerate(("FLAIR", "T1w", "T1wCE", "T2w")):
        thumbnail(axes, 0.95 + 0.95 * (place % 2), y + 0.48 - 0.95 * (place // 2), 0.9, sketch(contrast=contrast)[0])
    caption(axes, 1.42, y - 1.05, "BraTS21 · 4 contrasts\nwith expert labels")
    arrow(axes, (2.45, y), (3.25, y))
    for shift, level in ((0.5, 0.5), (0.25, 0.25), (0.0, 0.0)):
        thumbnail(axes, 4.05 + shift, y + shift * 0.6, 1.35, *sketch(level=level), filled=False)
    caption(axes, 4.3, y - 1.05, "slices of 3 planes with more than\n1% tumour, about 10 a plane")
    arrow(axes, (5.4, y), (6.15, y))
    box(axes, 7.35, y, 2.3, 1.25, "UNet++\nDenseNet-121 encoder\nDice loss")
    caption(axes, 7.35, y - 1.05, "notebook 03")
    arrow(axes, (8.55, y), (9.3, y))
    thumbnail(axes, 10.05, y, 1.35, *sketch(contrast="T1wCE"))
    caption(axes, 10.05, y - 0.75, "masks")
    for place, (name, text) in enumerate((("WT", "whole tumour (WT)"), ("ET", "enhancing tumour (ET)"))):
        axes.add_patch(Rectangle((11.15, y + 0.15 - 0.45 * place), 0.26, 0.26, color=style.REGION_COLOURS[name]))
        axes.text(11.55, y + 0.28 - 0.45 * place, text, va="center", fontsize=9)


def _stage_two(axes: Axes, y: float) -> None:
    for place, contrast in enumerate(("FLAIR", "T1w", "T1wCE", "T2w")):
        thumbnail(axes, 0.95 + 0.95 * (place % 2), y + 0.48 - 0.95 * (place // 2), 0.9, sketch(contrast=contrast)[0])
    caption(axes, 1.42, y - 1.05, "RSNA-MICCAI · 4 DICOM series")
    arrow(axes, (2.45, y), (3.1, y))
    for shift, level in ((0.75, 0.6), (0.5, 0.4), (0.25, 0.2), (0.0, 0.0)):
        thumbnail(axes, 3.85 + shift, y + shift * 0.5, 1.3, *sketch(level=level))
    caption(axes, 4.3, y - 1.05, "slices with more than 2.5% tumour\nimage, WT, ET as 3 channels")
    arrow(axes, (5.4, y), (6.0, y))
    for place in range(7):
        thumbnail(axes, 6.35 + 0.1 * place, y, 0.62, *sketch(size=48, level=(place - 3) / 6))
    caption(axes, 6.65, y - 0.45, "chunks of 35,\nstride 5")
    arrow(axes, (7.35, y), (7.85, y))
    box(axes, 8.85, y, 1.85, 1.15, "ECA-NFNet-L0\na slice at a time")
    arrow(axes, (9.8, y), (10.25, y))
    box(axes, 11.05, y, 1.45, 1.15, "BiLSTM\nover the chunk")
    caption(axes, 9.9, y - 1.05, "one model an MRI type · notebook 05")
    arrow(axes, (11.8, y), (12.25, y))
    _bars(axes, 13.0, y, (0.62, 0.48, 0.71, 0.55))
    caption(axes, 13.0, y - 1.05, "mean of chunks,\nthen of types")


def _bars(axes: Axes, x: float, y: float, values: Sequence[float]) -> None:
    for place, (name, value) in enumerate(zip(style.SERIES_COLOURS, values, strict=False)):
        axes.add_patch(
            Rectangle((x - 0.55, y + 0.45 - 0.3 * place), 1.1 * value, 0.2, color=style.SERIES_COLOURS[name])
        )
    axes.plot([x - 0.55 + 1.1 * np.mean(values)] * 2, [y - 0.6, y + 0.75], color=style.INK, linewidth=1.6)


@style.styled
def classifier_drawing(
    *, backbone: str = "eca_nfnet_l0", embedding: int = 2304, hidden: int = 64, length: int = 35, image_size: int = 224, steps: int = 4,
) -> Figure:  # fmt: skip
    """Draw the sequence classifier: one backbone for every slice, a bidirectional LSTM, one linear layer, one logit.

    Args:
        backbone: Name of the image network.
        embedding: Numbers that it gives for a slice.
        hidden: LSTM units in each direction.
        length: Slices of a sequence.
        image_size: Side of the square images.
        steps: Slices drawn; the last stands for the last of the sequence.
    """
    axes = canvas(13, 5.4)
    rows = np.linspace(4.6, 0.8, steps)
    for number, y in enumerate(rows):
        name = f"slice {number + 1}" if number < steps - 1 else f"slice {length}"
        thumbnail(axes, 1.5, y, 0.85, *sketch(level=(number / (steps - 1) - 0.5) * 1.2))
        axes.text(0.98, y, name, ha="right", va="center", fontsize=9)
        arrow(axes, (1.95, y), (2.7, y))
        box(axes, 3.85, y, 2.2, 0.62, backbone)
        arrow(axes, (5.0, y), (5.7, y))
        axes.add_patch(Rectangle((5.75, y - 0.13), 1.0, 0.26, facecolor=style.PALE, edgecolor=style.INK, linewidth=0.8))
        arrow(axes, (6.8, y), (7.4, y))
        box(axes, 8.05, y, 1.2, 0.62, f"LSTM {hidden}×2", edge=style.WARM, colour="#FDF3E1")
        arrow(axes, (8.7, y), (9.75, 2.7 + 0.25 * (y - 2.7)))
    for above, below in itertools.pairwise(rows):
        axes.add_patch(
            FancyArrowPatch(
                (8.05, above - 0.31), (8.05, below + 0.31), arrowstyle="<|-|>", mutation_scale=10, color=style.WARM
            )
        )
    axes.text(
        3.85,
        (rows[-1] + rows[-2]) / 2,
        "same weights for every slice",
        ha="center",
        va="center",
        fontsize=8.5,
        color=style.MUTED,
    )
    axes.text(
        6.25,
        (rows[-1] + rows[-2]) / 2,
        f"{embedding:,} numbers",
        ha="center",
        va="center",
        fontsize=8.5,
        color=style.MUTED,
    )
    axes.text(
        1.5, 0.25, f"3 channels, {image_size} × {image_size}", ha="center", va="center", fontsize=8.5, color=style.MUTED
    )
    box(axes, 10.55, 2.7, 1.5, 1.2, f"linear\n{length} × {2 * hidden} → 1")
    arrow(axes, (11.3, 2.7), (11.9, 2.7))
    axes.text(12.4, 2.7, "logit of\nmethylation", ha="center", va="center", fontsize=9.5, fontweight="bold")
    return axes.figure


if __name__ == "__main__":
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    pipeline_drawing().savefig(TARGET, dpi=110)
    print(f"wrote {TARGET}")
