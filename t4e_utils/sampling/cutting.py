"""Annotated volumes cut into slices: files, and a table of all slices with what they show.

One call per patient, so that patients can be cut in parallel processes and a faulty one costs only
itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from t4e_utils.annotations.regions import (
    areas_along_axes,
    labels_of,
    measure_masks,
    regions_from_labels,
)
from t4e_utils.progress import parallel
from t4e_utils.sampling import SamplingError
from t4e_utils.sampling.pictures import stack_channels, write_picture
from t4e_utils.scans.geometry import PLANES, display_axes, reorient, spacing_of
from t4e_utils.scans.intensity import window_to_uint8
from t4e_utils.scans.nifti import read_nifti
from t4e_utils.scans.problems import Problem, VolumeError
from t4e_utils.scans.volume import Volume, off_grid, require_same_grid
from t4e_utils.tables.catalog import study_columns

LABELS = "labels"  # the name of a patient's label map among the files
FACTS = ("patient_id", "series", "plane", "slice", "path", "is_kept")
GRID = ("height", "width", "row_mm", "column_mm")


@dataclass(frozen=True)
class CutRule:
    """How annotated volumes become slices; a leaf adds which of them are chosen."""

    regions: Mapping[str, Sequence[int]]  # label values of each region, the largest first
    # of the non-zero voxels; (0, 100) is the minimum and maximum of the volume
    percentiles: Sequence[float] = (0.5, 99.5)
    planes: Sequence[str] = PLANES
    foreground: str = "foreground"  # what is not black, as a word for its column

    @property
    def columns(self) -> list[str]:
        """Columns of a table of slices."""
        areas = [f"{name.lower()}_area" for name in (self.foreground, *self.regions)]
        return [*FACTS, *GRID, *areas, "n_components"]

    def choose(self, measures: pd.DataFrame) -> np.ndarray:
        """Return which slices of one plane are stored, bool (n,); here all of them.

        Args:
            measures: one row per slice, columns as `annotations.regions.measure_slices`.
        """
        return np.ones(len(measures), bool)

    def read_labels(self, path: str) -> Volume:
        """Read a label map with the labels of `regions`; a leaf converts others to these.

        Raises:
            VolumeError: it cannot be read, or has other labels.
        """
        return read_nifti(path, labels=True, allowed=labels_of(self.regions))


def cut_patients(
    files: pd.DataFrame, folder: Path, *, root: Path, rule: CutRule, n_jobs: int
) -> tuple[pd.DataFrame, list[Problem]]:
    """Cut many patients in parallel processes; as `cut_patient`.

    Args:
        files: patient_id, series (of a volume, or "labels"), path; study_id where a patient has
            several studies, which are cut one by one.
        folder: of the slices.
        root: paths in the rows are relative to it.
        rule: window, planes, filter and sampling.
        n_jobs: processes; -1 is one per core.

    Returns:
        As `cut_patient`; with study_id if the files have it, which then names the folders.

    Raises:
        SamplingError: no patient could be cut.
    """
    ids = study_columns(files)
    patients = [
        (dict(zip(ids, key, strict=True)), dict(zip(own["series"], own["path"], strict=True)))
        for key, own in files.groupby(ids)
    ]
    cut = partial(_cut_item, folder=folder, root=root, rule=rule)
    parts = parallel(cut, patients, n_jobs=n_jobs, desc="patients")
    tables = [table for table, _ in parts if len(table)]
    problems = [problem for _, found in parts for problem in found]
    if not tables:
        first = "no volume stands beside the labels."
        if problems:
            first = f"{problems[0].path}: {problems[0].sentence}"
        raise SamplingError(
            f"None of {len(parts)} patients could be cut into slices; the first problem: {first}"
        )
    return pd.concat(tables, ignore_index=True), problems


def _cut_item(
    patient: tuple[Mapping[str, str], Mapping[str, str]], **options: Any
) -> tuple[pd.DataFrame, list[Problem]]:
    ids, files = patient
    table, problems = cut_patient(list(ids.values())[-1], files, **options)
    return table.assign(**ids), problems


def cut_patient(
    patient_id: str, files: Mapping[str, str], folder: Path, *, root: Path, rule: CutRule
) -> tuple[pd.DataFrame, list[Problem]]:
    """Cut the volumes of an annotated patient into slices, and write those that the rule chooses.

    Args:
        patient_id: goes into the rows and the folder name.
        files: path of each volume and of "labels".
        folder: slices go to `folder/<patient>/<series>_<plane>_<slice>.png`.
        root: paths in the rows are relative to it.
        rule: window, planes, filter and sampling.

    Returns:
        One row for every slice of every plane and volume (`rule.columns`; `path` is empty where the
        slice was not chosen), and problems.
    """
    try:
        labels = rule.read_labels(files[LABELS])
    except VolumeError as error:
        return pd.DataFrame(columns=rule.columns), [error.as_problem()]
    problems = list(labels.meta.get("problems", ()))
    volumes = _readable(files, labels, problems)
    return cut_volumes(patient_id, volumes, labels, folder, root=root, rule=rule), problems


def _readable(
    files: Mapping[str, str], labels: Volume, problems: list[Problem]
) -> Iterator[tuple[str, Volume]]:
    """Yield the volumes one after the other, so that one at a time is in memory."""
    paths = {series: path for series, path in files.items() if series != LABELS}
    elsewhere, n_read = [], 0
    for series, path in paths.items():
        try:
            volume = read_nifti(path)
        except VolumeError as error:
            problems.append(error.as_problem())
            continue
        n_read += 1
        try:
            require_same_grid(volume, labels, path)
        except VolumeError as error:
            elsewhere.append(error.as_problem())
            continue
        problems += volume.meta.get("problems", ())
        yield series, volume
    problems += off_grid(elsewhere, n_read, files[LABELS])


def cut_volumes(
    patient_id: str,
    volumes: Iterable[tuple[str, Volume]],
    labels: Volume,
    folder: Path,
    *,
    root: Path,
    rule: CutRule,
) -> pd.DataFrame:
    """Cut volumes on one grid into slices, and write those that the rule chooses.

    Args:
        patient_id: goes into the rows and the folder name.
        volumes: names and volumes.
        labels: of the same shape.
        folder: slices go to `folder/<patient>/<series>_<plane>_<slice>.png`.
        root: paths in the rows are relative to it.
        rule: window, planes, filter and sampling.

    Returns:
        Rows as `cut_patient`.
    """
    masks = regions_from_labels(labels.array, rule.regions)
    areas = [areas_along_axes(mask) for mask in masks]
    parts = []
    turned: dict[tuple[str, bytes], _TurnedMasks] = {}  # the same for all volumes on one grid
    for series, volume in volumes:
        grey = window_to_uint8(volume.array, rule.percentiles)
        filled = areas_along_axes(grey)
        for plane in rule.planes:
            grid = plane, volume.affine.tobytes()
            if grid not in turned:
                turned[grid] = _turn_masks(masks, areas, volume.affine, plane, rule)
            own = turned[grid]
            image, affine = reorient(grey, volume.affine, plane)
            area = {f"{rule.foreground}_area": filled[own.axis][:: own.step]}
            measures = {**own.measures, **area}
            chosen = np.asarray(rule.choose(pd.DataFrame(measures)))
            name = folder / patient_id / f"{series}_{plane}"
            paths = _write_chosen(image, own.masks, chosen, name, root)
            rows = {**measures, "path": paths, "is_kept": chosen, **_grid_of(image, affine)}
            parts.append({**rows, "series": series, "plane": plane})
    return _joined(parts).assign(patient_id=patient_id).reindex(columns=rule.columns)


def _write_chosen(
    image: np.ndarray, masks: np.ndarray, chosen: np.ndarray, name: Path, root: Path
) -> np.ndarray:
    """Write the chosen slices as `<name>_<slice>.png`; their paths, empty for the others."""
    paths = np.full(len(image), "", dtype=object)
    for index in np.flatnonzero(chosen):
        path = name.with_name(f"{name.name}_{index:03d}.png")
        write_picture(path, stack_channels(image[index], masks[:, index]))
        paths[index] = str(path.relative_to(root))
    return paths


def _grid_of(image: np.ndarray, affine: np.ndarray) -> dict[str, float]:
    _, row_mm, column_mm = spacing_of(affine)
    return dict(zip(GRID, (*image.shape[1:], row_mm, column_mm), strict=True))


def _joined(parts: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Make one table of parts with equal columns at once: many small tables take longer."""
    lengths = [len(part["slice"]) for part in parts]

    def column(name: str) -> np.ndarray:
        values = zip((part[name] for part in parts), lengths, strict=True)
        return np.concatenate([np.broadcast_to(np.asarray(own), n) for own, n in values])

    return pd.DataFrame({name: column(name) for name in (parts[0] if parts else ())})


