"""The sequence classifier of one MRI type and fold.

Training from the chunk table to a card, and predictions of held-out patients.

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
from torch import nn
from tqdm import tqdm

from t4e_utils.learning.batches import prepare_chunks
from t4e_utils.learning.datasets import ChunkDataset
from t4e_utils.learning.devices import seed_everything
from t4e_utils.learning.fit import fit
from t4e_utils.learning.model_cards import write_card
from t4e_utils.learning.networks import build_classifier
from t4e_utils.learning.plan import TrainConfig
from t4e_utils.learning.scores import ChunkScore
from t4e_utils.prediction.sequences import classify_sequence
from t4e_utils.progress import PROGRESS_SECONDS
from t4e_utils.sampling.pictures import read_slice
from t4e_utils.tables.folds import FoldSplit
from t4e_utils.tables.store import fingerprint

CONTROLS = ("none", "shuffled labels", "shuffled order", "masks only")


@dataclass(frozen=True)
class ClassifierSettings:
    """Network and input of the sequence classifier."""

    backbone: str = "eca_nfnet_l0"  # of timm
    start_weights: str = ""  # "": random; "imagenet"; or a file or folder
    lstm_hidden: int = 64  # the team's text; its published checkpoints have 128
    sequence_length: int = 35  # slices a chunk
    chunk_stride: int = 5  # slices between the starts of chunks
    image_size: int = 224  # pixels a side
    is_stretched: bool = False
    augment: bool = True


def train_classifier(
    chunks: pd.DataFrame,
    slices: pd.DataFrame,
    labels: Mapping[str, int],
    split: FoldSplit,
    folder: Path,
    *,
    name: str,
    root: Path,
    settings: ClassifierSettings,
    config: TrainConfig,
    provenance: Mapping[str, Any],
    control: str = "none",
    train_on_fallback: bool = False,
    num_processes: int = 1,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Train the sequence classifier of one MRI type and fold and write its card
    `folder/<name>_fold<k>.json`.

    Args:
        chunks: patient_id, series, chunk, start, stop of this MRI type.
        slices: kept slices of this MRI type with patient_id, series, position, path, fallback.
        labels: 0 or 1 for each patient; only those of fitted and choosing patients are looked at.
        split: who is fitted, who chooses.
        folder: of all classifiers of the run.
        name: the MRI type.
        root: of the paths in the tables and the card.
        settings: network and input.
        config: of the loop.
        provenance: parameters that the slices were made with, part of the fingerprint.
        control: one of `CONTROLS`; other than "none" it takes something away that the classifier
            might use.
        train_on_fallback: learn also from series in which no slice passed the filter; done anyway
            if the fitted patients have no others.
        num_processes: of this machine that train together, one a GPU.
        overwrite: train anew although finished.

    Returns:
        The card.
    """
    known = {patient: labels[patient] for patient in [*split.train, *split.tune]}
    if control == "shuffled labels":
        known = shuffled_labels(known, seed=config.seed)
    if control == "shuffled order":
        slices = shuffled_order(slices, seed=config.seed)
    passed = chunks[chunks["patient_id"].isin(slices.loc[slices["fallback"] == "", "patient_id"])]
    uses_fallback = train_on_fallback or not passed["patient_id"].isin(split.train).any()
    tables = [
        _with_labels(chunks if uses_fallback else passed, ids, known)
        for ids in (split.train, split.tune)
    ]
    used = slices[slices["patient_id"].isin(known)][["path", "brain_area", "wt_area", "et_area"]]
    identity = fingerprint(
        asdict(settings), asdict(config), split.select_on, control, provenance, used, *tables
    )
    options = {
        "image_size": settings.image_size,
        "stretch": settings.is_stretched,
        "length": settings.sequence_length,
        "seed": config.seed,
        "channels": "masks" if control == "masks only" else "image+masks",
    }
    train = ChunkDataset(tables[0], slices, root, augment=settings.augment, **options)
    valid = ChunkDataset(tables[1], slices, root, **options) if len(tables[1]) else None
    seed_everything(config.seed + split.fold)
    model = build_classifier(
        settings.backbone,
        lstm_hidden=settings.lstm_hidden,
        sequence_length=settings.sequence_length,
        weights=settings.start_weights or None,
    )
    result = fit(
        model,
        train,
        valid,
        loss=nn.BCEWithLogitsLoss(),
        score=ChunkScore(tables[1]["patient_id"].to_numpy()),
        config=config,
        folder=folder / f"{name}_fold{split.fold}-{identity}",
        encoder=model.backbone,
        prepare=prepare_chunks,
        num_processes=num_processes,
        overwrite=overwrite,
    )
    facts = {
        "series": name,
        "control": control,
        "uses_fallback": uses_fallback,
        "provenance": dict(provenance),
    }
    return write_card(
        result,
        folder / f"{name}_fold{split.fold}.json",
        root=root,
        split=split,
        settings=settings,
        config=config,
        **facts,
    )


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
    positions = ordered.groupby("patient_id")["position"].transform(
        lambda own: generator.permutation(own.to_numpy())
    )
    return ordered.assign(position=positions)


def predict_held_out(
    classifier: nn.Module,
    slices: pd.DataFrame,
    patients: Sequence[str],
    *,
    root: Path,
    control: str = "none",
    seed: int = 0,
    **options: Any,
) -> pd.DataFrame:
    """Predict patients from their stored slices, as notebook 06 does from their scans.

    Labels are not needed.

    Args:
        classifier: in evaluation mode.
        slices: kept slices of one MRI type: patient_id, position, path.
        patients: whom to predict; one without slices has no row.
        root: of the paths.
        control: "shuffled order" and "masks only" apply here too.
        seed: of the shuffled order.
        **options: of `inference.classify_sequence`.

    Returns:
        patient_id, chunk, probability.
    """
    rows = []
    if control == "shuffled order":
        slices = shuffled_order(slices, seed=seed)
    held_out = slices[slices["patient_id"].isin(patients)].groupby("patient_id")
    for patient, own in tqdm(held_out, desc="held-out patients", mininterval=PROGRESS_SECONDS):
        pictures = [read_slice(root / path) for path in own.sort_values("position")["path"]]
        if control == "masks only":
            pictures = [picture * np.array([0, 1, 1], np.uint8) for picture in pictures]
        chunks = classify_sequence(classifier, pictures, **options)
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
