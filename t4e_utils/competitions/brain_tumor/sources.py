"""What the stages are made from: for the provenance of their tables, and for the rules.

The names are those that a user reads when one of them changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from t4e_utils.competitions.brain_tumor import data
from t4e_utils.tables.provenance import (
    StaleResultError,
    content_of,
    require_current,
    state_of,
    stated_sources,
)
from t4e_utils.tables.run import resolve
from t4e_utils.tables.store import fingerprint, shown

SEGMENTER = "the weights of the segmenter"


def of_inventory(
    folders: data.DataFolders, patients: pd.DataFrame, train: pd.DataFrame
) -> dict[str, str]:
    """Return what notebook 01 looks at: everything."""
    training = of_sequences(folders, patients, train)
    return {**training, **of_slices(folders), **of_submission(folders)}


def of_slices(folders: data.DataFolders) -> dict[str, str]:
    """Return what notebook 02 cuts, and by whom patients are left out.

    A label that changes, of somebody who was named before, changes nothing here.
    """
    found = {"who is named in rsna_dir": fingerprint(sorted(data.classification_ids(folders.rsna)))}
    if folders.brats is not None:
        volumes = data.brats_files(folders.brats)
        found["the volumes in brats_dir"] = state_of(volumes["path"], folders.brats)
    return found


def of_sequences(
    folders: data.DataFolders, patients: pd.DataFrame, series: pd.DataFrame, fold_table: str = ""
) -> dict[str, str]:
    """Return what notebook 04 prepares; the segmenter comes beside it.

    Args:
        folders: of the data.
        patients: patient_id and label, from `data.training_patients`.
        series: of these patients.
        fold_table: of the user; "": there is none.
    """
    found = {
        "train_labels.csv": fingerprint(patients[["patient_id", "label"]]),
        "the series in train": state_of(series["path"], folders.rsna),
    }
    if fold_table:
        folds = data.read_fold_table(resolve(fold_table), patients["patient_id"])
        found["fold_table"] = fingerprint(folds)
    return found


def of_segmenter(run: Path, card: Mapping[str, Any]) -> dict[str, str]:
    """Return the segmenter that notebook 04 uses, trained on the slices as they are now.

    Raises:
        StaleResultError: the slices were made anew since it was trained.
    """
    path, slices = run / "seg" / "models" / f"fold{card['fold']}.json", run / "seg/slices.parquet"
    require_current(path, card["provenance"], slices, made_by="03_train_seg")
    return {SEGMENTER: content_of(run / card["weights"])}


def require_classifiers(models: Path, cards: Mapping[Path, Mapping[str, Any]]) -> None:
    """Check that classifiers were trained on the slices and by the segmenter as they are now.

    Args:
        models: folder of their run; what is not there, as on Kaggle, says nothing.
        cards: by their paths.

    Raises:
        StaleResultError: the slices or the segmenter were made anew since.
    """
    digits: dict[str, str] = {}
    for path, card in cards.items():
        made = card.get("provenance", {})
        require_current(path, made, models / "cls" / "slices.parquet", made_by="05_train_cls")
        before, weights = stated_sources(made).get(SEGMENTER), made.get("segmenter", "")
        if weights not in digits:
            digits[weights] = content_of(models / weights)
        if before and digits[weights] not in ("", before):
            raise StaleResultError(
                f"{shown(models / weights)} has changed since {shown(path)} was trained on its "
                "masks: run 04_cls_data and 05_train_cls again."
            )


def of_submission(folders: data.DataFolders) -> dict[str, str]:
    """Return whom notebook 06 predicts, and from what."""
    sample, series = data.read_sample(folders.rsna), data.test_series(folders.rsna)
    return {
        "sample_submission.csv": fingerprint(sample),
        "the series in test": state_of(series["path"], folders.rsna),
    }


def of_stage(stage: str, value: Callable[[str], Any]) -> dict[str, str]:
    """Return what a stage is made from beside the results of others; phantoms are not drawn.

    Args:
        stage: one of `data.STAGES` that reads the data.
        value: gives the value of a parameter of the stage.

    Raises:
        T4EError: the data are not there, or not usable.
    """
    brats = value("brats_dir")
    folders = data.DataFolders(resolve(value("rsna_dir")), resolve(brats) if brats else None, False)
    if stage == "seg_data":
        return of_slices(folders)
    if stage == "submission":
        return of_submission(folders)
    patients, series, _ = data.training_patients(folders, excluded=value("excluded_patients"))
    if stage == "eda":
        return of_inventory(folders, patients, series)
    return of_sequences(folders, patients, series, value("fold_table"))
