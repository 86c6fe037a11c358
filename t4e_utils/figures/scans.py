"""Pictures of scans: a patient in all series and planes, many patients, a series as a strip.

Volumes are `scans.volume.Volume`s, array `(D, H, W)` in any orientation. Label maps are volumes or
arrays on the same grid; regions map a name to label numbers. Every slice shown is the one with most
of the first region, or the fullest one where no region is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from t4e_utils.annotations.regions import regions_from_labels
from t4e_utils.figures import slices, style
from t4e_utils.figures.palette import FigureError
from t4e_utils.sampling.pictures import Picture
from t4e_utils.scans import geometry, intensity
from t4e_utils.scans.volume import Grid, Volume


def region_masks(volume, labels, regions: Mapping[str, Sequence[int]]) -> np.ndarray | None:
    """Return the regions (R, D, H, W) of a label map on the grid of a volume, else None."""
    array = getattr(labels, "array", labels)
    if array is None:
        return None
    grid = Grid(np.shape(array), getattr(labels, "affine", volume.affine))
    if grid.problem("", Grid(np.shape(volume.array), volume.affine), "volume"):
        return None
    return regions_from_labels(array, regions)


def window(volume, percentiles: Sequence[float]) -> tuple[float, float]:
    """Return the grey values of a volume that are drawn black and white."""
    return intensity.window_from_percentiles(volume.array, percentiles)


def slice_pictures(
    volume,
    labels,
    plane: str,
    *,
    regions: Mapping[str, Sequence[int]],
    percentiles: Sequence[float],
) -> list[Picture]:
    """Return all slices of a volume in a plane as they would be stored.

    Args:
        volume: The series.
        labels: Label map on its grid.
        plane: One of `geometry.PLANES`.
        regions: Label numbers of each region.
        percentiles: Window of the volume, over its non-zero voxels.

    Raises:
        FigureError: The label map lies on another grid.
    """
    masks = region_masks(volume, labels, regions)
    if masks is None:
        raise FigureError(
            f"The label map {np.shape(getattr(labels, 'array', labels))} does not lie on the grid "
            f"of the volume {volume.array.shape}: pass the label map of this series."
        )
    grey = intensity.to_uint8(volume.array, window(volume, percentiles))
    channels = (grey, *(mask * np.uint8(255) for mask in masks))
    turned = [geometry.reorient(each, volume.affine, plane) for each in channels]
    stored = np.stack([array for array, _ in turned], axis=-1)
    spacing_mm = tuple(geometry.spacing_of(turned[0][1])[1:])
    return [
        Picture(each, ("image", *regions), spacing_mm, plane, f"slice {index}")
        for index, each in enumerate(stored)
    ]


@style.styled
def patient_overview(
    volumes: Mapping[str, object],
    *,
    labels=None,
    regions: Mapping[str, Sequence[int]],
    patient_id: str = "",
    planes: Sequence[str] | None = geometry.PLANES,
    percentiles: Sequence[float],
) -> Figure:
    """Show one patient: a column for each series, a row for each plane, the regions as contours.

    Args:
        volumes: A volume for each series, in the order to draw.
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
    figure, axes = slices.slice_grid(
        heights, widths, title=f"Patient {patient_id}", text=0.72, legend=drawn
    )
    for row_axes, row in zip(axes, cuts, strict=True):
        for each, piece, name in zip(row_axes, row, volumes, strict=True):
            grey, title = window(volumes[name], percentiles), f"{name}\n{piece.where}"
            names = list(regions)
            slices.draw_cut(each, piece, title=title, window=grey, regions=names, state_window=True)
    if drawn:
        slices.region_legend(figure, list(regions))
    return figure


