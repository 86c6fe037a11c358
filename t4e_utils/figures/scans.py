"""Pictures of scans.

A patient in all contrasts and planes, a grid of patients, a series as a strip, regions, grey
values.

Volumes are `volumes.Volume` objects, array `(D, H, W)` in any orientation; label maps are volumes
or arrays on the same grid; regions map a name to label numbers. Every slice shown is the one with
the most tumour, or the fullest one where no tumour is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from t4e_utils.annotations.regions import regions_from_labels
from t4e_utils.figures import slices, style
from t4e_utils.scans import geometry, intensity
from t4e_utils.scans.volume import Volume

LABEL_NAMES = {1: "necrotic core", 2: "oedema", 4: "enhancing"}
LABEL_COLOURS = {1: "#CC79A7", 2: "#009E73", 3: "#56B4E9", 4: "#E69F00"}


def region_masks(volume, labels, regions: Mapping[str, Sequence[int]]) -> np.ndarray | None:
    """Return the regions (R, D, H, W) of a label map on the grid of a volume, or None where the
    grids differ or no map is given.
    """
    array = getattr(labels, "array", labels)
    if array is None or np.shape(array) != np.shape(volume.array):
        return None
    affine = getattr(labels, "affine", volume.affine)
    return (
        regions_from_labels(array, regions)
        if np.allclose(affine, volume.affine, atol=0.1)
        else None
    )


def window(volume, percentiles: tuple[float, float]) -> tuple[float, float]:
    """Return the grey values of a volume that are drawn black and white."""
    return intensity.window_from_percentiles(volume.array, percentiles)


@style.styled
def patient_overview(
    volumes: Mapping[str, object],
    *,
    labels=None,
    regions: Mapping[str, Sequence[int]],
    patient_id: str = "",
    planes: Sequence[str] | None = geometry.PLANES,
    percentiles: tuple[float, float] = (0.5, 99.5),
) -> Figure:
    """Show one patient: a column for each MRI type, a row for each plane, the regions as contours.

    Args:
        volumes: A volume for each MRI type, in the order to draw.
        labels: Label map; drawn on every volume that lies on its grid.
        regions: Label numbers of each region.
        patient_id: For the title.
        planes: Planes to draw; None draws each volume in its own plane only.
        percentiles: Window of each volume, over its non-zero voxels.
    """
    if not volumes:
        return style.sentence(f"Patient {patient_id}: no series was read.")
    masks = {name: region_masks(volume, labels, regions) for name, volume in volumes.items()}
    cuts = [
        [slices.cut(v, plane, masks=masks[name]) for name, v in volumes.items()]
        for plane in planes or [None]
    ]
    heights = [max(piece.image.shape[0] * piece.spacing_mm[0] for piece in row) for row in cuts]
    widths = [
        max(row[i].image.shape[1] * row[i].spacing_mm[1] for row in cuts)
        for i in range(len(volumes))
    ]
    drawn = any(mask is not None for mask in masks.values())
    picture, axes = slices.slice_grid(
        heights, widths, title=f"Patient {patient_id}", text=0.72, legend=drawn
    )
    for row_axes, row in zip(axes, cuts, strict=True):
        for each, piece, name in zip(row_axes, row, volumes, strict=True):
            slices.draw_cut(
                each,
                piece,
                title=name,
                regions=list(regions),
                state_window=True,
                window=window(volumes[name], percentiles),
            )
    if drawn:
        slices.region_legend(picture, list(regions))
    return picture


@style.styled
def patient_grid(
    volumes: Mapping[str, object],
    *,
    labels: Mapping[str, object] | None = None,
    regions: Mapping[str, Sequence[int]],
    series: str = "",
    plane: str | None = None,
    columns: int = 6,
    percentiles: tuple[float, float] = (0.5, 99.5),
) -> Figure:
    """Show many patients at a glance, one slice each.

    The one with the most tumour, else the fullest.

    Args:
        volumes: A volume for each patient id.
        labels: A label map for each patient id, where there is one.
        regions: Label numbers of each region.
        series: MRI type, for the title.
        plane: Plane to draw; None draws each volume in its own.
        columns: Patients in a row.
        percentiles: Window of each volume, over its non-zero voxels.
    """
    if not volumes:
        return style.sentence("No patient was read.")
    masks = {
        patient: region_masks(v, (labels or {}).get(patient), regions)
        for patient, v in volumes.items()
    }
    n_rows = -(-len(volumes) // columns)
    title = (
        f"{series} of {len(volumes)} patients · window: percentiles {percentiles[0]:g} to "
        f"{percentiles[1]:g} of each volume"
    )
    drawn = any(mask is not None for mask in masks.values())
    picture, axes = slices.slice_grid(
        [1.0] * n_rows, [1.0] * columns, title=title.lstrip(), text=0.42, legend=drawn
    )
    for each, (patient, volume) in zip(axes.flat, volumes.items(), strict=False):
        piece = slices.cut(volume, plane, masks=masks[patient])
        slices.draw_slice(
            each,
            piece.image,
            window=window(volume, percentiles),
            truth=piece.masks,
            regions=list(regions),
            spacing_mm=piece.spacing_mm,
            letters=piece.letters,
            title=f"{patient}\n{piece.plane} {piece.index} of {piece.n}",
        )
    if drawn:
        slices.region_legend(picture, list(regions))
    return picture


@style.styled
def series_strip(
    volume,
    *,
    n: int = 12,
    masks: np.ndarray | None = None,
    regions: Sequence[str] = slices.REGIONS,
    patient_id: str = "",
    series: str = "",
    columns: int = 6,
    percentiles: tuple[float, float] = (0.5, 99.5),
) -> Figure:
    """Show a series from its first to its last slice in equal steps, as it was acquired.

    Args:
        volume: The series.
        n: Slices to show.
        masks: Regions (R, D, H, W) drawn as contours.
        regions: Names of the regions.
        patient_id: For the title.
        series: MRI type, for the title.
        columns: Slices in a row.
        percentiles: Window of the volume, over its non-zero voxels.
    """
    if not len(volume.array):
        return style.sentence(f"Patient {patient_id} {series}: the series has no slice.")
    plane = geometry.plane_of(volume.affine)
    chosen = np.unique(np.linspace(0, len(volume.array) - 1, n).round().astype(int))
    low, high = window(volume, percentiles)
    title = (
        f"Patient {patient_id} · {series} · {plane}, {len(volume.array)} slices · "
        f"{slices.window_text((low, high))}"
    )
    pieces = [slices.cut(volume, plane, masks=masks, index=index) for index in chosen]
    height, width = (
        size * mm for size, mm in zip(pieces[0].image.shape, pieces[0].spacing_mm, strict=True)
    )
    picture, axes = slices.slice_grid(
        [height] * -(-len(pieces) // columns),
        [width] * min(columns, len(pieces)),
        title=title,
        text=0.28,
    )
    for each, piece in zip(axes.flat, pieces, strict=False):
        slices.draw_slice(
            each,
            piece.image,
            window=(low, high),
            truth=piece.masks,
            regions=regions,
            letters=piece.letters,
            spacing_mm=piece.spacing_mm,
            title=f"slice {piece.index}",
        )
    return picture


@style.styled
def labels_and_regions(
    volume,
    labels,
    *,
    regions: Mapping[str, Sequence[int]],
    patient_id: str = "",
    series: str = "",
    planes: Sequence[str] = geometry.PLANES,
    label_names: Mapping[int, str] = LABEL_NAMES,
    percentiles: tuple[float, float] = (0.5, 99.5),
) -> Figure:
    """Show what the segmenter learns.

    Image, the expert's labels and the regions made of them, in three planes.

    Args:
        volume: One contrast of the patient.
        labels: Label map on its grid.
        regions: Label numbers of each region.
        patient_id: For the title.
        series: Contrast, for the title.
        planes: Rows of the picture.
        label_names: What each label number means.
        percentiles: Window of the volume, over its non-zero voxels.
    """
    masks = region_masks(volume, labels, regions)
    if masks is None:
        return style.sentence(
            f"Patient {patient_id}: no label map lies on the grid of the {series} volume."
        )
    array = np.asarray(getattr(labels, "array", labels))
    both = np.concatenate([masks, np.stack([array == number for number in label_names])])
    cuts = [slices.cut(volume, plane, masks=both) for plane in planes]
    heights = [piece.image.shape[0] * piece.spacing_mm[0] for piece in cuts]
    widths = [max(piece.image.shape[1] * piece.spacing_mm[1] for piece in cuts)] * 3
    picture, axes = slices.slice_grid(
        heights, widths, title=f"Patient {patient_id} · {series}", text=0.6, width=8.5, legend=True
    )
    for row, piece in zip(axes, cuts, strict=True):
        _image_labels_regions(
            row, piece, len(masks), regions, list(label_names), window(volume, percentiles)
        )
    colours = {f"{number} {name}": LABEL_COLOURS[number] for number, name in label_names.items()}
    entries = style.patches(colours, alpha=0.7) + style.lines(style.colours_of(regions))
    picture.legend(handles=entries, loc="outside lower center", ncols=len(entries))
    return picture


def _image_labels_regions(
    row,
    piece: slices.Cut,
    n_regions: int,
    regions,
    numbers: Sequence[int],
    grey: tuple[float, float],
) -> None:
    plain = piece._replace(masks=None)
    slices.draw_cut(row[0], plain, title="image", window=grey, state_window=True)
    slices.draw_cut(row[1], plain, title="labels", window=grey)
    slices.draw_overlay(
        row[1],
        piece.masks[n_regions:],
        colours=[LABEL_COLOURS[number] for number in numbers],
        alpha=0.65,
    )
    slices.draw_cut(
        row[2],
        piece._replace(masks=piece.masks[:n_regions]),
        title=" and ".join(regions),
        window=grey,
        regions=list(regions),
    )


@style.styled
def predicted_planes(
    cuts: Sequence,
    *,
    regions: Sequence[str] = slices.REGIONS,
    patient_id: str = "",
    series: str = "",
) -> Figure:
    """Show a contrast that was predicted plane by plane, through the most tumour.

    Expert as contour, prediction as overlay.

    Args:
        cuts: For each plane, an object with image (D, H, W) 8 bit, truth and predicted (R, D, H, W)
            and affine.
        regions: Names of the regions.
        patient_id: For the title.
        series: Contrast, for the title.
    """
    if not cuts:
        return style.sentence(f"Patient {patient_id}: no plane was predicted.")
    pieces = [
        slices.cut(
            Volume(each.image, geometry.spacing_of(each.affine), each.affine),
            masks=np.concatenate([each.truth, each.predicted]),
        )
        for each in cuts
    ]
    height = max(piece.image.shape[0] * piece.spacing_mm[0] for piece in pieces)
    widths = [piece.image.shape[1] * piece.spacing_mm[1] for piece in pieces]
    picture, axes = slices.slice_grid(
        [height], widths, title=f"Patient {patient_id} · {series}", text=0.75, legend=True
    )
    for each, piece in zip(axes[0], pieces, strict=True):
        expert, predicted = piece.masks[: len(regions)], piece.masks[len(regions) :]
        slices.draw_cut(
            each,
            piece,
            truth=expert,
            prediction=predicted,
            regions=regions,
            window=(0, 255),
            state_window=True,
        )
    slices.region_legend(picture, regions, prediction=True)
    return picture


@style.styled
def intensity_densities(
    volumes: Mapping[str, Sequence],
    *,
    percentiles: tuple[float, float] = (0.5, 99.5),
    n_bins: int = 96,
) -> Figure:
    """Show the grey values of non-zero voxels before and after the window.

    A line a patient, a column an MRI type.

    Args:
        volumes: Volumes or arrays of several patients for each MRI type.
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
    picture = style.new_picture(
        height=4.6, title="Grey values of the voxels that are not zero, a line a patient"
    )
    axes = picture.subplots(2, len(volumes), squeeze=False)
    for column, (name, arrays) in zip(axes.T, volumes.items(), strict=True):
        for array in arrays:
            grey = intensity.window_from_percentiles(array, percentiles)
            values = array[(array != 0) & np.isfinite(array)]
            _density(column[0], values, n_bins, style.colour_of(name))
            _density(column[1], intensity.to_uint8(values, grey), n_bins, style.colour_of(name))
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
    return picture


def _density(axes, values: np.ndarray, n_bins: int, colour: str) -> None:
    """Draw a density as a line.

    Bins hold equally many whole numbers, so that stored integers make no comb.
    """
    if not values.size:
        return
    sample = values[:: max(values.size // 1_000_000, 1)].astype(np.float64)
    low, step = np.floor(sample.min()), (sample.max() - np.floor(sample.min())) / n_bins
    step = np.ceil(step) if (sample == np.round(sample)).all() else max(step, 1e-12)
    share, edges = np.histogram(sample, bins=low - 0.5 + step * np.arange(n_bins + 2), density=True)
    axes.plot((edges[:-1] + edges[1:]) / 2, share, color=colour, linewidth=1.2, alpha=0.7)
