"""Pictures of a finished run: from patients to predictions, one patient, what drives it, time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from t4e_utils.figures import slices, stored, style
from t4e_utils.figures.palette import FigureError
from t4e_utils.progress import duration
from t4e_utils.sampling.pictures import Picture


@style.styled
def funnel(
    steps: Mapping[str, int],
    *,
    title: str = "From patients to predictions",
    axes: Axes | None = None,
) -> Figure:
    """Show how many patients (or series) are left after each step, as bars with what was lost.

    Args:
        steps: Count after each step, in order.
        title: Title of the picture.
        axes: Axes to draw into.
    """
    if not steps or not max(steps.values()):
        return style.sentence("No patient entered.", axes=axes)
    axes = style.axes_or_new(axes, width=8, height=0.7 + 0.52 * len(steps))
    numbers, most = np.array(list(steps.values())), max(steps.values())
    places = np.arange(len(steps))
    axes.barh(places, numbers, left=-numbers / 2, color=style.ACCENT, height=0.74, alpha=0.9)
    for place, n in enumerate(numbers):
        inside = n > 0.14 * most
        x, look = (0, {"ha": "center", "color": "white"}) if inside else (n / 2 + 0.01 * most, {})
        axes.text(x, place, f"{n:,}", va="center", fontweight="bold", **look)
        lost = numbers[place - 1] - n if place else 0
        if lost:
            said, ink = f"{-lost:+,}".replace("-", "−"), style.WARM if lost > 0 else style.GOOD
            axes.text(0.53 * most, place, said, va="center", color=ink, fontsize=9)
    axes.set(title=title, xticks=[], xlim=(-0.52 * most, 0.62 * most))
    axes.set_ylim(len(steps) - 0.5, -0.5)
    axes.set_yticks(places, steps)
    axes.tick_params(axis="y", length=0)
    axes.spines[:].set_visible(False)
    return axes.figure


@style.styled
def patient_story(
    pictures: Mapping[str, Sequence[Picture]],
    table: pd.DataFrame,
    *,
    mean: float | None = None,
    n: int = 6,
) -> Figure:
    """Tell one patient from series to probability: kept slices with predicted masks, probabilities.

    Args:
        pictures: Kept slices of each series, whose titles stand above them; there may be none.
        table: One row per series of the patient, with the columns series and probability (NaN where
            there is none). Where known, also patient_id, n_slices (of the series) and fallback
            (what was done instead of choosing slices by the rule).
        mean: Probability of the patient; by default the mean of the series.
        n: Slices to show of each series.

    Raises:
        FigureError: If a column is missing, or a series has several rows.
    """
    style.require_columns(table, ["series", "probability"])
    if twice := table.loc[table["series"].duplicated(), "series"].tolist():
        raise FigureError(
            f"The table has several rows of {', '.join(twice)}: pass one row per series of one "
            "patient."
        )
    who = f"Patient {table['patient_id'].iloc[0]}" if "patient_id" in table and len(table) else ""
    if not pictures:
        return style.sentence(f"{who}: no series was read.".lstrip(": "))
    rows = table.set_index("series").reindex(list(pictures))
    known = rows["probability"].dropna().to_dict()
    mean = float(np.mean(list(known.values()))) if mean is None and known else mean
    shown = [picture for several in pictures.values() for picture in several]
    title = stored.stated(f"{who}: from series to probability".lstrip(": "), shown)
    figure = style.new_figure(height=1.6 * len(pictures) + 0.8, title=title)
    widths = [1] * n + [1.4]
    axes = figure.subplots(len(pictures), n + 1, squeeze=False, width_ratios=widths)
    for place, (row, name) in enumerate(zip(axes, pictures, strict=True)):
        _story_row(row[:-1], pictures[name], rows.loc[name])
        colour, is_last = style.colour_of(name, place), place == len(pictures) - 1
        _story_bar(row[-1], known.get(name), colour, mean, is_last=is_last)
    axes[0, -1].set_title("no prediction" if mean is None else f"patient: {mean:.3f}", loc="center")
    regions = shown[0].regions if shown else ()
    slices.region_legend(figure, regions, truth=False, prediction=True)
    return figure


def _story_row(row: Sequence[Axes], pictures: Sequence[Picture], facts: pd.Series) -> None:
    """Draw the kept slices of one series."""
    for each in row:
        style.bare(each)
    of = f" of {facts['n_slices']:.0f}" if pd.notna(facts.get("n_slices")) else ""
    fallback = facts.get("fallback") if pd.notna(facts.get("fallback")) else ""
    words = filter(None, (facts.name, f"{len(pictures)}{of} kept", fallback))
    row[0].set_ylabel("\n".join(words), fontsize=8.5)
    if not len(pictures):
        style.sentence("no slice was kept", axes=row[0])
    for each, index in zip(row, stored.in_steps(range(len(pictures)), len(row)), strict=False):
        said = pictures[index].title or f"slice {index}"
        stored.draw_picture(each, pictures[index], masks="prediction", title=said)


def _story_bar(
    axes: Axes, probability: float | None, colour: str, mean: float | None, *, is_last: bool
) -> None:
    """Draw the probability of a series level with its slices, and that of the patient as a line."""
    if probability is None:
        look = {"va": "center", "fontsize": 9, "color": style.MUTED, "style": "italic"}
        axes.text(0.03, 0, "no prediction", **look)
    else:
        axes.barh(0, probability, color=colour, height=0.8)
        inside = probability > 0.28
        x, ink = (0.04, "white") if inside else (probability + 0.04, style.INK)
        look = {"va": "center", "fontsize": 9.5, "fontweight": "bold", "color": ink}
        axes.text(x, 0, f"{probability:.2f}", **look)
    if mean is not None:
        axes.axvline(mean, color=style.INK, linewidth=1.6)
    axes.set(xlim=(0, 1), ylim=(-1, 1), yticks=[], xticks=[0, 0.5, 1] if is_last else [])
    axes.set_xlabel("probability" if is_last else "")
    axes.spines["bottom"].set_visible(is_last)


@style.styled
def slice_influence(
    pictures: Sequence[Picture],
    influence: Sequence[float],
    *,
    positions: Sequence[int] | None = None,
    n: int = 6,
    title: str = "",
    unit: str = "how much each slice raises the probability",
) -> Figure:
    """Show which slices drive a prediction: the influence of each, and the most influential ones.

    Args:
        pictures: Slices of the sequence.
        influence: One number per slice: probability with it minus probability without it, so that
            positive is towards class 1.
        positions: Number of each slice in its series.
        n: Slices to show.
        title: Title of the figure.
        unit: What the influence is.
    """
    influence = np.asarray(influence, dtype=float)
    if not len(influence):
        return style.sentence(f"{title}: there is no slice.".lstrip(": "))
    where = np.arange(len(influence)) if positions is None else np.asarray(positions)
    figure = style.new_figure(height=4.6, title=stored.stated(title, pictures))
    above, below = figure.subfigures(2, 1, height_ratios=[1.0, 1.05])
    axes, names = above.add_subplot(), style.palette().classes
    colours = [style.palette().class_colours[int(value > 0)] for value in influence]
    axes.bar(where, influence, color=colours, width=0.8 * np.diff(where).min(initial=1))
    axes.axhline(0, color=style.INK, linewidth=0.8)
    axes.set(xlabel="slice", title=unit)
    entries = {f"towards {names[k]}": style.palette().class_colours[k] for k in (1, 0)}
    style.legend_beside(axes, entries)
    style.whole_numbers(axes.xaxis, 10)
    strongest = np.sort(np.argsort(-np.abs(influence), kind="stable")[:n])
    panels = below.subplots(1, n, squeeze=False)[0]
    for each in panels:
        style.bare(each)
    for each, index in zip(panels, strongest, strict=False):
        digits = ".2f" if abs(influence[index]) >= 0.005 else ".0e"
        said = f"slice {where[index]}: {influence[index]:+{digits}}".replace("-", "−")
        stored.draw_picture(each, pictures[index], masks="prediction", title=said)
    return figure


@style.styled
def prediction_shift(
    out_of_fold: Sequence[float],
    test: Sequence[float],
    *,
    n_bins: int = 20,
    title: str = "",
    axes: Axes | None = None,
) -> Figure:
    """Compare predictions of test patients with out-of-fold ones of training patients.

    Args:
        out_of_fold: Probabilities of training patients, each by a model that did not see it.
        test: Probabilities of test patients.
        n_bins: Bins between 0 and 1.
        title: Title of the picture.
        axes: Axes to draw into.
    """
    groups = {"out of fold": np.asarray(out_of_fold, float), "test": np.asarray(test, float)}
    groups = {name: values[np.isfinite(values)] for name, values in groups.items()}
    if not any(len(values) for values in groups.values()):
        return style.sentence("No patient was predicted.", axes=axes)
    axes = style.axes_or_new(axes, width=8, height=3.2)
    for (name, values), colour in zip(groups.items(), (style.ACCENT, style.WARM), strict=True):
        if len(values):
            bins, weights = np.linspace(0, 1, n_bins + 1), np.full(len(values), 1 / len(values))
            look = {"facecolor": (colour, 0.22), "edgecolor": colour, "linewidth": 1.6}
            said, middle = f"{name}, n = {len(values)}", np.median(values)
            axes.hist(values, bins, weights=weights, histtype="stepfilled", label=said, **look)
            axes.axvline(middle, label=f"median {middle:.2f}", **style.dashed(colour, 1.4))
    axes.set(title=title or "Predictions on test patients and out of fold", xlim=(0, 1))
    axes.set(xlabel="probability", ylabel="share of patients")
    style.legend_beside(axes)
    return axes.figure


@style.styled
def stage_times(
    seconds: Mapping[str, float], *, title: str = "Time of each stage", axes: Axes | None = None
) -> Figure:
    """Show how long each stage took.

    Args:
        seconds: Duration of each stage, in order.
        title: Title of the picture.
        axes: Axes to draw into.
    """
    if not seconds:
        return style.sentence("No stage was timed.", axes=axes)
    axes = style.axes_or_new(axes, width=8, height=0.9 + 0.36 * len(seconds))
    style.named_bars(axes, seconds, [duration(value) for value in seconds.values()])
    axes.set(title=f"{title}: {duration(sum(seconds.values()))} in all", xticks=[])
    axes.spines["bottom"].set_visible(False)
    return axes.figure


def fallback_list(report: pd.DataFrame, *, column: str = "fallback") -> list[str]:
    """Return every fallback of a submission report, "none needed" for patients without one."""
    style.require_columns(report, [column])
    texts = report[column].fillna("")
    return [part.strip() for text in texts for part in (text or "none needed").split(";")]
