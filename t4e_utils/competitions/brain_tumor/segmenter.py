"""The segmenter of one fold: from the table of slices to a card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from t4e_utils.competitions.brain_tumor.data import REGIONS
from t4e_utils.learning import TrainingError
from t4e_utils.learning.augmentation import Augmentation
from t4e_utils.learning.datasets import PictureDataset, PictureInput
from t4e_utils.learning.losses import make_loss
from t4e_utils.learning.networks import Recipe
from t4e_utils.learning.plan import TrainConfig
from t4e_utils.learning.scores import RegionDice
from t4e_utils.learning.train_fold import FoldJob, train_fold

# the team's, in both stages
AUGMENTATION = Augmentation(0.5, 0.5, 0.5, shift=0.0625, scale=0.1, rotate_degrees=45)
AREAS = ["path", "brain_area", "wt_area", "et_area"]  # what decides about a slice


@dataclass(frozen=True)
class SegmenterSettings:
    """Network, input and data of the segmenter."""

    encoder: str = "densenet121"  # of segmentation_models_pytorch, or "tu-" and a name of timm
    decoder_channels: Sequence[int] = (256, 128, 64, 32, 16)
    segmenter_size: int = 224  # pixels per side
    is_stretched: bool = False  # any slice to the square; otherwise padded first
    augment: bool = True
    loss: str = "dice"  # of `LOSSES`
    # of the slices of an epoch, where there are synthetic heads
    synthetic_share: float = 0.65

    def recipe(self, percentiles: Sequence[float], precision: str) -> Recipe:
        """Return the recipe of the network.

        Args:
            percentiles: window of the volumes that the slices were cut from.
            precision: of training and prediction.
        """
        return Recipe(
            "unet++",
            self.encoder,
            n_outputs=len(REGIONS),
            options={"decoder_channels": list(self.decoder_channels)},
            size=self.segmenter_size,
            is_stretched=self.is_stretched,
            percentiles=tuple(percentiles),
            precision=precision,
        )


def train_segmenter(
    slices: pd.DataFrame,
    job: FoldJob,
    settings: SegmenterSettings,
    config: TrainConfig,
    *,
    synthetic: pd.DataFrame | None = None,
) -> dict[str, Any]:
    """Train the segmenter of one fold and write its card.

    Args:
        slices: kept slices with patient_id, path, brain_area, wt_area, et_area.
        job: split and places; the held-out patients are not looked at. Its provenance is that of
            the slices and has their window.
        settings: network, input and data.
        config: of the loop.
        synthetic: kept slices of synthetic heads, columns as `slices`, to learn from beside those
            of the patients that train; they choose nothing.

    Returns:
        The card.
    """
    groups = (job.split.train, job.split.tune)
    train, tune = (slices[slices["patient_id"].isin(ids)].reset_index(drop=True) for ids in groups)
    if synthetic is not None:
        train = mix_slices(train, synthetic, synthetic_share=settings.synthetic_share)
    recipe = settings.recipe(job.provenance["percentiles"], config.precision)
    plain = picture_input(recipe, job.root)
    drawn = AUGMENTATION if settings.augment else None
    drawn = picture_input(recipe, job.root, seed=config.seed, augmentation=drawn)
    return train_fold(
        replace(job, made_from=(train[AREAS], tune[AREAS])),
        recipe,
        PictureDataset(train, drawn),
        PictureDataset(tune, plain) if len(tune) else None,
        config=config,
        loss=make_loss(settings.loss),
        score=RegionDice(tuple(REGIONS)),
        facts={
            "loss": settings.loss,
            "augment": settings.augment,
            "n_synthetic": 0 if synthetic is None else synthetic["patient_id"].nunique(),
        },
    )


def picture_input(
    recipe: Recipe,
    root: Path,
    *,
    seed: int = 0,
    augmentation: Augmentation | None = None,
    made_by: str = "02_seg_data",
) -> PictureInput:
    """Return how stored slices become what a network of this recipe sees.

    Args:
        recipe: of the network.
        root: that the paths are relative to.
        seed: of the draws.
        augmentation: what is drawn; None: nothing.
        made_by: the notebook that stored the slices.
    """
    drawn = augmentation or Augmentation()
    return PictureInput(root, recipe.square, augmentation=drawn, seed=seed, made_by=made_by)


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
        TrainingError: another share.
    """
    if not 0 < synthetic_share < 1:
        raise TrainingError(
            f"synthetic_share is {synthetic_share}: give a share between 0 and 1, both left out."
        )
    if synthetic.empty:
        return slices
    wanted = len(synthetic) * (1 - synthetic_share) / synthetic_share
    repeats = max(1, round(wanted / max(len(slices), 1)))
    return pd.concat([*[slices] * repeats, synthetic], ignore_index=True)
