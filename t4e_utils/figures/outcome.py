"""Pictures of a finished run.

From patients to predictions, one patient from series to probability, what drives it, time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from t4e_utils.figures import slices, style
from t4e_utils.progress import duration
from t4e_utils.sampling import pictures


@style.styled
def funnel(
    steps: Mapping[str, int],
    *,
    title: str = "From patients to predictions",
    axes: Axes | None = None,
) -> Figure:
    """Show how many patients (or series) are left after each step, as centred bars with what was
    lost.

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
        axes.text(
            0 if inside else n / 2 + 0.01 * most,
            place,
            f"{n:,}",
            ha="center" if inside else "left",
            va="center",
            color="white" if inside else style.INK,
            fontweight="bold",
        )
        lost = numbers[place - 1] - n if place else 0
        if lost:
            axes.text(
                0.53 * most,
                place,
                f"{-lost:+,}".replace("-", "−"),
                va="center",
                color=style.WARM if lost > 0 else style.GOOD,
                fontsize=9,
            )
    axes.set(
        title=title, xlim=(-0.52 * most, 0.62 * most), xticks=[], ylim=(len(steps) - 0.5, -0.5)
    )
    axes.set_yticks(places, steps)
    axes.tick_params(axis="y", length=0)
    axes.spines[:].set_visible(False)
    return axes.figure


@style.styled
def patient_story(
    stored: Mapping[str, np.ndarray],
    probabilities: Mapping[str, float],
    *,
    positions: Mapping[str, Sequence[int]] | None = None,
    n_slices: Mapping[str, int] | None = None,
    fallbacks: Mapping[str, str] | None = None,
    mean: float | None = None,
    spacings_mm: Mapping[str, tuple[float, float]] | None = None,
    planes: Mapping[str, str] | None = None,
    patient_id: str = "",
    n: int = 6,
    regions: Sequence[str] = slices.REGIONS,
) -> Figure:
    """Tell one patient from series to probability.

    Kept slices with predicted masks, and the probability of each MRI type.

    Args:
        stored: Kept slices (K, H, W, 3), 8 bit, of each MRI type; K may be 0.
        probabilities: Probability by MRI type; types without one are left out or NaN.
        positions: Number of each kept slice in its series.
        n_slices: Slices of each series.
        fallbacks: What was done instead of the filter; empty for nothing.
        mean: Probability of the patient; by default the mean of the types.
        spacings_mm: Distance of rows and of columns in each series.
        planes: Plane of each series, for the letters.
        patient_id: For the title.
        n: Slices to show of each type.
        regions: Names of channels 2 and 3.
    """
    if not stored:
        return style.sentence(f"Patient {patient_id}: no series was read.")
    known = {name: p for name, p in probabilities.items() if np.isfinite(p)}
    mean = float(np.mean(list(known.values()))) if mean is None and known else mean
    title = (
        "from four series to one probability" if len(stored) == 4 else "from series to probability"
    )
    picture = style.new_picture(
        height=1.6 * len(stored) + 0.8, title=slices.stated(f"Patient {patient_id}: {title}")
    )
    axes = picture.subplots(len(stored), n + 1, squeeze=False, width_ratios=[1] * n + [1.4])
    for row, (name, images) in zip(axes[:, :-1], stored.items(), strict=True):
        _story_row(
            row,
            np.asarray(images),
            name,
            (positions or {}).get(name),
            (n_slices or {}).get(name),
            (fallbacks or {}).get(name, ""),
            regions=regions,
            spacing_mm=(spacings_mm or {}).get(name, (1.0, 1.0)),
            letters=slices.PLANE_LETTERS.get((planes or {}).get(name), {}),
        )
    for place, (bar, name) in enumerate(zip(axes[:, -1], stored, strict=True)):
        _story_bar(
            bar,
            known.get(name),
            style.colour_of(name, place),
            mean,
            is_last=place == len(stored) - 1,
        )
    axes[0, -1].set_title("no prediction" if mean is None else f"patient: {mean:.3f}", loc="center")
    slices.region_legend(picture, regions, truth=False, prediction=True)
    return picture


def _story_row(
    row, images: np.ndarray, name: str, positions, n_slices, fallback: str, **drawing
) -> None:
    """Draw the kept slices of one MRI type."""
    for each in row:
        style.bare(each)
    kept = f"{len(images)} of {n_slices} kept" if n_slices else f"{len(images)} kept"
    row[0].set_ylabel("\n".join(filter(None, (name, kept, fallback))), fontsize=8.5)
    if not len(images):
        style.sentence("no slice was kept", axes=row[0])
        return
    grey, masks = pictures.split_channels(images)
    for each, index in zip(
        row, np.unique(np.linspace(0, len(images) - 1, len(row)).round().astype(int)), strict=False
    ):
        where = index if positions is None else positions[index]
        slices.draw_slice(
            each, grey[index], prediction=masks[:, index], title=f"slice {where}", **drawing
        )


def _story_bar(
    axes: Axes, probability: float | None, colour: str, mean: float | None, *, is_last: bool
) -> None:
    """Draw the probability of an MRI type level with its slices, and that of the patient as a
    line.
    """
    if probability is None:
        axes.text(
            0.03, 0, "no prediction", va="center", fontsize=9, color=style.MUTED, style="italic"
        )
    else:
        axes.barh(0, probability, color=colour, height=0.8)
        inside = probability > 0.28
        axes.text(
            0.04 if inside else probability + 0.04,
            0,
            f"{probability:.2f}",
            va="center",
            fontsize=9.5,
            fontweight="bold",
            color="white" if inside else style.INK,
        )
    if mean is not None:
        axes.axvline(mean, color=style.INK, linewidth=1.6)
    axes.set(
        xlim=(0, 1),
        ylim=(-1, 1),
        yticks=[],
        xticks=[0, 0.5, 1] if is_last else [],
        xlabel="probability" if is_last else "",
    )
    axes.spines["bottom"].set_visible(is_last)


