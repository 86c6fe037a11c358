"""From annotated scans to slice files and their rows: the data of the segmenter.

And the chunks of kept slices.

One call a patient, so that patients can be prepared in parallel processes and a faulty one costs
only itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from tqdm import tqdm

from t4e_utils.annotations.regions import (
    areas_along_axes,
    labels_of,
    measure_masks,
    regions_from_labels,
)
from t4e_utils.progress import PROGRESS_SECONDS
from t4e_utils.sampling.pictures import write_slice
from t4e_utils.scans.geometry import PLANES, display_axes, reorient, spacing_of
from t4e_utils.scans.intensity import window_to_uint8
from t4e_utils.scans.nifti import read_nifti
from t4e_utils.scans.problems import Problem, VolumeError
from t4e_utils.scans.volume import Volume
from t4e_utils.tables.catalog import CatalogError

SLICE_COLUMNS = (
    "patient_id",
    "series",
    "plane",
    "slice",
    "path",
    "is_kept",
    "height",
    "width",
    "row_mm",
    "column_mm",
    "brain_area",
    "wt_area",
    "et_area",
    "n_components",
)


@dataclass(frozen=True)
class CutRule:
    """How annotated volumes become slices; a leaf adds which of them are chosen."""

    regions: Mapping[str, Sequence[int]]  # label values of each region, the largest first
    # of the non-zero voxels; (0, 100) is the minimum and maximum of the volume
    percentiles: Sequence[float] = (0.5, 99.5)
    planes: Sequence[str] = PLANES

    def choose(self, measures: pd.DataFrame) -> np.ndarray:
        """Return which slices of one plane are stored, bool (n,); here all of them.

        Args:
            measures: a row for each slice, columns as `annotations.regions.measure_slices`.
        """
        return np.ones(len(measures), bool)


def cut_patient(
    patient_id: str, files: Mapping[str, str], folder: Path, *, root: Path, rule: CutRule
) -> tuple[pd.DataFrame, list[Problem]]:
    """Cut the contrasts of an annotated patient into slices, and write those that the rule keeps.

    Args:
        patient_id: goes into the rows and the folder name.
        files: path of each contrast and of "labels".
        folder: slices go to `folder/<patient>/<series>_<plane>_<slice>.png`.
        root: paths in the rows are relative to it.
        rule: window, planes, filter and sampling.

    Returns:
        A row for every slice of every plane and contrast (`SLICE_COLUMNS`; `path` is empty where
        the slice was not kept), and problems.
    """
    try:
        labels = read_nifti(files["labels"], labels=True, allowed=labels_of(rule.regions))
    except VolumeError as error:
        return pd.DataFrame(columns=list(SLICE_COLUMNS)), [error.as_problem()]
    problems = list(labels.meta.get("problems", ()))
    contrasts = _readable(files, labels, problems)
    return cut_volumes(patient_id, contrasts, labels, folder, root=root, rule=rule), problems


def _readable(
    files: Mapping[str, str], labels: Volume, problems: list[Problem]
) -> Iterator[tuple[str, Volume]]:
    """Yield the contrasts one after the other, so that one at a time is in memory.

    Add what is wrong to `problems`.
    """
    for series, path in files.items():
        if series == "labels":
            continue
        try:
            volume = _matching(read_nifti(path), labels, path)
        except VolumeError as error:
            problems.append(error.as_problem())
            continue
        problems += volume.meta.get("problems", ())
        yield series, volume


def cut_volumes(
    patient_id: str,
    contrasts: Iterable[tuple[str, Volume]],
    labels: Volume,
    folder: Path,
    *,
    root: Path,
    rule: CutRule,
) -> pd.DataFrame:
    """Cut volumes on one grid into slices, and write those that the rule keeps.

    Rows as `cut_patient`.

    Args:
        patient_id: goes into the rows and the folder name.
        contrasts: names and volumes.
        labels: of the same shape.
        folder: slices go to `folder/<patient>/<series>_<plane>_<slice>.png`.
        root: paths in the rows are relative to it.
        rule: window, planes, filter and sampling.
    """
    masks = regions_from_labels(labels.array, rule.regions)
    areas = [areas_along_axes(mask) for mask in masks]
    parts = []
    turned: dict[tuple[str, bytes], _TurnedMasks] = {}  # the same for all contrasts on one grid
    for series, volume in contrasts:
        grey = window_to_uint8(volume, rule.percentiles)
        brain_areas = areas_along_axes(grey)
        for plane in rule.planes:
            grid = plane, volume.affine.tobytes()
            turned[grid] = turned.get(grid) or _turn_masks(masks, areas, volume.affine, plane)
            part = _cut_plane(
                grey,
                volume.affine,
                brain_areas,
                turned[grid],
                folder / patient_id,
                root=root,
                rule=rule,
                series=series,
                plane=plane,
            )
            parts.append({**part, "series": series, "plane": plane})
    return _joined(parts).assign(patient_id=patient_id).reindex(columns=list(SLICE_COLUMNS))


def _joined(parts: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Make one table of parts with equal columns at once.

    Many small tables take longer than the pictures.
    """
    lengths = [len(part["slice"]) for part in parts]
    columns = parts[0] if parts else ()
    return pd.DataFrame(
        {
            name: np.concatenate(
                [
                    np.broadcast_to(np.asarray(part[name]), n)
                    for part, n in zip(parts, lengths, strict=True)
                ]
            )
            for name in columns
        }
    )


