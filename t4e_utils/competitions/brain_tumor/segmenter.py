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

import pandas as pd

from t4e_utils import T4EError
from t4e_utils.learning.batches import prepare_slices
from t4e_utils.learning.datasets import SliceDataset
from t4e_utils.learning.devices import seed_everything
from t4e_utils.learning.fit import fit
from t4e_utils.learning.losses import segmentation_loss
from t4e_utils.learning.model_cards import write_card
from t4e_utils.learning.networks import build_segmenter
from t4e_utils.learning.plan import TrainConfig
from t4e_utils.learning.scores import count_overlap, segmentation_score
from t4e_utils.tables.folds import FoldSplit
from t4e_utils.tables.store import fingerprint


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
    provenance: Mapping[str, Any],
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
        provenance: parameters that the slices were made with, part of the fingerprint.
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
        for ids in (split.train, split.tune)
    ]
    if synthetic is not None:
        tables[0] = mix_slices(tables[0], synthetic, synthetic_share=synthetic_share)
    identity = fingerprint(
        asdict(settings),
        asdict(config),
        split.select_on,
        provenance,
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