@style.styled
def slice_influence(
    stored: np.ndarray,
    influence: Sequence[float],
    *,
    positions: Sequence[int] | None = None,
    n: int = 6,
    regions: Sequence[str] = slices.REGIONS,
    spacing_mm: tuple[float, float] = (1.0, 1.0),
    plane: str | None = None,
    title: str = "",
    unit: str = "how much each slice raises the probability",
) -> Figure:
    """Show which slices drive a prediction: the influence of each, and the most influential ones.

    Args:
        stored: Slices of the sequence (T, H, W, 3) or (T, 3, H, W), 8 bit.
        influence: One number a slice: probability with it minus probability without it, so positive
            is towards class 1.
        positions: Number of each slice in its series.
        n: Slices to show.
        regions: Names of channels 2 and 3.
        spacing_mm: Distance of rows and of columns.
        plane: Plane of the slices, for the letters.
        title: Title of the picture.
        unit: What the influence is.
    """
    influence = np.asarray(influence, dtype=float)
    if not len(influence):
        return style.sentence(f"{title}: there is no slice.".lstrip(": "))
    grey, masks = pictures.split_channels(np.asarray(stored)[: len(influence)])
    where = np.arange(len(influence)) if positions is None else np.asarray(positions)
    picture = style.new_picture(height=4.6, title=slices.stated(title))
    above, below = picture.subfigures(2, 1, height_ratios=[1.0, 1.05])
    axes = above.add_subplot()
    axes.bar(
        where,
        influence,
        color=[style.CLASS_COLOURS[int(value > 0)] for value in influence],
        width=0.8 * np.diff(where).min(initial=1),
    )
    axes.axhline(0, color=style.INK, linewidth=0.8)
    axes.set(xlabel="slice", title=unit)
    entries = {f"towards {style.CLASS_NAMES[k]}": style.CLASS_COLOURS[k] for k in (1, 0)}
    axes.legend(handles=style.patches(entries), loc="upper left", bbox_to_anchor=(1, 1))
    strongest = np.sort(np.argsort(-np.abs(influence), kind="stable")[:n])
    for each, index in zip(
        below.subplots(1, n, squeeze=False)[0], [*strongest, *[None] * n], strict=False
    ):
        style.bare(each)
        if index is not None:
            slices.draw_slice(
                each,
                grey[index],
                prediction=masks[:, index],
                regions=regions,
                spacing_mm=spacing_mm,
                letters=slices.PLANE_LETTERS.get(plane, {}),
                title=f"slice {where[index]}: "
                f"{influence[index]:+{'.2f' if abs(influence[index]) >= 0.005 else '.0e'}}".replace(
                    "-", "−"
                ),
            )
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    return picture


@style.styled
def prediction_shift(
    out_of_fold: Sequence[float],
    test: Sequence[float],
    *,
    n_bins: int = 20,
    title: str = "",
    axes: Axes | None = None,
) -> Figure:
    """Compare the predictions of test patients with the out-of-fold predictions of training
    patients: a shift shows a skew.

    Args:
        out_of_fold: Probabilities of training patients, each by a model that did not see it.
        test: Probabilities of test patients.
        n_bins: Bins between 0 and 1.
        title: Title of the picture.
        axes: Axes to draw into.
    """
    groups = {
        "out of fold": np.asarray(out_of_fold, dtype=float),
        "test": np.asarray(test, dtype=float),
    }
    groups = {name: values[np.isfinite(values)] for name, values in groups.items()}
    if not any(len(values) for values in groups.values()):
        return style.sentence("No patient was predicted.", axes=axes)
    axes = style.axes_or_new(axes, width=8, height=3.2)
    for (name, values), colour in zip(groups.items(), (style.ACCENT, style.WARM), strict=True):
        if len(values):
            axes.hist(
                values,
                bins=np.linspace(0, 1, n_bins + 1),
                weights=np.full(len(values), 1 / len(values)),
                histtype="stepfilled",
                facecolor=(colour, 0.22),
                edgecolor=colour,
                linewidth=1.6,
                label=f"{name}, n = {len(values)}",
            )
            axes.axvline(
                np.median(values),
                color=colour,
                linewidth=1.4,
                linestyle=(0, (4, 3)),
                label=f"median {np.median(values):.2f}",
            )
    axes.set(
        title=title or "Predictions on test patients and out of fold",
        xlabel="probability",
        ylabel="share of patients",
        xlim=(0, 1),
    )
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
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
    bars = axes.barh(list(seconds), list(seconds.values()), color=style.ACCENT, height=0.62)
    style.label_bars(axes, bars, [duration(value) for value in seconds.values()])
    axes.set(title=f"{title}: {duration(sum(seconds.values()))} in all", xticks=[])
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.spines["bottom"].set_visible(False)
    return axes.figure


def fallback_list(report: pd.DataFrame, *, column: str = "fallback") -> list[str]:
    """Return every fallback of a submission report, one an entry.

    Patients without any are "none needed".
    """
    style.require_columns(report, [column])
    texts = report[column].fillna("")
    return [part.strip() for text in texts for part in (text or "none needed").split(";")]
