"""The look of all pictures: one matplotlib style, the chosen palette, and the pieces they share.

Colours are from Okabe and Ito's palette, which stays apart for colour-blind readers ("Color
Universal Design", 2008). The style is applied around each drawing and again when the figure is
rendered, never to matplotlib's global settings. A `StyledFigure` is a matplotlib Figure that pyplot
does not know. As the last expression of a notebook cell it is shown once; there is nothing to
close.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterable, Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from PIL import Image
from scipy.spatial import cKDTree

from t4e_utils.figures.palette import FigureError, Palette

INK, MUTED, GRID, PALE = "#1F2933", "#66727F", "#E3E7EB", "#C5CDD5"
ACCENT, WARM, GOOD = "#0072B2", "#D55E00", "#009E73"
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
    "text.parse_math": False,  # names of patients and folders are shown as they are
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.w_pad": 0.06,
}


_chosen = Palette()


def set_palette(palette: Palette) -> None:
    """Choose the colours, names and words of all pictures that this process draws from now on."""
    global _chosen
    _chosen = palette


def palette() -> Palette:
    """Return the palette that is in use."""
    return _chosen


class StyledFigure(Figure):
    """A Figure in the style of this package that draws itself in Jupyter without pyplot."""

    def draw(self, renderer) -> None:
        """Render in the package's style: ticks are made as late as here."""
        with matplotlib.rc_context(STYLE):
            super().draw(renderer)

    def _repr_png_(self) -> bytes:
        return small_png(self)


def small_png(figure: Figure) -> bytes:
    """Render a figure as a PNG of 256 colours, so that executed notebooks stay small.

    Of these 86 are greys and 64 the most frequent other colours. The rest is chosen from those that
    occur, each counted once, so that a region of a few pixels keeps its colour.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=STYLE["savefig.dpi"])
    with Image.open(buffer) as rendered:
        pixels = np.asarray(rendered.convert("RGB"), dtype=np.int32)
    packed, place, n = np.unique(pixels @ [65536, 256, 1], return_inverse=True, return_counts=True)
    occurring = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=1).astype(np.uint8)
    chosen = _few_colours(occurring, n)
    nearest = cKDTree(chosen.astype(float)).query(occurring)[1].astype(np.uint8)
    small, image = io.BytesIO(), Image.fromarray(nearest[place].reshape(pixels.shape[:2]))
    image.putpalette(chosen.ravel().tolist())
    image.save(small, format="png", optimize=True)
    return small.getvalue()


def _few_colours(occurring: np.ndarray, n: np.ndarray) -> np.ndarray:
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


def new_figure(width: float = WIDTH, height: float = 3.6, *, title: str = "") -> StyledFigure:
    """Make an empty figure of a size in inches, with a title on the left."""
    figure = StyledFigure(figsize=(width, height), layout="constrained")
    if title:
        figure.suptitle(title, x=0.008, ha="left")
    return figure


def axes_or_new(axes: Axes | None, *, width: float = WIDTH, height: float = 3.6) -> Axes:
    """Return the axes given, or the only axes of a new figure."""
    return new_figure(width, height).add_subplot() if axes is None else axes


def sentence(text: str, *, axes: Axes | None = None) -> Figure:
    """Draw a sentence where there is nothing else to draw."""
    axes = axes_or_new(axes, width=6, height=1.1)
    bare(axes)
    look = {"ha": "center", "va": "center", "color": MUTED, "style": "italic", "wrap": True}
    axes.text(0.5, 0.5, text, transform=axes.transAxes, **look)
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


def title_of(rows) -> str:
    """Say what rows of a table show, such as "Patient 00006 · CT · axial".

    Args:
        rows: A table or one row; patient_id, series, plane and slice are named where there is such
            a column and all rows agree.
    """
    table = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame([dict(rows)])
    words = {"patient_id": "Patient {}", "series": "{}", "plane": "{}", "slice": "slice {}"}
    same = [column for column in words if column in table and table[column].nunique() == 1]
    return " · ".join(words[column].format(table[column].iloc[0]) for column in same)


def region_names(n: int) -> tuple[str, ...]:
    """Return names for n masks: those of the palette, then numbered ones."""
    known = palette().regions[:n]
    return (*known, *(f"region {k + 1}" for k in range(len(known), n)))


def regions_in(table, suffix: str) -> list[str]:
    """Return the regions of the columns with a suffix, by default in the names of the palette.

    Raises:
        FigureError: If the column of a region of the palette is missing, or there is none.
    """
    other = f"{palette().foreground}{suffix}"
    named = [c.removesuffix(suffix) for c in table.columns if c.endswith(suffix) and c != other]
    regions = list(palette().regions) or named
    require_columns(table, [f"{name.lower()}{suffix}" for name in regions or ["region"]])
    return regions


def class_colours() -> dict[str, str]:
    """Return the colour of each class by its name."""
    return {name: palette().class_colours[value] for value, name in palette().classes.items()}


def colour_of(name, index: int = 0) -> str:
    """Return the colour of a name in the palette, else one of a cycle."""
    return palette().colours.get(name, OTHER_COLOURS[index % len(OTHER_COLOURS)])


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
    axes: Axes, values: Sequence[float], centre: float, *, colour: str, width: float = 0.32
) -> None:
    """Draw a group as a column of dots with its median and its middle half."""
    values = np.asarray(values, dtype=float)
    values = values[np.isfinite(values)]
    if not values.size:
        return
    alpha, size = (0.75, 20) if values.size <= 60 else (0.35, 9)
    places = jittered(values, centre, width=width)
    axes.scatter(places, values, s=size, color=colour, alpha=alpha, linewidths=0)
    low, middle, high = np.percentile(values, (25, 50, 75))
    if values.size > 3:
        axes.plot([centre, centre], [low, high], color=INK, linewidth=1.2, alpha=0.8)
    ends = [centre - width * 0.6, centre + width * 0.6]
    axes.plot(ends, [middle, middle], color=INK, linewidth=2.2)


def named_bars(
    axes: Axes,
    values: Mapping[str, float],
    texts: Sequence[str],
    *,
    colours: str | Sequence[str] = ACCENT,
    room: float = 0.16,
) -> None:
    """Draw horizontal bars from top to bottom, a text at the end of each.

    Args:
        axes: Axes to draw into.
        values: Length of each bar by name.
        texts: What is written at its end.
        colours: One colour, or one for each bar.
        room: Space for the texts on the right, in shares of the axis.
    """
    bars = axes.barh(list(values), list(values.values()), color=colours, height=0.62)
    axes.bar_label(bars, labels=list(texts), padding=4, fontsize=9, color=INK)
    axes.margins(x=room)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)


def whole_numbers(axis: Axis, most: int) -> None:
    """Put ticks of an axis at whole numbers only, about as many as given."""
    axis.set_major_locator(MaxNLocator(most, integer=True))


def legend_beside(axes: Axes, colours: Mapping[str, str] | None = None) -> None:
    """Put the legend on the right of an axes, by default of what is drawn in it."""
    handles = None if colours is None else patches(colours)
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1, 1))


def dashed(colour: str = INK, width: float = 1.1) -> dict:
    """Return how a dashed line is drawn."""
    return {"color": colour, "linewidth": width, "linestyle": (0, (4, 3))}
