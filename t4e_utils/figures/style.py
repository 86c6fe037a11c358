"""Look shared by all pictures.

Colours, one matplotlib style, and the pieces every picture is made of.

Colours are from Okabe and Ito's palette, which stays apart for colour-blind readers ("Color
Universal Design", 2008). The style is applied around each drawing and again when the picture is
rendered, never to matplotlib's global settings. A `Picture` is a matplotlib Figure that pyplot does
not know: as the last expression of a notebook cell it is shown once, and there is nothing to close.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterable, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from PIL import Image
from scipy.spatial import cKDTree

from t4e_utils import T4EError

INK, MUTED, GRID, PALE = "#1F2933", "#66727F", "#E3E7EB", "#C5CDD5"
ACCENT, WARM, GOOD = "#0072B2", "#D55E00", "#009E73"
REGION_COLOURS = {"WT": "#56B4E9", "ET": "#E69F00"}
SERIES_COLOURS = {
    "FLAIR": "#0072B2",
    "T1w": "#009E73",
    "T1wCE": "#D55E00",
    "T2w": "#CC79A7",
    "mean": INK,
}
CLASS_COLOURS = {0: "#98A4AF", 1: "#5B2C83"}
CLASS_NAMES = {0: "unmethylated", 1: "methylated"}
OTHER_COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#5B2C83",
    "#98A4AF",
)
WIDTH = 10.5  # inches; 1,050 pixels in a notebook
STYLE = {
    "figure.dpi": 100,
    "savefig.dpi": 100,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": INK,
    "figure.titlesize": 12,
    "figure.titleweight": "bold",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 7,
    "axes.titlecolor": INK,
    "axes.labelsize": 9.5,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#9AA5B1",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.facecolor": "white",
    "axes.grid": False,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": "#9AA5B1",
    "ytick.color": "#9AA5B1",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.handlelength": 1.4,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "patch.linewidth": 0.8,
    "image.cmap": "gray",
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.w_pad": 0.06,
}


class FigureError(T4EError):
    """The data given to a picture lack something that it must draw."""


class Picture(Figure):
    """A Figure in the style of this package that draws itself in Jupyter, with or without
    pyplot.
    """

    def draw(self, renderer) -> None:
        """Render in the package's style: ticks are made as late as here."""
        with matplotlib.rc_context(STYLE):
            super().draw(renderer)

    def _repr_png_(self) -> bytes:
        return small_png(self)


def small_png(figure: Figure) -> bytes:
    """Render a figure as a PNG of 256 colours, less than half the usual size.

    Executed notebooks stay small.

    Of these 86 are greys, 64 the most frequent other colours, and the rest is chosen from the list
    of those that occur, each counted once, so that a tumour of a few pixels keeps its colour.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=STYLE["savefig.dpi"])
    with Image.open(buffer) as rendered:
        pixels = np.asarray(rendered.convert("RGB"), dtype=np.int32)
    packed, place, n = np.unique(pixels @ [65536, 256, 1], return_inverse=True, return_counts=True)
    occurring = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=1).astype(np.uint8)
    palette = _palette(occurring, n)
    nearest = cKDTree(palette.astype(float)).query(occurring)[1].astype(np.uint8)
    small, image = io.BytesIO(), Image.fromarray(nearest[place].reshape(pixels.shape[:2]))
    image.putpalette(palette.ravel().tolist())
    image.save(small, format="png", optimize=True)
    return small.getvalue()


def _palette(occurring: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Choose at most 256 colours for those that occur (N, 3) how often (N,)."""
    greys = np.repeat(np.arange(0, 256, 3, dtype=np.uint8)[:, None], 3, axis=1)
    is_coloured = np.ptp(occurring, axis=1) > 6
    coloured = occurring[is_coloured][np.argsort(-n[is_coloured], kind="stable")]
    frequent, rare = coloured[:64], coloured[64:]
    if len(rare):
        n_rare = 256 - len(greys) - len(frequent)
        chosen = (
            Image.fromarray(rare[None])
            .quantize(n_rare, method=Image.Quantize.MEDIANCUT)
            .getpalette()[: 3 * n_rare]
        )
        rare = np.reshape(chosen, (-1, 3)).astype(np.uint8)
    return np.concatenate([greys, frequent, rare])