def cut_patients(
    files: pd.DataFrame, folder: Path, *, root: Path, rule: CutRule, n_jobs: int = -1
) -> tuple[pd.DataFrame, list[Problem]]:
    """Cut many patients in parallel processes; as `cut_patient`.

    Args:
        files: patient_id, series (a contrast or "labels"), path.
        folder: of the slices.
        root: paths in the rows are relative to it.
        rule: window, planes, filter and sampling.
        n_jobs: processes; -1 is one a core.

    Raises:
        CatalogError: no patient could be cut.
    """
    patients = {
        patient: dict(zip(own["series"], own["path"], strict=True))
        for patient, own in files.groupby("patient_id")
    }
    progress = tqdm(patients.items(), desc="patients", mininterval=PROGRESS_SECONDS)
    parts = Parallel(n_jobs=n_jobs)(
        delayed(cut_patient)(patient, own, folder, root=root, rule=rule)
        for patient, own in progress
    )
    tables = [table for table, _ in parts if len(table)]
    problems = [problem for _, found in parts for problem in found]
    if not tables:
        raise CatalogError(
            f"None of {len(parts)} patients could be cut into slices; the first problem: "
            f"{problems[0].sentence}"
        )
    return pd.concat(tables, ignore_index=True), problems


def cut_synthetic_patients(
    make_patient: Callable[[int], Any],
    n: int,
    folder: Path,
    *,
    root: Path,
    rule: CutRule,
    seed: int = 0,
    n_jobs: int = -1,
) -> pd.DataFrame:
    """Draw synthetic patients and cut them into slices.

    Neighbours look alike, but no two patients do: few slices of each are kept, more than half of
    them without tumour, so that the segmenter also learns where there is none.

    Args:
        make_patient: draws a patient from a seed of 32 bits: `contrasts` (volumes by name) and
            `labels` on one grid, such as `synthetic_heads.make_synthetic_patient`.
        n: patients; they are called `synthetic000` and so on.
        folder: of the slices.
        root: paths in the rows are relative to it.
        rule: regions, window, planes and smallest tumour share; steps are not taken from it.
        seed: of the patients' seeds.
        n_jobs: processes; -1 is one a core.

    Returns:
        A row for every slice that was kept (`SLICE_COLUMNS`).
    """
    seeds = np.random.SeedSequence([seed]).generate_state(n).tolist()
    progress = tqdm(
        enumerate(seeds),
        desc="synthetic patients",
        total=n,
        mininterval=PROGRESS_SECONDS,
        disable=not n,
    )
    jobs = (
        delayed(_cut_synthetic)(
            make_patient, drawn, f"synthetic{k:03d}", folder, root=root, rule=rule
        )
        for k, drawn in progress
    )
    parts = Parallel(n_jobs=n_jobs)(jobs)
    return (
        pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(SLICE_COLUMNS))
    )


def _cut_synthetic(
    make_patient: Callable[[int], Any],
    seed: int,
    patient_id: str,
    folder: Path,
    *,
    root: Path,
    rule: CutRule,
) -> pd.DataFrame:
    patient = make_patient(seed)
    rows = cut_volumes(
        patient_id, patient.contrasts.items(), patient.labels, folder, root=root, rule=rule
    )
    return rows[rows["is_kept"]]


def _matching(volume: Volume, labels: Volume, path: str) -> Volume:
    if volume.array.shape != labels.array.shape:
        raise VolumeError(
            "shape_differs",
            path,
            f"The shape is {volume.array.shape}, that of its segmentation "
            f"{labels.array.shape}: they must be on one grid; it is left out.",
        )
    return volume


@dataclass(frozen=True)
class _TurnedMasks:
    """The regions of a patient cut in a plane, and where that plane's slices lie in the volume."""

    masks: np.ndarray  # (2, D, H, W), a view, of which few slices are asked for
    measures: Mapping[str, np.ndarray]  # each (D,): all of annotations.MEASURES but brain_area
    axis: int  # of the volume, along which the slices follow each other
    step: int  # -1 where they follow backwards


def _turn_masks(
    masks: np.ndarray, areas: Sequence[Sequence[np.ndarray]], affine: np.ndarray, plane: str
) -> _TurnedMasks:
    axes, flips = display_axes(affine, plane)
    axis, step = axes[0], -1 if flips[0] else 1
    turned = np.moveaxis(reorient(np.moveaxis(masks, 0, -1), affine, plane)[0], -1, 0)
    measures = measure_masks(turned, [each[axis][::step] for each in areas])
    return _TurnedMasks(turned, {name: measures[name].to_numpy() for name in measures}, axis, step)


def _cut_plane(
    grey: np.ndarray,
    affine: np.ndarray,
    brain_areas: Sequence[np.ndarray],
    turned: _TurnedMasks,
    folder: Path,
    *,
    root: Path,
    rule: CutRule,
    series: str,
    plane: str,
) -> dict[str, Any]:
    image, affine = reorient(grey, affine, plane)
    measures = {**turned.measures, "brain_area": brain_areas[turned.axis][:: turned.step]}
    kept = np.asarray(rule.choose(pd.DataFrame(measures)))
    paths = np.full(len(image), "", dtype=object)
    for index in np.flatnonzero(kept):
        path = folder / f"{series}_{plane}_{index:03d}.png"
        write_slice(path, image[index], turned.masks[:, index])
        paths[index] = str(path.relative_to(root))
    _, row_mm, column_mm = spacing_of(affine)
    grid = {
        "height": image.shape[1],
        "width": image.shape[2],
        "row_mm": row_mm,
        "column_mm": column_mm,
    }
    return {**measures, "path": paths, "is_kept": kept, **grid}


def sample_every(indices: Sequence[Any], *, step: float = 0.1) -> Sequence[Any]:
    """Return every `max(round(step * n), 1)`-th of n indices.

    About ten of many, as neighbours look alike.
    """
    return indices[:: max(round(step * len(indices)), 1)]
