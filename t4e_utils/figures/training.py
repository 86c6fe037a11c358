"""Pictures of training: what a network receives, and curves of losses and scores.

Histories are the tables that a training writes, one row per epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from t4e_utils.figures import slices, stored, style

# column of a history, and its value while the encoder is frozen
PHASES, WARM_UP = ("phase", "stage"), "warm-up"
TRAIN = {"linewidth": 1.3, "linestyle": (0, (4, 2)), "alpha": 0.85}
SCORE_COLOURS = {"valid_loss": style.ACCENT, "score": style.INK}
LOSSES = ("train_loss", "valid_loss")
NOT_SCORES = ("epoch", *PHASES, "lr", "seconds", *LOSSES)


@style.styled
def batch_grid(items: Sequence, *, n: int = 16, columns: int = 8, title: str = "") -> Figure:
    """Show items of a data set as a network receives them, with their masks as contours.

    Args:
        items: A data set or a list: `Picture`s, whose titles stand above them, or what
            `stored.as_pictures` takes.
        n: Items to show, in equal steps from the first to the last.
        columns: Images in a row.
        title: Title of the figure; by default the number of images, their size and type.
    """
    chosen = np.linspace(0, len(items) - 1, min(n, len(items))).astype(int)
    pictures = stored.as_pictures(items[int(k)] for k in chosen)
    if not pictures:
        return style.sentence("The batch is empty.")
    image, columns = pictures[0].image, min(columns, len(pictures))
    said = f"A batch of {len(pictures)} images, {image.shape[0]} × {image.shape[1]} pixels"
    has_masks, (height, width) = len(pictures[0].regions) > 0, stored.extent_mm(pictures)
    figure, axes = slices.slice_grid(
        [height] * -(-len(pictures) // columns),
        [width] * columns,
        title=stored.stated(title or f"{said}, {image.dtype}", pictures),
        text=0.26 if any(picture.title for picture in pictures) else 0.08,
        legend=has_masks,
    )
    for each, picture in zip(axes.flat, pictures, strict=False):
        look = {"masks": "truth", "title": picture.title, "interpolation": "nearest"}
        stored.draw_picture(each, picture, letters=False, **look)
    slices.region_legend(figure, pictures[0].regions)
    return figure


@style.styled
def training_curves(
    history: pd.DataFrame | Mapping[str, pd.DataFrame],
    *,
    scores: Sequence[str] | None = None,
    best_epoch: int | Mapping[str, int] | None = None,
    title: str = "",
) -> Figure:
    """Show losses and scores against the epoch, with the warm-up shaded and the best epoch marked.

    Args:
        history: One row per epoch, with the columns epoch, phase ("warm-up" while the encoder is
            frozen), train_loss, valid_loss and one for each score; or several such tables by name,
            drawn in one picture. Names that start with the same name of the palette, such as the
            folds of a series, share its colour.
        scores: Columns of the right panel; by default all that are neither loss nor bookkeeping (of
            several tables, "score" alone). Of several tables each column gets a panel of its own,
            as the colours tell the tables apart.
        best_epoch: Epoch to mark, of several tables one for each name; by default the one with the
            lowest valid_loss, else with the highest "score".
        title: Title of the picture.
    """
    runs = {"": history} if isinstance(history, pd.DataFrame) else dict(history)
    runs = {name: run for name, run in runs.items() if len(run)}
    if not runs:
        return style.sentence("No epoch was trained.")
    for run in runs.values():
        style.require_columns(run, ["epoch", "train_loss"])
    first = next(iter(runs.values()))
    scores = score_columns(first, is_alone=len(runs) == 1) if scores is None else list(scores)
    panels = {"loss": [c for c in LOSSES if c in first and first[c].notna().any()]}
    if scores:
        apart = {score.replace("_", " "): [score] for score in scores}
        panels |= apart if len(runs) > 1 else {"score": scores}
    figure = style.new_figure(width=style.WIDTH if scores else 7, height=3.5, title=title)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    colours = _run_colours(runs)
    for name, run in runs.items():
        colour = colours[name][1] if len(runs) > 1 else None
        given = best_epoch.get(name) if isinstance(best_epoch, Mapping) else best_epoch
        best = best_row(run) if given is None else given
        for each, columns in zip(axes, panels.values(), strict=True):
            _curves(each, run, [c for c in columns if c in run], colour, best)
    for each, label in zip(axes, panels, strict=True):
        style.whole_numbers(each.xaxis, 6)
        _shade_warm_up(each, list(runs.values()), height=0.04 if label == "loss" else 0.94)
        each.set(xlabel="epoch", ylabel=label)
        style.light_grid(each)
        if len(runs) == 1:
            each.legend(loc="best")
    if len(runs) > 1:
        entries = style.lines(dict(colours.values()))
        entries += [Line2D([], [], color=style.MUTED, label="training", **TRAIN)]
        entries += [Line2D([], [], color=style.MUTED, label="validation")]
        figure.legend(handles=entries, loc="outside lower center", ncols=min(len(entries), 8))
    return figure


def _run_colours(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return for each run its name in the legend and its colour.

    Runs that start with the same name of the palette, such as the folds of a series, share both.
    """
    first, coloured = {name: name.partition(" ")[0] for name in names}, style.palette().colours
    known = {name: word if word in coloured else name for name, word in first.items()}
    colours = style.colours_of(dict.fromkeys(known.values()))
    return {name: (group, colours[group]) for name, group in known.items()}


