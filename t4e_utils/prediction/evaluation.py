"""How good masks are on patients that were held out: over whole volumes, and over stored slices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from torch import nn
from tqdm import tqdm

from t4e_utils.annotations.regions import labels_of, regions_from_labels
from t4e_utils.learning.datasets import PictureDataset, PictureInput
from t4e_utils.learning.devices import predicting
from t4e_utils.learning.loaders import make_loader
from t4e_utils.metrics.overlap import dice, dice_from_counts, iou
from t4e_utils.prediction.masks import MaskReading, segment_slices
from t4e_utils.progress import PROGRESS_SECONDS
from t4e_utils.sampling.cutting import LABELS
from t4e_utils.sampling.pictures import Picture, stack_channels
from t4e_utils.scans.geometry import reorient, spacing_of
from t4e_utils.scans.intensity import window_to_uint8
from t4e_utils.scans.nifti import read_nifti
from t4e_utils.scans.problems import Problem, VolumeError
from t4e_utils.scans.volume import Volume, require_same_grid
from t4e_utils.tables.catalog import study_columns

THRESHOLDS = tuple(np.arange(1, 20) / 20)
SCORES = {"truth_ml": float, "dice": float, "iou": float, "empty_slices": int, "false_slices": int}
ReadLabels = Callable[[str], Volume]


@dataclass(frozen=True)
class PlaneCut:
    """A volume of an annotated patient, drawn in one plane, with true and predicted regions."""

    image: np.ndarray  # (D, H, W) uint8
    truth: np.ndarray  # (R, D, H, W) bool
    predicted: np.ndarray  # (R, D, H, W) bool
    affine: np.ndarray  # index to RAS mm
    plane: str

    def largest(self, regions: Sequence[str], title: str = "") -> tuple[Picture, np.ndarray]:
        """Return the slice with most of the first true region, and its prediction (R, H, W).

        Args:
            regions: names of the regions.
            title: goes before the number of the slice.
        """
        index = int(self.truth[0].sum(axis=(1, 2)).argmax())
        channels = stack_channels(self.image[index], self.truth[:, index])
        spacing, title = spacing_of(self.affine)[1:], f"{title}slice {index}"
        picture = Picture(channels, ("image", *regions), spacing, self.plane, title)
        return picture, self.predicted[:, index]


def read_annotated(
    files: Mapping[str, str],
    series: str,
    regions: Mapping[str, Sequence[int]],
    read: ReadLabels | None = None,
) -> tuple[Volume, np.ndarray]:
    """Return a volume and the true regions (R, D, H, W) bool on its grid.

    Args:
        files: path of the series and of "labels".
        series: which volume.
        regions: label values of each region.
        read: of a label map, where its labels must first be converted to those of the regions.

    Raises:
        VolumeError: one of the two cannot be read, holds labels of another convention, or they do
            not lie at one place.
    """
    read = read or partial(read_nifti, labels=True, allowed=labels_of(regions))
    labels = read(files[LABELS])
    volume = read_nifti(files[series])
    require_same_grid(volume, labels, files[series])
    return volume, regions_from_labels(labels.array, regions)


def segment_plane(
    segmenter: nn.Module, volume: Volume, truth: np.ndarray, plane: str, reading: MaskReading
) -> PlaneCut:
    """Segment every slice of a volume in one plane and stack the masks back.

    Args:
        segmenter: in evaluation mode; its recipe has the window.
        volume: one series of an annotated patient.
        truth: (R, D, H, W) bool regions on the same grid.
        plane: to cut in.
        reading: of the slices.
    """
    grey = window_to_uint8(volume.array, segmenter.recipe.percentiles)
    image, affine = reorient(grey, volume.affine, plane)
    image = np.ascontiguousarray(image)
    turned = np.stack([reorient(mask, volume.affine, plane)[0] for mask in truth])
    return PlaneCut(image, turned, segment_slices(segmenter, image, reading), affine, plane)


def evaluate_patients(
    segmenter: nn.Module,
    patients: pd.DataFrame,
    *,
    series: Sequence[str],
    regions: Mapping[str, Sequence[int]],
    planes: Sequence[str],
    reading: MaskReading,
    read: ReadLabels | None = None,
) -> tuple[pd.DataFrame, list[Problem]]:
    """Score whole volumes of many patients, every slice, lesion or not.

    Args:
        segmenter: in evaluation mode.
        patients: patient_id, and the path of each series and of "labels"; one row for each study,
            with study_id, where patients have several.
        series: the columns of the volumes.
        regions: label values of each region.
        planes: to cut in.
        reading: of the slices.
        read: as in `read_annotated`.

    Returns:
        One row for each patient (or study), series, plane and region: dice, iou, truth_ml (size of
        the true region), empty_slices (without true region), false_slices (of these, with predicted
        region); and a problem for each volume that could not be scored.
    """
    rows, problems, ids = [], [], study_columns(patients)
    for patient in tqdm(
        patients.to_dict("records"), desc="held-out patients", mininterval=PROGRESS_SECONDS
    ):
        for name in (name for name in series if isinstance(patient.get(name), str)):
            try:
                volume, truth = read_annotated(patient, name, regions, read)
            except VolumeError as error:
                problems.append(error.as_problem())
                continue
            own = {"series": name} | {each: patient[each] for each in ids}
            for plane in planes:
                cut = segment_plane(segmenter, volume, truth, plane, reading)
                rows += [{**own, **row} for row in _rows_of_cut(cut, regions, volume)]
    table = pd.DataFrame(rows, columns=["series", "plane", "region", *SCORES, *ids])
    # damaged labels are read with each series
    return table.astype(SCORES), list(dict.fromkeys(problems))


def _rows_of_cut(cut: PlaneCut, regions: Mapping, volume: Volume) -> list[dict[str, object]]:
    voxel_ml = np.prod(volume.spacing_mm) / 1000
    return [
        {"plane": cut.plane, "region": name, "truth_ml": true.sum() * voxel_ml}
        | _region_scores(predicted, true)
        for name, true, predicted in zip(regions, cut.truth, cut.predicted, strict=True)
    ]


def _region_scores(predicted: np.ndarray, true: np.ndarray) -> dict[str, float]:
    is_empty = ~true.any(axis=(1, 2))
    return {
        "dice": dice(predicted, true),
        "iou": iou(predicted, true),
        "empty_slices": int(is_empty.sum()),
        "false_slices": int(predicted[is_empty].any(axis=(1, 2)).sum()),
    }


def patient_dice(table: pd.DataFrame) -> pd.DataFrame:
    """Return one Dice per patient and region: the mean over planes, series and studies."""
    groups = table.groupby(["patient_id", "region"], as_index=False, sort=False)
    return groups[["dice", "iou"]].mean()


def score_slices(
    segmenter: nn.Module,
    slices: pd.DataFrame,
    source: PictureInput,
    *,
    regions: Sequence[str],
    thresholds: Sequence[float] = THRESHOLDS,
    batch_size: int,
) -> pd.DataFrame:
    """Score stored slices, all their pixels pooled: columns threshold, region, dice, iou, n_slices.

    Slices are stored because they show a lesion; whole volumes are scored by `evaluate_patients`.

    Args:
        segmenter: in evaluation mode.
        slices: with path; take patients that did not train.
        source: of the pictures.
        regions: their names.
        thresholds: of the probability above which a pixel counts as predicted.
        batch_size: slices per pass.
    """
    both, predicted, true = (np.zeros((len(thresholds), len(regions))) for _ in range(3))
    loader = make_loader(PictureDataset(slices, source), batch_size=batch_size)
    for batch in tqdm(loader, desc="slices", mininterval=PROGRESS_SECONDS):
        with predicting(segmenter) as device:
            probabilities = segmenter(batch["inputs"].to(device)).float().sigmoid().cpu()
        masks = batch["targets"] > 0
        for k, threshold in enumerate(thresholds):
            found = probabilities > threshold
            for counts, each in ((both, found & masks), (predicted, found), (true, masks)):
                counts[k] += each.sum(dim=(0, 2, 3)).numpy()
    overlap = {"dice": dice_from_counts(both, predicted, true)}
    overlap["iou"] = overlap["dice"] / (2 - overlap["dice"])
    return pd.DataFrame(
        [
            {"threshold": threshold, "region": name, "n_slices": len(slices)}
            | {key: values[k, r] for key, values in overlap.items()}
            for k, threshold in enumerate(thresholds)
            for r, name in enumerate(regions)
        ]
    )