@style.styled
def patient_grid(
    volumes: Mapping[str, object],
    *,
    labels: Mapping[str, object] | None = None,
    regions: Mapping[str, Sequence[int]],
    series: str = "",
    plane: str | None = None,
    columns: int = 6,
    percentiles: Sequence[float],
) -> Figure:
    """Show many patients at a glance, one slice each, with most of the first region if known.

    Args:
        volumes: A volume for each patient id.
        labels: A label map for each patient id, where there is one.
        regions: Label numbers of each region.
        series: Name of the series, for the title.
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
    figure, axes = slices.slice_grid(
        [1.0] * n_rows, [1.0] * columns, title=title.lstrip(), text=0.42, legend=drawn
    )
    for each, (patient, volume) in zip(axes.flat, volumes.items(), strict=False):
        piece = slices.cut(volume, plane, masks=masks[patient])
        grey, where = window(volume, percentiles), f"{piece.plane} {piece.index} of {piece.n}"
        slices.draw_cut(
            each, piece, title=f"{patient}\n{where}", window=grey, regions=list(regions)
        )
    if drawn:
        slices.region_legend(figure, list(regions))
    return figure


@style.styled
def series_strip(
    volume,
    *,
    n: int = 12,
    masks: np.ndarray | None = None,
    patient_id: str = "",
    series: str = "",
    columns: int = 6,
    percentiles: Sequence[float],
) -> Figure:
    """Show a series from its first to its last slice in equal steps, as it was acquired.

    Args:
        volume: The series.
        n: Slices to show.
        masks: Regions (R, D, H, W) drawn as contours.
        patient_id: For the title.
        series: Name of the series, for the title.
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
    figure, axes = slices.slice_grid(
        [height] * -(-len(pieces) // columns),
        [width] * min(columns, len(pieces)),
        title=title,
        text=0.28,
    )
    for each, piece in zip(axes.flat, pieces, strict=False):
        slices.draw_cut(each, piece, title=f"slice {piece.index}", window=(low, high))
    return figure


@style.styled
def labels_and_regions(
    volume,
    labels,
    *,
    regions: Mapping[str, Sequence[int]],
    patient_id: str = "",
    series: str = "",
    planes: Sequence[str] = geometry.PLANES,
    label_names: Mapping[int, str],
    percentiles: Sequence[float],
) -> Figure:
    """Show what a segmenter learns: image, the expert's labels and the regions made of them.

    Args:
        volume: One series of the patient.
        labels: Label map on its grid.
        regions: Label numbers of each region.
        patient_id: For the title.
        series: Name of the series, for the title.
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
    figure, axes = slices.slice_grid(
        heights, widths, title=f"Patient {patient_id} · {series}", text=0.6, width=8.5, legend=True
    )
    colours = {
        f"{number} {name}": style.colour_of(name, place)
        for place, (number, name) in enumerate(label_names.items())
    }
    grey = window(volume, percentiles)
    for row, piece in zip(axes, cuts, strict=True):
        plain, where = piece._replace(masks=None), f"\n{piece.where}"
        slices.draw_cut(row[0], plain, title=f"image{where}", window=grey, state_window=True)
        slices.draw_cut(row[1], plain, title=f"labels{where}", window=grey)
        slices.draw_overlay(
            row[1], piece.masks[len(masks) :], colours=list(colours.values()), alpha=0.65
        )
        shown, title = piece._replace(masks=piece.masks[: len(masks)]), " and ".join(regions)
        slices.draw_cut(row[2], shown, title=title + where, window=grey, regions=list(regions))
    entries = style.patches(colours, alpha=0.7) + style.lines(style.colours_of(regions))
    figure.legend(handles=entries, loc="outside lower center", ncols=len(entries))
    return figure


@style.styled
def predicted_planes(cuts: Sequence, *, patient_id: str = "", series: str = "") -> Figure:
    """Show a series that was predicted plane by plane: expert as contour, prediction as overlay.

    Args:
        cuts: For each plane, an object with image (D, H, W) 8 bit, truth and predicted (R, D, H, W)
            and affine.
        patient_id: For the title.
        series: Name of the series, for the title.
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
    figure, axes = slices.slice_grid(
        [height], widths, title=f"Patient {patient_id} · {series}", text=0.75, legend=True
    )
    regions = style.region_names(len(cuts[0].truth))
    for each, piece in zip(axes[0], pieces, strict=True):
        expert, predicted = np.split(piece.masks, 2)
        slices.draw_cut(
            each,
            piece._replace(masks=expert),
            title=piece.where,
            window=(0, 255),
            prediction=predicted,
            state_window=True,
        )
    slices.region_legend(figure, regions, prediction=True)
    return figure