@dataclass(frozen=True)
class _TurnedMasks:
    """The regions of a patient cut in a plane, and where that plane's slices lie in the volume."""

    masks: np.ndarray  # (R, D, H, W), a view, of which few slices are used
    measures: Mapping[str, np.ndarray]  # each (D,): what `measure_masks` says
    axis: int  # of the volume, along which the slices follow each other
    step: int  # -1 where they follow backwards


def _turn_masks(
    masks: np.ndarray,
    areas: Sequence[Sequence[np.ndarray]],
    affine: np.ndarray,
    plane: str,
    rule: CutRule,
) -> _TurnedMasks:
    axes, flips = display_axes(affine, plane)
    axis, step = axes[0], -1 if flips[0] else 1
    turned = np.moveaxis(reorient(np.moveaxis(masks, 0, -1), affine, plane)[0], -1, 0)
    own = [each[axis][::step] for each in areas]
    measures = measure_masks(turned, own, regions=list(rule.regions))
    return _TurnedMasks(turned, {name: measures[name].to_numpy() for name in measures}, axis, step)


def cut_drawn_patients(
    make_patient: Callable[[int], Any],
    n: int,
    folder: Path,
    *,
    root: Path,
    rule: CutRule,
    seed: int,
    n_jobs: int,
) -> pd.DataFrame:
    """Draw patients and cut them into slices.

    Args:
        make_patient: draws a patient from a seed of 32 bits: `contrasts` (volumes by name) and
            `labels` on one grid.
        n: patients; they are called `synthetic000` and so on.
        folder: of the slices.
        root: paths in the rows are relative to it.
        rule: as in `cut_volumes`.
        seed: of the patients' seeds.
        n_jobs: processes; -1 is one per core.

    Returns:
        One row for every slice that was chosen (`rule.columns`).
    """
    seeds = np.random.SeedSequence([seed]).generate_state(n).tolist()
    cut = partial(_cut_drawn, make_patient=make_patient, folder=folder, root=root, rule=rule)
    parts = parallel(cut, list(enumerate(seeds)), n_jobs=n_jobs, desc="synthetic patients")
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=rule.columns)


def _cut_drawn(
    numbered: tuple[int, int], *, make_patient: Callable[[int], Any], folder: Path, **options: Any
) -> pd.DataFrame:
    number, seed = numbered
    patient = make_patient(seed)
    volumes, name = patient.contrasts.items(), f"synthetic{number:03d}"
    rows = cut_volumes(name, volumes, patient.labels, folder, **options)
    return rows[rows["is_kept"]]
