"""Pictures of grey values: how they are spread before and after the window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from t4e_utils.figures import style
from t4e_utils.scans import intensity


@style.styled
def intensity_densities(
    volumes: Mapping[str, Sequence], *, percentiles: Sequence[float], n_bins: int = 96
) -> Figure:
    """Show the grey values of non-zero voxels before and after the window.

    There is one line for each patient and one column for each series.

    Args:
        volumes: Volumes or arrays of several patients for each series.
        percentiles: Window that is applied to each volume.
        n_bins: Bins of each histogram.
    """
    volumes = {
        name: [np.asarray(getattr(v, "array", v)) for v in several]
        for name, several in volumes.items()
        if len(several)
    }
    if not volumes:
        return style.sentence("No volume was read.")
    title = "Grey values of the voxels that are not zero, one line per patient"
    figure = style.new_figure(height=4.6, title=title)
    axes = figure.subplots(2, len(volumes), squeeze=False)
    for place, (column, (name, arrays)) in enumerate(zip(axes.T, volumes.items(), strict=True)):
        colour = style.colour_of(name, place)
        for array in arrays:
            grey = intensity.window_from_percentiles(array, percentiles)
            values = array[(array != 0) & np.isfinite(array)]
            for each, shown in zip(column, (values, intensity.to_uint8(values, grey)), strict=True):
                _density(each, shown, n_bins, colour)
        column[0].set(title=name, xlabel="as stored")
        column[1].set(
            xlabel=f"8 bit, percentiles {percentiles[0]:g} to {percentiles[1]:g}",
            xlim=(0, 255),
            xticks=[0, 128, 255],
        )
    for each in axes.flat:
        each.set(yticks=[], ylim=(0, None))
        each.spines["left"].set_visible(False)
    axes[0, 0].set_ylabel("before")
    axes[1, 0].set_ylabel("after")
    return figure


def _density(axes, values: np.ndarray, n_bins: int, colour: str) -> None:
    """Draw a density as a line; bins hold equally many whole numbers, so that there is no comb."""
    if not values.size:
        return
    sample = values[:: max(values.size // 1_000_000, 1)].astype(np.float64)
    low, step = np.floor(sample.min()), (sample.max() - np.floor(sample.min())) / n_bins
    step = np.ceil(step) if (sample == np.round(sample)).all() else max(step, 1e-12)
    share, edges = np.histogram(sample, bins=low - 0.5 + step * np.arange(n_bins + 2), density=True)
    axes.plot((edges[:-1] + edges[1:]) / 2, share, color=colour, linewidth=1.2, alpha=0.7)