def styled(function: Callable[..., Figure]) -> Callable[..., Figure]:
    """Run a drawing function in the package's style and leave the global style as it was."""

    @functools.wraps(function)
    def in_style(*arguments, **options) -> Figure:
        with matplotlib.rc_context(STYLE):
            return function(*arguments, **options)

    return in_style


def new_picture(width: float = WIDTH, height: float = 3.6, *, title: str = "") -> Picture:
    """Make an empty picture of a size in inches, with a title on the left."""
    picture = Picture(figsize=(width, height), layout="constrained")
    if title:
        picture.suptitle(title, x=0.008, ha="left")
    return picture


def axes_or_new(axes: Axes | None, *, width: float = WIDTH, height: float = 3.6) -> Axes:
    """Return the axes given, or the only axes of a new picture."""
    return new_picture(width, height).add_subplot() if axes is None else axes


def sentence(text: str, *, axes: Axes | None = None) -> Figure:
    """Draw a sentence where there is nothing else to draw."""
    axes = axes_or_new(axes, width=6, height=1.1)
    bare(axes)
    axes.text(
        0.5,
        0.5,
        text,
        ha="center",
        va="center",
        color=MUTED,
        style="italic",
        transform=axes.transAxes,
        wrap=True,
    )
    return axes.figure


def require_columns(table, columns: Iterable[str]) -> None:
    """Stop with a sentence if a table lacks a column.

    Raises:
        FigureError: If a column is missing.
    """
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise FigureError(
            f"The table for this picture has no column {', '.join(map(repr, missing))}; "
            f"it has {', '.join(map(repr, table.columns)) or 'none'}. Pass a table with the "
            "missing columns."
        )


def colour_of(name, index: int = 0) -> str:
    """Return the fixed colour of a region or MRI type, else one of a cycle."""
    fixed = REGION_COLOURS | SERIES_COLOURS
    return fixed.get(name, OTHER_COLOURS[index % len(OTHER_COLOURS)])


def colours_of(names: Iterable) -> dict[str, str]:
    """Return a colour for each name, in order."""
    return {name: colour_of(name, place) for place, name in enumerate(names)}


def light_grid(axes: Axes, axis: str = "y") -> None:
    """Draw pale lines behind the data, across one axis."""
    axes.grid(True, axis=axis)
    axes.tick_params(axis=axis, length=0)


def bare(axes: Axes) -> None:
    """Leave an axes without ticks and frame."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def patches(colours: dict[str, str], *, alpha: float = 1.0) -> list[Patch]:
    """Return legend entries: a filled square for each name."""
    return [Patch(facecolor=colour, alpha=alpha, label=name) for name, colour in colours.items()]


def lines(colours: dict[str, str], **options) -> list[Line2D]:
    """Return legend entries: a line for each name."""
    return [Line2D([], [], color=colour, label=name, **options) for name, colour in colours.items()]


def jittered(values: Sequence[float], centre: float, *, width: float = 0.32) -> np.ndarray:
    """Return x positions that spread the points of a group sideways, the same on every call.

    Shape (N,).
    """
    return centre + np.random.default_rng(len(values)).uniform(-width / 2, width / 2, len(values))


def dots(
    axes: Axes,
    values: Sequence[float],
    centre: float,
    *,
    colour: str,
    width: float = 0.32,
    label: str | None = None,
) -> None:
    """Draw a group as a column of dots with its median and its middle half."""
    values = np.asarray(values, dtype=float)
    values = values[np.isfinite(values)]
    if not values.size:
        return
    alpha, size = (0.75, 20) if values.size <= 60 else (0.35, 9)
    axes.scatter(
        jittered(values, centre, width=width),
        values,
        s=size,
        color=colour,
        alpha=alpha,
        linewidths=0,
        label=label,
    )
    low, middle, high = np.percentile(values, (25, 50, 75))
    if values.size > 3:
        axes.plot([centre, centre], [low, high], color=INK, linewidth=1.2, alpha=0.8)
    axes.plot(
        [centre - width * 0.6, centre + width * 0.6], [middle, middle], color=INK, linewidth=2.2
    )


def label_bars(axes: Axes, bars, texts: Sequence[str], *, room: float = 0.16) -> None:
    """Write a text at the end of each horizontal bar and leave room for it."""
    axes.bar_label(bars, labels=list(texts), padding=4, fontsize=9, color=INK)
    axes.margins(x=room)
