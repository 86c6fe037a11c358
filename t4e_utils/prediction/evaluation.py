"""How good masks are on patients that were held out, over whole volumes and over stored slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from t4e_utils.annotations.regions import regions_from_labels
from t4e_utils.learning.batches import prepare_slices
from t4e_utils.learning.datasets import SliceDataset
from t4e_utils.learning.devices import device_of
from t4e_utils.learning.loaders import make_loader
from t4e_utils.learning.scores import REGION_NAMES
from t4e_utils.metrics.overlap import dice, iou
from t4e_utils.prediction.masks import segment_slices
from t4e_utils.progress import PROGRESS_SECONDS
from t4e_utils.scans.geometry import PLANES, reorient
from t4e_utils.scans.intensity import window_to_uint8
from t4e_utils.scans.nifti import read_nifti
from t4e_utils.scans.volume import Volume


@dataclass(frozen=True)
class PlaneCut:
    """A contrast of an annotated patient, drawn in one plane, with true and predicted regions."""

    image: np.ndarray  # (D, H, W) uint8
    truth: np.ndarray  # (2, D, H, W) bool
    predicted: np.ndarray  # (2, D, H, W) bool
    affine: np.ndarray  # index to RAS mm

    def largest(self) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
        """Return the slice with most of the first true region.

        Its index, image (H, W), truth (2, H, W) and prediction (2, H, W).
        """
        index = int(self.truth[0].sum(axis=(1, 2)).argmax())
        return index, self.image[index], self.truth[:, index], self.predicted[:, index]


def segment_plane(
    segmenter: nn.Module,
    volume: Volume,
    truth: np.ndarray,
    plane: str,
    *,
    percentiles: Sequence[float],
    **options: Any,
) -> PlaneCut:
    """Segment every slice of a volume in one plane and stack the masks back.

    Args:
        segmenter: in evaluation mode.
        volume: one contrast, axial.
        truth: (2, D, H, W) bool regions on the same grid.
        plane: to cut in.
        percentiles: of the window.
        **options: of `inference.segment_slices`.
    """
    image, affine = reorient(window_to_uint8(volume, percentiles), volume.affine, plane)
    image = np.ascontiguousarray(image)
    turned = np.stack([reorient(mask, volume.affine, plane)[0] for mask in truth])
    return PlaneCut(image, turned, segment_slices(segmenter, image, **options), affine)


def evaluate_patients(
    segmenter: nn.Module,
    patients: pd.DataFrame,
    *,
    series: Sequence[str],
    regions: Mapping[str, Sequence[int]],
    **options: Any,
) -> pd.DataFrame:
    """Score whole volumes of many patients, every slice, tumour or not.

    Args:
        segmenter: in evaluation mode.
        patients: patient_id, and the path of each contrast and of "labels".
        series: the contrasts.
        regions: label values of each region.
        **options: planes, percentiles, and those of `inference.segment_slices`.

    Returns:
        A row for each patient, contrast, plane and region: dice, iou, truth_ml (size of the true
        region), empty_slices (without true region), false_slices (of these, with predicted region).
    """
    tables = []
    for row in tqdm(
        patients.to_dict("records"), desc="held-out patients", mininterval=PROGRESS_SECONDS
    ):
        files = {name: row[name] for name in (*series, "labels") if isinstance(row.get(name), str)}
        tables.append(
            _evaluate_patient(segmenter, files, regions=regions, **options).assign(
                patient_id=row["patient_id"]
            )
        )
    return pd.concat(tables, ignore_index=True)


def _evaluate_patient(
    segmenter: nn.Module,
    files: Mapping[str, str],
    *,
    regions: Mapping[str, Sequence[int]],
    planes: Sequence[str] = PLANES,
    percentiles: Sequence[float],
    **options: Any,
) -> pd.DataFrame:
    labels = read_nifti(files["labels"], labels=True)
    truth = regions_from_labels(labels.array, regions)
    millilitres = truth.sum(axis=(1, 2, 3)) * np.prod(labels.spacing_mm) / 1000
    rows = []
    for series, path in files.items():
        if series == "labels":
            continue
        volume = read_nifti(path)
        for plane in planes:
            cut = segment_plane(segmenter, volume, truth, plane, percentiles=percentiles, **options)
            for name, size, true, predicted in zip(
                regions, millilitres, cut.truth, cut.predicted, strict=True
            ):
                rows.append(
                    {
                        "series": series,
                        "plane": plane,
                        "region": name,
                        "truth_ml": size,
                        **_region_figures(predicted, true),
                    }
                )
    return pd.DataFrame(rows)


def _region_figures(predicted: np.ndarray, true: np.ndarray) -> dict[str, float]:
    is_empty = ~true.any(axis=(1, 2))
    return {
        "dice": dice(predicted, true),
        "iou": iou(predicted, true),
        "empty_slices": int(is_empty.sum()),
        "false_slices": int(predicted[is_empty].any(axis=(1, 2)).sum()),
    }


def patient_dice(table: pd.DataFrame) -> pd.DataFrame:
    """Return one Dice a patient and region: the mean over planes and contrasts.

    Columns patient_id, region, dice, iou.
    """
    return table.groupby(["patient_id", "region"], as_index=False, sort=False)[
        ["dice", "iou"]
    ].mean()


@torch.inference_mode()
def score_slices(
    segmenter: nn.Module,
    slices: pd.DataFrame,
    root: Path,
    *,
    image_size: int,
    is_stretched: bool = False,
    thresholds: Sequence[float] = tuple(np.arange(1, 20) / 20),
    batch_size: int = 32,
) -> pd.DataFrame:
    """Score stored slices, all their pixels pooled: columns threshold, region, dice, iou, n_slices.

    Slices are stored because they show tumour; figures over whole volumes are `evaluate_patients`.

    Args:
        segmenter: in evaluation mode.
        slices: with path; take patients that were not fitted.
        root: of the paths.
        image_size: pixels a side.
        is_stretched: as in training.
        thresholds: of the probability above which a pixel counts as predicted.
        batch_size: slices a pass.
    """
    both, either = (np.zeros((len(thresholds), len(REGION_NAMES))) for _ in range(2))
    loader = make_loader(
        SliceDataset(slices, root, image_size=image_size, stretch=is_stretched),
        batch_size=batch_size,
    )
    for batch in tqdm(loader, desc="slices", mininterval=PROGRESS_SECONDS):
        inputs, targets = prepare_slices(batch)
        probabilities, true = (
            segmenter(inputs.to(device_of(segmenter))).sigmoid().cpu(),
            targets > 0,
        )
        for k, threshold in enumerate(thresholds):
            predicted = probabilities > threshold
            both[k] += (predicted & true).sum(dim=(0, 2, 3)).numpy()
            either[k] += (predicted | true).sum(dim=(0, 2, 3)).numpy()
    scores = {"dice": 2 * both / np.maximum(both + either, 1), "iou": both / np.maximum(either, 1)}
    return pd.DataFrame(
        [
            {
                "threshold": threshold,
                "region": name,
                **{key: score[k, r] for key, score in scores.items()},
                "n_slices": len(slices),
            }
            for k, threshold in enumerate(thresholds)
            for r, name in enumerate(REGION_NAMES)
        ]
    )