def score_columns(history: pd.DataFrame, *, is_alone: bool = True) -> list[str]:
    """Return the score columns of a history; "score" only where no other says the same."""
    numbers = history.select_dtypes("number")
    columns = [column for column in numbers if column not in NOT_SCORES]
    if not is_alone and "score" in columns:
        return ["score"]
    others = [column for column in columns if column != "score"]
    is_same = "score" in columns and any(numbers[c].equals(numbers["score"]) for c in others)
    return others if is_same else columns


def best_row(history: pd.DataFrame) -> int | None:
    """Return the epoch with the lowest validation loss, else the highest score, else None."""
    if "valid_loss" in history and history["valid_loss"].notna().any():
        return int(history.loc[history["valid_loss"].idxmin(), "epoch"])
    if "score" in history and history["score"].notna().any():
        return int(history.loc[history["score"].idxmax(), "epoch"])
    return None


def _curves(
    axes: Axes, run: pd.DataFrame, columns: Sequence[str], colour: str | None, best: int | None
) -> None:
    """Draw columns of a history in the colour of the run or, without one, each in its own."""
    for place, column in enumerate(columns):
        faint = column == "train_loss"
        own = colour or (style.MUTED if faint else _score_colour(column, place))
        look = {"marker": "o" if len(run) == 1 else None, **(TRAIN if faint else {})}
        axes.plot(run["epoch"], run[column], color=own, label=column.replace("_", " "), **look)
        if best is not None and not faint and (run["epoch"] == best).any():
            value = run.loc[run["epoch"] == best, column].iloc[0]
            axes.plot(best, value, "o", color=own, markersize=7, markeredgecolor="white", zorder=4)
    if best is not None and not colour:
        axes.axvline(best, color=style.INK, linewidth=1, linestyle=":", label=f"best epoch {best}")


def _score_colour(column: str, place: int) -> str:
    """Return the colour of the region that a column names, else one of its own."""
    words = column.lower().split("_")
    region = next((name for name in style.palette().regions if name.lower() in words), None)
    own = SCORE_COLOURS.get(column, style.colour_of(None, place))
    return style.colour_of(region, style.palette().regions.index(region)) if region else own


def _shade_warm_up(axes: Axes, runs: Sequence[pd.DataFrame], *, height: float) -> None:
    """Shade the epochs of a frozen encoder and limit the axis to the epochs there are."""
    frozen = [run.loc[run[c] == WARM_UP, "epoch"] for run in runs for c in PHASES if c in run]
    last = max((epochs.max() for epochs in frozen if len(epochs)), default=None)
    first, end = min(run["epoch"].min() for run in runs), max(run["epoch"].max() for run in runs)
    axes.set_xlim(first - 0.5, end + 0.5)
    if last is not None:
        axes.axvspan(first - 0.5, last + 0.5, color=style.GRID, alpha=0.6, linewidth=0, zorder=0)
        look = {"color": style.MUTED, "fontsize": 8.5, "ha": "center"}
        place = {"transform": axes.get_xaxis_transform()}
        axes.text((first + last) / 2, height, WARM_UP, **place, **look)
