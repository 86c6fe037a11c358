"""Pieces of drawings: boxes, arrows, panels on a canvas whose units are equal both ways."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from t4e_utils.figures import style


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
    """Draw a rounded box around a text, whose first line is bold; x and y are its centre."""
    corner = (x - width / 2, y - height / 2)
    shape = "round,pad=0,rounding_size=0.12"
    axes.add_patch(
        FancyBboxPatch(
            corner, width, height, boxstyle=shape, facecolor=colour, edgecolor=edge, linewidth=1.5
        )
    )
    head, *rest = text.split("\n")
    axes.text(
        x, y + 0.15 * len(rest), head, ha="center", va="center", fontweight="bold", fontsize=9.5
    )
    if rest:
        below = "\n".join(rest)
        axes.text(
            x,
            y - 0.16,
            below,
            ha="center",
            va="center",
            fontsize=8.5,
            color=style.MUTED,
            linespacing=1.35,
        )


def arrow(axes: Axes, *points: tuple[float, float]) -> None:
    """Draw an arrow along straight pieces."""
    axes.plot(
        *zip(*points[:-1], strict=True),
        color=style.INK,
        linewidth=1.5,
        solid_capstyle="butt",
        solid_joinstyle="round",
    )
    axes.add_patch(
        FancyArrowPatch(
            points[-2],
            points[-1],
            arrowstyle="-|>",
            mutation_scale=13,
            color=style.INK,
            linewidth=1.5,
            shrinkA=0,
            shrinkB=0,
        )
    )


def caption(axes: Axes, x: float, y: float, text: str, *, colour: str = style.MUTED) -> None:
    """Write a small explanation, centred, from y downwards."""
    axes.text(x, y, text, ha="center", va="top", fontsize=8.5, color=colour, linespacing=1.35)


def canvas(width: float, height: float, *, inches: float = 11.0) -> Axes:
    """Return an empty axes in which a unit is the same length both ways."""
    axes = style.new_figure(inches, inches * height / width).add_subplot()
    axes.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    axes.set_axis_off()
    return axes


def panel(axes: Axes, bottom: float, top: float, title: str, note: str, colour: str) -> None:
    """Draw the background of a stage, from left to right, with its title."""
    right = axes.get_xlim()[1]
    shape = "round,pad=0,rounding_size=0.22"
    axes.add_patch(
        FancyBboxPatch(
            (0.1, bottom),
            right - 0.2,
            top - bottom,
            boxstyle=shape,
            facecolor=colour,
            edgecolor="none",
            zorder=0,
        )
    )
    head, _, rest = title.partition(" · ")
    axes.text(0.46, top - 0.3, head, fontsize=11.5, fontweight="bold", va="center")
    axes.text(0.46, top - 0.62, rest, fontsize=9.5, va="center")
    axes.text(
        right - 0.4, top - 0.3, note, fontsize=8.5, color=style.MUTED, va="center", ha="right"
    )
