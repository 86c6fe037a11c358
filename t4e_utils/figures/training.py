"""Pictures of training and segmentation quality.

Batches, curves, best to worst cases, Dice by group, thresholds.

Images are `(H, W)`, masks `(R, H, W)`; histories are the tables that `training.fit` writes, a row
an epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from t4e_utils.figures import slices, style

# column of a history, and its value while the encoder is frozen
PHASES, WARM_UP = ("phase", "stage"), "warm-up"
TRAIN = {"linewidth": 1.3, "linestyle": (0, (4, 2)), "alpha": 0.85}
SCORE_COLOURS = {"valid_loss": style.ACCENT, "score": style.INK}
LOSSES = ("train_loss", "valid_loss")
NOT_SCORES = ("epoch", *PHASES, "lr", "seconds", *LOSSES)


@style.styled
def batch_grid(
    images: np.ndarray,
    masks: np.ndarray | None = None,
    *,
    regions: Sequence[str] = slices.REGIONS,
    names: Sequence[str] = (),
    columns: int = 8,
    title: str = "",
) -> Figure:
    """Show a batch as the network receives it, with its masks as contours.

    Args:
        images: Shape (B, S, S) or (B, C, S, S); of several channels the first is drawn.
        masks: Shape (B, R, S, S), or None.
        regions: Names of the R regions.
        names: A few words about each image.
        columns: Images in a row.
        title: Title of the picture.
    """
    images = np.asarray(images)
    if not len(images):
        return style.sentence("The batch is empty.")
    images = images[:, 0] if images.ndim == 4 else images
    columns = min(columns, len(images))
    title = (
        title
        or f"A batch of {len(images)} images, {images.shape[1]} × {images.shape[2]} pixels, "
        f"{images.dtype}"
    )
    picture, axes = slices.slice_grid(
        [images.shape[1]] * -(-len(images) // columns),
        [images.shape[2]] * columns,
        title=slices.stated(title),
        text=0.26 if len(names) else 0.08,
        legend=masks is not None,
    )
    for place, (each, image) in enumerate(zip(axes.flat, images, strict=False)):
        slices.draw_slice(
            each,
            image,
            truth=None if masks is None else masks[place],
            regions=regions,
            title=names[place] if place < len(names) else "",
            interpolation="nearest",
        )
    if masks is not None:
        slices.region_legend(picture, regions)
    return picture


@style.styled
def training_curves(
    history: pd.DataFrame | Mapping[str, pd.DataFrame],
    *,
    scores: Sequence[str] | None = None,
    best_epoch: int | Mapping[str, int] | None = None,
    title: str = "",
) -> Figure:
    """Show loss and scores of a training against the epoch, the warm-up shaded and the best epoch
    marked.

    Args:
        history: A row an epoch, with the columns epoch, phase ("warm-up" while the encoder is
            frozen), train_loss, valid_loss and a column a score; or several such tables by name,
            drawn in one picture.
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
    panels = (
        {score.replace("_", " "): [score] for score in scores}
        if len(runs) > 1
        else {"score": scores}
    )
    panels = {
        "loss": [column for column in LOSSES if column in first and first[column].notna().any()]
    } | (panels if scores else {})
    picture = style.new_picture(width=style.WIDTH if scores else 7, height=3.5, title=title)
    axes = picture.subplots(1, len(panels), squeeze=False)[0]
    colours = _run_colours(runs)
    for name, run in runs.items():
        colour = colours[name][1] if len(runs) > 1 else None
        given = best_epoch.get(name) if isinstance(best_epoch, Mapping) else best_epoch
        best = best_row(run) if given is None else given
        for each, columns in zip(axes, panels.values(), strict=True):
            _curves(each, run, [c for c in columns if c in run], colour, best)
    for each, label in zip(axes, panels, strict=True):
        each.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        _shade_warm_up(each, list(runs.values()), height=0.04 if label == "loss" else 0.94)
        each.set(xlabel="epoch", ylabel=label)
        style.light_grid(each)
        if len(runs) == 1:
            each.legend(loc="best")
    if len(runs) > 1:
        entries = style.lines(dict(colours.values()))
        entries += [Line2D([], [], color=style.MUTED, label="training", **TRAIN)]
        entries += [Line2D([], [], color=style.MUTED, label="validation")]
        picture.legend(handles=entries, loc="outside lower center", ncols=min(len(entries), 8))
    return picture


