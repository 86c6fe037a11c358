"""The segmenter of one fold.

Training from the slice table to a card, and figures over whole volumes of held-out patients.

The folder of a training carries a fingerprint of everything that decides its result (data, split,
settings, labels of the training patients). So another setting trains in a folder of its own, an
interrupted training goes on where it was, and nothing is overwritten.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from t4e_utils import T4EError
from t4e_utils.annotations import regions_from_labels
from t4e_utils.cards import write_card
from t4e_utils.catalog import PROGRESS_SECONDS
from t4e_utils.datasets import SliceDataset, make_loader
from t4e_utils.folds import FoldSplit
from t4e_utils.geometry import PLANES, reorient
from t4e_utils.inference import device_of, segment_slices
from t4e_utils.losses import segmentation_loss
from t4e_utils.metrics import dice, iou
from t4e_utils.models import build_segmenter
from t4e_utils.preparation import window_to_uint8
from t4e_utils.runs import fingerprint
from t4e_utils.training import TrainConfig, count_overlap, fit, prepare_slices, seed_everything
from t4e_utils.volumes import Volume, read_nifti

REGION_NAMES = ("WT", "ET")


class SegmentationError(T4EError):
    """A segmenter cannot be trained as asked."""


@dataclass(frozen=True)
class SegmenterSettings:
    """Network and input of the segmenter."""

    encoder: str = "densenet121"  # of segmentation_models_pytorch, or "tu-" and a name of timm
    decoder_channels: Sequence[int] = (256, 128, 64, 32, 16)
    start_weights: str = ""  # "": random; "imagenet"; or a file or folder
    image_size: int = 224  # pixels a side
    is_stretched: bool = False  # any slice to the square; otherwise padded first
    augment: bool = True
    loss: str = "dice"  # of losses.SEGMENTATION_LOSSES


def train_segmenter(
    slices: pd.DataFrame,
    split: FoldSplit,
    folder: Path,
    *,
    root: Path,
    settings: SegmenterSettings,
    config: TrainConfig,
    made_with: Mapping[str, Any],
    synthetic: pd.DataFrame | None = None,
    synthetic_share: float = 0.65,
    num_processes: int = 1,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Train the segmenter of one fold and write its card `folder/fold<k>.json`.

    Args:
        slices: kept slices with patient_id, path, wt_area, et_area.
        split: who is fitted, who chooses; the held-out patients are not looked at.
        folder: of all segmenters of the run.
        root: of the paths in the tables and the card.
        settings: network and input.
        config: of the loop.
        made_with: parameters that the slices were made with, part of the fingerprint.
        synthetic: kept slices of synthetic heads, columns as `slices`, to learn from beside those
            of the fitted patients; they choose nothing.
        synthetic_share: of the slices of an epoch; those of the patients are repeated until they
            make up the rest.
        num_processes: of this machine that train together, one a GPU.
        overwrite: train anew although finished.

    Returns:
        The card.
    """
    tables = [
        slices[slices["patient_id"].isin(ids)].reset_index(drop=True)
        for ids in (split.fitted, split.choosing)
    ]
    if synthetic is not None:
        tables[0] = mix_slices(tables[0], synthetic, synthetic_share=synthetic_share)
    identity = fingerprint(
        asdict(settings),
        asdict(config),
        split.select_on,
        made_with,
        *(t[["path", "brain_area", "wt_area", "et_area"]] for t in tables),
    )
    options = {
        "image_size": settings.image_size,
        "stretch": settings.is_stretched,
        "seed": config.seed,
    }
    train = SliceDataset(tables[0], root, augment=settings.augment, **options)
    valid = SliceDataset(tables[1], root, **options) if len(tables[1]) else None
    seed_everything(config.seed + split.fold)
    model = build_segmenter(
        settings.encoder,
        decoder_channels=settings.decoder_channels,
        weights=settings.start_weights or None,
    )
    result = fit(
        model,
        train,
        valid,
        loss=segmentation_loss(settings.loss),
        score=segmentation_score,
        summarise=count_overlap,
        config=config,
        folder=folder / f"fold{split.fold}-{identity}",
        encoder=model.encoder,
        prepare=prepare_slices,
        num_processes=num_processes,
        overwrite=overwrite,
    )
    n_synthetic = 0 if synthetic is None else synthetic["patient_id"].nunique()
    return write_card(
        result,
        folder / f"fold{split.fold}.json",
        root=root,
        split=split,
        settings=settings,
        config=config,
        n_synthetic=n_synthetic,
    )


def mix_slices(
    slices: pd.DataFrame, synthetic: pd.DataFrame, *, synthetic_share: float
) -> pd.DataFrame:
    """Return the synthetic slices and, as often as it takes, those of patients.

    Those of patients alone if there are no others.

    Args:
        slices: of patients; each stands in the result at least once, all equally often.
        synthetic: each stands in the result once.
        synthetic_share: of the result, above 0 and below 1, met as closely as whole repeats allow.

    Raises:
        SegmentationError: another share.
    """
    if not 0 < synthetic_share < 1:
        raise SegmentationError(
            f"synthetic_share is {synthetic_share}: give a share between 0 and 1, both left out."
        )
    if synthetic.empty:
        return slices
    wanted = len(synthetic) * (1 - synthetic_share) / synthetic_share
    repeats = max(1, round(wanted / max(len(slices), 1)))
    return pd.concat([*[slices] * repeats, synthetic], ignore_index=True)


def segmentation_score(
    overlaps: np.ndarray, true_pixels: np.ndarray, indices: np.ndarray
) -> dict[str, float]:
    """Return the Dice of each region over all validation pixels, and their mean as "score".

    Args:
        overlaps: (N, R, 2) pixels of each slice and region that are both predicted and true, and
            predicted (`training.count_overlap`).
        true_pixels: (N, R).
        indices: rows of the table; not used.
    """
    both, predicted = overlaps.astype(np.float64).sum(axis=0).T
    scores = 2 * both / np.maximum(predicted + true_pixels.astype(np.float64).sum(axis=0), 1)
    return {
        **{
            f"dice_{name.lower()}": float(score)
            for name, score in zip(REGION_NAMES, scores, strict=True)
        },
        "score": float(scores.mean()),
    }


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
