"""What of a run is uploaded for notebook 06 on Kaggle.

Weights as they are; of cards and tables only what the notebook reads: no label, no path of this
machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from t4e_utils.competitions.brain_tumor.prediction import load_predictor, type_weights_from
from t4e_utils.competitions.brain_tumor.rules import SeriesRule
from t4e_utils.competitions.brain_tumor.submission import classifier_cards, rule_of
from t4e_utils.competitions.brain_tumor.trained import (
    ClassifierCard,
    Made,
    read_out_of_fold,
    read_summary,
)
from t4e_utils.learning.weights import read_card
from t4e_utils.tables.submission import SubmissionError


def bundled_parameters(run: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of notebook 06 on Kaggle.

    Without contrasts, those that the run has. Weights of the contrasts are fitted here, since that
    takes labels.

    Raises:
        SubmissionError: the run holds no classifier.
        PredictionError: the weights cannot be fitted.
    """
    cards = (run / "cls" / "models").glob("*_fold*.json")
    series = given.get("mri_types") or sorted({path.name.split("_fold")[0] for path in cards})
    if not series:
        raise SubmissionError(
            f"{run} holds no classifier to upload: run the pipeline with this config first."
        )
    given = {**given, "mri_types": list(series)}
    if given.get("fit_type_weights"):
        table = read_out_of_fold(run, series=series, fit=True)
        fitted = type_weights_from(series, given.get("type_weights", ()), table, fit=True)
        given |= {"fit_type_weights": False, "type_weights": [fitted[name] for name in series]}
    return given


def bundled_files(run: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what notebook 06 reads of a run, by its path below it.

    Returns:
        For each path what to write there; None: the file as it is.

    Raises:
        MissingInputError: a card or the summary is not there.
        SubmissionError: the classifiers do not agree.
        ModelError: a card or a network is not what it should be.
        PredictionError: a network says nothing finite.
    """
    cards = classifier_cards(run, series=given["mri_types"], folds=given.get("folds", ()))
    rule, device = rule_of(cards), torch.device("cpu")
    views = given.get("views", ["identity"])
    options = {"views": views, "batch_size": 2, "precision": "fp32"}
    load_predictor(run, cards, rule, device=device, **options).rehearse()
    files: dict[str, Any] = {}
    for weights in [cards[0]["provenance"]["segmenter"], *[card["weights"] for card in cards]]:
        stated = {"model": read_card(run / weights)["model"]}
        files |= {weights: None, str(Path(weights).with_suffix(".json")): stated}
    for card in cards:
        files[f"cls/models/{card['series']}_fold{card['fold']}.json"] = _shared(card)
    files["cls/summary.json"] = {"prevalence": read_summary(run)["prevalence"]}
    table = read_out_of_fold(run)
    if table is not None:  # in the order of the values, which says nothing about the patients
        files["cls/oof.parquet"] = pd.DataFrame({"mean": sorted(table["mean"].dropna())})
    return files


def _shared(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return a classifier's card with what is read of it."""
    made = {each.name for kind in (SeriesRule, Made) for each in fields(kind)}
    provenance = {name: card["provenance"][name] for name in sorted(made)}
    own = {each.name: card[each.name] for each in fields(ClassifierCard)}
    return {**own, "provenance": provenance}