def _run_colours(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return for each run the name in the legend and the colour.

    Runs of one MRI type, such as its folds, share both.
    """
    known = {
        name: name.split()[0] if name.split() and name.split()[0] in style.SERIES_COLOURS else name
        for name in names
    }
    colours = style.colours_of(dict.fromkeys(known.values()))
    return {name: (group, colours[group]) for name, group in known.items()}


def score_columns(history: pd.DataFrame, *, is_alone: bool = True) -> list[str]:
    """Return the columns of a history that are scores.

    "score" only where no other column says the same.
    """
    columns = [
        c for c in history if c not in NOT_SCORES and pd.api.types.is_numeric_dtype(history[c])
    ]
    if not is_alone and "score" in columns:
        return ["score"]
    same = (
        any(history[c].equals(history["score"]) for c in columns if c != "score")
        if "score" in columns
        else False
    )
    return [c for c in columns if not (same and c == "score")]


def best_row(history: pd.DataFrame) -> int | None:
    """Return the epoch with the lowest validation loss, else the one with the highest score,
    else None.
    """
    if "valid_loss" in history and history["valid_loss"].notna().any():
        return int(history.loc[history["valid_loss"].idxmin(), "epoch"])
    if "score" in history and history["score"].notna().any():
        return int(history.loc[history["score"].idxmax(), "epoch"])
    return None


def _curves(
    axes: Axes, run: pd.DataFrame, columns: Sequence[str], colour: str | None, best: int | None
) -> None:
    """Draw columns of a history; one colour a run, or a colour a column where there is one run."""
    for place, column in enumerate(columns):
        faint = column == "train_loss"
        own = colour or (style.MUTED if faint else _score_colour(column, place))
        axes.plot(
            run["epoch"],
            run[column],
            color=own,
            label=column.replace("_", " "),
            marker="o" if len(run) == 1 else None,
            **(TRAIN if faint else {}),
        )
        if best is not None and not faint and (run["epoch"] == best).any():
            value = run.loc[run["epoch"] == best, column].iloc[0]
            axes.plot(best, value, "o", color=own, markersize=7, markeredgecolor="white", zorder=4)
    if best is not None and not colour:
        axes.axvline(best, color=style.INK, linewidth=1, linestyle=":", label=f"best epoch {best}")


def _score_colour(column: str, place: int) -> str:
    """Return the colour of the region that a column names, else one of its own."""
    region = next(
        (word.upper() for word in column.split("_") if word.upper() in style.REGION_COLOURS), None
    )
    return (
        style.colour_of(region)
        if region
        else SCORE_COLOURS.get(column, style.OTHER_COLOURS[place % len(style.OTHER_COLOURS)])
    )


def _shade_warm_up(axes: Axes, runs: Sequence[pd.DataFrame], *, height: float) -> None:
    """Shade the epochs in which the encoder was frozen and limit the axis to the epochs there
    are.
    """
    frozen = [run.loc[run[c] == WARM_UP, "epoch"] for run in runs for c in PHASES if c in run]
    last = max((epochs.max() for epochs in frozen if len(epochs)), default=None)
    first, end = min(run["epoch"].min() for run in runs), max(run["epoch"].max() for run in runs)
    axes.set_xlim(first - 0.5, end + 0.5)
    if last is not None:
        axes.axvspan(first - 0.5, last + 0.5, color=style.GRID, alpha=0.6, linewidth=0, zorder=0)
        axes.text(
            (first + last) / 2,
            height,
            WARM_UP,
            transform=axes.get_xaxis_transform(),
            color=style.MUTED,
            fontsize=8.5,
            ha="center",
        )
