"""The sequence classifier of one contrast and fold: from the table of chunks to a card.

And predictions of held-out patients from their stored slices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from t4e_utils.competitions.brain_tumor.segmenter import AREAS, AUGMENTATION, picture_input
from t4e_utils.learning.datasets import SequenceDataset
from t4e_utils.learning.losses import make_loss
from t4e_utils.learning.networks import Recipe, SequenceClassifier
from t4e_utils.learning.plan import TrainConfig
from t4e_utils.learning.scores import ChunkScore
from t4e_utils.learning.train_fold import FoldJob, train_fold
from t4e_utils.prediction.sequences import SequenceReading, classify_sequence
from t4e_utils.progress import PROGRESS_SECONDS
from t4e_utils.sampling.pictures import choose_channels, read_picture

MADE_BY = "04_cls_data"  # the stored slices
CONTROLS = ("none", "shuffled labels", "shuffled order", "masks only")
ALL_CHANNELS, MASKS_ONLY = (0, 1, 2), (-1, 1, 2)


@dataclass(frozen=True)
class ClassifierSettings:
    """Network, input and data of the sequence classifier."""

    backbone: str = "eca_nfnet_l0"  # of timm
    lstm_hidden: int = 64  # the team's text; its published checkpoints have 128
    sequence_length: int = 35  # slices per chunk
    classifier_size: int = 224  # pixels per side
    is_stretched: bool = False
    augment: bool = True
    # takes something away that the classifier might use
    control: str = "none"
    # learn also from series in which no slice passed the filter; done anyway if there are no others
    train_on_fallback: bool = False

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the stored slices that the network gets."""
        return MASKS_ONLY if self.control == "masks only" else ALL_CHANNELS

    def recipe(self, percentiles: Sequence[float], precision: str) -> Recipe:
        """Return the recipe of the network; arguments as for the segmenter."""
        options = {"lstm_hidden": self.lstm_hidden, "sequence_length": self.sequence_length}
        return Recipe(
            "sequence",
            self.backbone,
            options=options,
            size=self.classifier_size,
            is_stretched=self.is_stretched,
            percentiles=tuple(percentiles),
            precision=precision,
        )


def train_classifier(
    chunks: pd.DataFrame,
    slices: pd.DataFrame,
    labels: Mapping[str, int],
    job: FoldJob,
    settings: ClassifierSettings,
    config: TrainConfig,
) -> dict[str, Any]:
    """Train the sequence classifier of one contrast and fold and write its card.

    Args:
        chunks: patient_id, series, chunk, start, stop of this contrast.
        slices: kept slices of this contrast with patient_id, series, position, path, fallback.
        labels: 0 or 1 for each patient; only those who train and tune are looked at.
        job: split and places; its provenance is that of the slices and has their window.
        settings: network, input and data.
        config: of the loop.

    Returns:
        The card.
    """
    split = job.split
    known = {patient: labels[patient] for patient in [*split.train, *split.tune]}
    if settings.control == "shuffled labels":
        known = shuffled_labels(known, seed=config.seed)
    if settings.control == "shuffled order":
        slices = shuffled_order(slices, seed=config.seed)
    has_passed = slices.loc[slices["fallback"] == "", "patient_id"]
    passed = chunks[chunks["patient_id"].isin(has_passed)]
    uses_fallback = settings.train_on_fallback or not passed["patient_id"].isin(split.train).any()
    used = chunks if uses_fallback else passed
    train, tune = (_with_labels(used, ids, known) for ids in (split.train, split.tune))
    recipe = settings.recipe(job.provenance["percentiles"], config.precision)
    plain = replace(settings, augment=False)
    return train_fold(
        replace(job, made_from=(slices[slices["patient_id"].isin(known)][AREAS], train, tune)),
        recipe,
        dataset_of(train, slices, settings, recipe, job.root, seed=config.seed),
        dataset_of(tune, slices, plain, recipe, job.root) if len(tune) else None,
        config=config,
        loss=make_loss("bce"),
        score=ChunkScore(tune["patient_id"].to_numpy()),
        facts={
            "series": chunks["series"].iloc[0],
            "control": settings.control,
            "augment": settings.augment,
            "uses_fallback": uses_fallback,
        },
    )


def dataset_of(
    chunks: pd.DataFrame,
    slices: pd.DataFrame,
    settings: ClassifierSettings,
    recipe: Recipe,
    root: Path,
    *,
    seed: int = 0,
) -> SequenceDataset:
    """Return chunks as the network of a recipe sees them; arguments as `train_classifier`."""
    drawn = AUGMENTATION if settings.augment else None
    source = picture_input(recipe, root, seed=seed, augmentation=drawn, made_by=MADE_BY)
    options = {"length": settings.sequence_length, "channels": settings.channels}
    return SequenceDataset(chunks, slices, source, **options)


def shuffled_labels(labels: Mapping[str, int], *, seed: int) -> dict[str, int]:
    """Return the same labels on other patients: a control, which must end near an AUC of 0.5."""
    ids = sorted(labels)
    values = np.random.default_rng(seed).permutation([labels[patient] for patient in ids])
    return {patient: int(value) for patient, value in zip(ids, values, strict=True)}


def shuffled_order(slices: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """Return the slices with positions exchanged within each patient.

    A control that takes the anatomical order away.
    """
    generator = np.random.default_rng(seed)
    ordered = slices.sort_values(["patient_id", "position"])
    own = ordered.groupby("patient_id")["position"]
    return ordered.assign(position=own.transform(lambda p: generator.permutation(p.to_numpy())))


def predict_held_out(
    classifier: SequenceClassifier,
    slices: pd.DataFrame,
    patients: Sequence[str],
    reading: SequenceReading,
    *,
    root: Path,
    control: str = "none",
    seed: int = 0,
) -> pd.DataFrame:
    """Predict patients from their stored slices, as notebook 06 does from their scans.

    Labels are not needed.

    Args:
        classifier: in evaluation mode.
        slices: kept slices of one contrast: patient_id, position, path.
        patients: whom to predict; one without slices has no row.
        reading: of the sequences.
        root: of the paths.
        control: "shuffled order" and "masks only" apply here too.
        seed: of the shuffled order.

    Returns:
        patient_id, chunk, probability.
    """
    rows = []
    if control == "shuffled order":
        slices = shuffled_order(slices, seed=seed)
    channels = MASKS_ONLY if control == "masks only" else ALL_CHANNELS
    held_out = slices[slices["patient_id"].isin(patients)].groupby("patient_id")
    for patient, own in tqdm(held_out, desc="held-out patients", mininterval=PROGRESS_SECONDS):
        paths = own.sort_values("position")["path"]
        stored = (read_picture(root / path, made_by=MADE_BY) for path in paths)
        pictures = [choose_channels(picture, channels) for picture in stored]
        chunks = classify_sequence(classifier, pictures, reading)
        rows += [
            {"patient_id": patient, "chunk": k, "probability": float(p)}
            for k, p in enumerate(chunks)
        ]
    return pd.DataFrame(rows, columns=["patient_id", "chunk", "probability"])


def _with_labels(
    chunks: pd.DataFrame, ids: Sequence[str], labels: Mapping[str, int]
) -> pd.DataFrame:
    own = chunks[chunks["patient_id"].isin(ids)].reset_index(drop=True)
    return own.assign(label=own["patient_id"].map(labels).astype(float))
