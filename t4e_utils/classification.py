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
import torch
from torch import nn
from tqdm import tqdm

from t4e_utils.cards import write_card
from t4e_utils.catalog import PROGRESS_SECONDS
from t4e_utils.datasets import ChunkDataset
from t4e_utils.folds import FoldSplit, LeakError
from t4e_utils.inference import classify_sequence
from t4e_utils.metrics import auc_summary, roc_auc
from t4e_utils.models import build_classifier
from t4e_utils.runs import fingerprint
from t4e_utils.sampling import read_slice
from t4e_utils.training import TrainConfig, fit, prepare_chunks, seed_everything

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
    made_with: Mapping[str, Any],
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
        made_with: parameters that the slices were made with, part of the fingerprint.
        control: one of `CONTROLS`; other than "none" it takes something away that the classifier
            might use.
        train_on_fallback: learn also from series in which no slice passed the filter; done anyway
            if the fitted patients have no others.
        num_processes: of this machine that train together, one a GPU.
        overwrite: train anew although finished.

    Returns:
        The card.
    """
    known = {patient: labels[patient] for patient in [*split.fitted, *split.choosing]}
    if control == "shuffled labels":
        known = shuffled_labels(known, seed=config.seed)
    if control == "shuffled order":
        slices = shuffled_order(slices, seed=config.seed)
    passed = chunks[chunks["patient_id"].isin(slices.loc[slices["fallback"] == "", "patient_id"])]
    uses_fallback = train_on_fallback or not passed["patient_id"].isin(split.fitted).any()
    tables = [
        _with_labels(chunks if uses_fallback else passed, ids, known)
        for ids in (split.fitted, split.choosing)
    ]
    used = slices[slices["patient_id"].isin(known)][["path", "brain_area", "wt_area", "et_area"]]
    identity = fingerprint(
        asdict(settings), asdict(config), split.select_on, control, made_with, used, *tables
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
        "made_with": dict(made_with),
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


@dataclass(frozen=True)
class ChunkScore:
    """Score of validation chunks: AUC over chunks and over patients (mean probability).

    NaN with one class only.
    """

    patients: np.ndarray  # id of the patient of each chunk, in the order of the data set

    def __call__(
        self, logits: np.ndarray, targets: np.ndarray, indices: np.ndarray
    ) -> dict[str, float]:
        """Return "chunk_auc", "patient_auc", and the latter as "score"."""
        probability = torch.as_tensor(logits).double().sigmoid().numpy()
        table = pd.DataFrame(
            {
                "patient": self.patients[np.asarray(indices)],
                "probability": probability,
                "label": np.asarray(targets),
            }
        )
        by_patient = table.groupby("patient")[["probability", "label"]].mean()
        patient_auc = roc_auc(by_patient["label"], by_patient["probability"])
        return {
            "chunk_auc": roc_auc(table["label"], table["probability"]),
            "patient_auc": patient_auc,
            "score": patient_auc,
        }


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


def out_of_fold_table(
    predictions: pd.DataFrame, patients: pd.DataFrame, *, series: Sequence[str]
) -> pd.DataFrame:
    """Join the predictions of all types and folds to one row a patient.

    Args:
        predictions: patient_id, series, fold, chunk, probability; each patient by the model that
            did not see it.
        patients: patient_id, label, fold.
        series: the MRI types, which become columns.

    Returns:
        patient_id, label, fold, a probability for each type (mean over chunks; NaN where there is
        none) and their mean. Patients without any prediction have no row.

    Raises:
        LeakError: a patient was predicted by a model of another fold.
    """
    by_series = predictions.groupby(["patient_id", "series", "fold"], as_index=False)[
        "probability"
    ].mean()
    home = by_series["patient_id"].map(patients.set_index("patient_id")["fold"])
    if (by_series["fold"] != home).any():
        wrong = by_series[by_series["fold"] != home].iloc[0]
        raise LeakError(
            f"Patient {wrong['patient_id']} was predicted by the model of fold "
            f"{wrong['fold']}, which trained on it: run 05 again."
        )
    wide = by_series.pivot(index="patient_id", columns="series", values="probability").reindex(
        columns=list(series)
    )
    wide["mean"] = wide.mean(axis=1)
    return patients[["patient_id", "label", "fold"]].merge(wide.reset_index(), on="patient_id")


def auc_by_series(
    table: pd.DataFrame, *, series: Sequence[str], seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Return AUC, interval, n and permutation p of each MRI type and of their mean.

    NaN where one class is missing.

    Args:
        table: from `out_of_fold_table`.
        series: the MRI types.
        seed: of bootstrap and permutations.
    """
    found = {name: table[["label", name]].dropna() for name in (*series, "mean")}
    return {name: auc_summary(own["label"], own[name], seed=seed) for name, own in found.items()}


def most_confident(table: pd.DataFrame, *, series: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the prediction that is right by the widest margin and the one that is wrong by it,
    over patients and MRI types.

    Args:
        table: from `out_of_fold_table`.
        series: the MRI types.

    Returns:
        "right" and "wrong", each with patient_id, fold, label, series, probability; left out where
        no prediction lies on that side of 0.5.
    """
    long = table.melt(
        ["patient_id", "fold", "label"], list(series), "series", "probability"
    ).dropna()
    margin = (long["probability"] - 0.5) * (2 * long["label"] - 1)
    places = {
        "right": margin.idxmax() if (margin > 0).any() else None,
        "wrong": margin.idxmin() if (margin < 0).any() else None,
    }
    return {kind: long.loc[place].to_dict() for kind, place in places.items() if place is not None}


def _with_labels(
    chunks: pd.DataFrame, ids: Sequence[str], labels: Mapping[str, int]
) -> pd.DataFrame:
    own = chunks[chunks["patient_id"].isin(ids)].reset_index(drop=True)
    return own.assign(label=own["patient_id"].map(labels).astype(float))
