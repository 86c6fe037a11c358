"""The submission: one finite probability for every patient of the sample, and how it came about."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from t4e_utils.competitions.brain_tumor.data import ID_COLUMN, LABEL_COLUMN, SUBMISSION
from t4e_utils.competitions.brain_tumor.rules import SeriesRule
from t4e_utils.competitions.brain_tumor.sources import require_classifiers
from t4e_utils.tables.run import MissingInputError
from t4e_utils.tables.store import read_json
from t4e_utils.tables.submission import SubmissionError

PREVALENCE = "prevalence of the training labels"


def classifier_cards(
    models: Path, *, series: Sequence[str], folds: Sequence[int] = ()
) -> list[dict[str, Any]]:
    """Read the cards of the trained classifiers.

    Args:
        models: run folder of the models.
        series: contrasts; each must have at least one classifier.
        folds: only these; all that are there if empty.

    Raises:
        MissingInputError: a contrast has no classifier, or not one of each given fold.
        StaleResultError: the slices or the segmenter were made anew since one was trained.
    """
    cards: dict[Path, dict[str, Any]] = {}
    for name in series:
        wanted = [models / "cls" / "models" / f"{name}_fold{fold}.json" for fold in folds]
        found = wanted or sorted((models / "cls" / "models").glob(f"{name}_fold*.json"))
        if not found:
            raise MissingInputError(
                f"There is no classifier for {name} below {models}: run 05_train_cls, or leave "
                f"{name} out of mri_types."
            )
        cards |= {path: read_json(path, made_by="05_train_cls") for path in found}
    require_classifiers(models, cards)
    return list(cards.values())


def bundled_parameters(run: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of notebook 06 on Kaggle; without contrasts, those that the run has.

    Raises:
        SubmissionError: the run holds no classifier.
    """
    cards = (run / "cls" / "models").glob("*_fold*.json")
    series = given.get("mri_types") or sorted({path.name.split("_fold")[0] for path in cards})
    if not series:
        raise SubmissionError(
            f"{run} holds no classifier to upload: run the pipeline with this config first."
        )
    return {**given, "mri_types": list(series)}


def bundled_files(run: Path, given: Mapping[str, Any]) -> list[str]:
    """Return the weights, cards and tables of a run that notebook 06 reads, as paths below it.

    Raises:
        MissingInputError: a card is not there.
        SubmissionError: the classifiers do not agree.
    """
    cards = classifier_cards(run, series=given["mri_types"], folds=given.get("folds", ()))
    rule_of(cards)
    weights = [cards[0]["provenance"]["segmenter"], *[card["weights"] for card in cards]]
    return [
        *weights,
        *[str(Path(path).with_suffix(".json")) for path in weights],
        "cls/summary.json",
        *[f"cls/models/{card['series']}_fold{card['fold']}.json" for card in cards],
        *[path for path in ("cls/oof.parquet",) if (run / path).is_file()],
    ]


def rule_of(cards: Sequence[Mapping[str, Any]]) -> SeriesRule:
    """Return how the classifiers' training data were made: test data must be made the same way.

    Raises:
        SubmissionError: the classifiers do not agree.
    """
    made = [_preparation(card) for card in cards]
    for name in dict.fromkeys(name for one in made for name in one):
        values = {json.dumps(one.get(name), sort_keys=True) for one in made}
        if len(values) > 1:
            raise SubmissionError(
                f"The classifiers differ in {name}, they cannot be averaged over one "
                f"preparation: {' | '.join(sorted(values))}."
            )
    return SeriesRule(**{rule.name: made[0][rule.name] for rule in fields(SeriesRule)})


def _preparation(card: Mapping[str, Any]) -> dict[str, Any]:
    picture = {name: card["model"][name] for name in ("size", "is_stretched")}
    return {**card["provenance"], **picture, "control": card["control"]}


def table_of(rows: pd.DataFrame) -> pd.DataFrame:
    """Return of a report, or of a sample, the columns of the submission."""
    named = rows.rename(columns={"patient_id": ID_COLUMN, "probability": LABEL_COLUMN})
    return named.reindex(columns=[name for name in SUBMISSION.columns if name in named])


def assemble(
    sample: pd.DataFrame,
    predictions: pd.DataFrame,
    *,
    series: Sequence[str],
    prevalence: float,
    weights: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """Join the predictions of the contrasts to one row per patient.

    A patient's probability is the (weighted) mean over the contrasts that have one; without any it
    is the prevalence.

    Args:
        sample: column patient_id, the patients to predict, in the order of the submission.
        predictions: patient_id, series, probability, n_slices, n_kept, n_chunks, fallback: one row
            for each patient and contrast that could be predicted.
        series: the contrasts that have a classifier.
        prevalence: share of positive training labels, for patients without any readable series.
        weights: of the contrasts; equal if not given.

    Returns:
        patient_id, probability, series_used, n_slices, n_kept, n_chunks, fallback (empty, or what
        was done, in words).

    Raises:
        SubmissionError: the prevalence or a weight makes no sense, or a prediction is not a
            probability.
    """
    if not 0 <= prevalence <= 1:
        raise SubmissionError(
            f"prevalence = {prevalence!r} is no probability: give the share of positive "
            "training labels, 0 to 1."
        )
    weights = {name: 1.0 for name in series} if not weights else dict(weights)
    if missing := [name for name in series if weights.get(name, -1) < 0]:
        raise SubmissionError(
            f"The contrast {missing[0]} has no weight of 0 or more in {weights}: give one for "
            f"each of {', '.join(series)}."
        )
    usable = predictions[predictions["series"].isin(series)]
    wrong = usable[~usable["probability"].between(0, 1)]
    if len(wrong):
        first = wrong.iloc[0]
        raise SubmissionError(
            f"{first['series']} of patient {first['patient_id']} was given "
            f"{first['probability']!r}, which is no probability."
        )
    by_patient = dict(tuple(usable.groupby("patient_id")))
    rows = [
        _patient_row(patient, by_patient.get(patient), series, prevalence, weights)
        for patient in sample["patient_id"]
    ]
    return pd.DataFrame(rows)


def _patient_row(
    patient: str,
    found: pd.DataFrame | None,
    series: Sequence[str],
    prevalence: float,
    weights: Mapping[str, float],
) -> dict[str, object]:
    total = 0.0 if found is None else float(found["series"].map(weights).sum())
    if found is None or total == 0:
        return {
            "patient_id": patient,
            "probability": prevalence,
            "series_used": "",
            "n_slices": 0,
            "n_kept": 0,
            "n_chunks": 0,
            "fallback": PREVALENCE,
        }
    notes = [f"{row.series}: {row.fallback}" for row in found.itertuples() if row.fallback]
    notes += [f"{name}: no readable series" for name in series if name not in set(found["series"])]
    return {
        "patient_id": patient,
        "probability": float(
            np.average(found["probability"], weights=found["series"].map(weights))
        ),
        "series_used": " ".join(name for name in series if name in set(found["series"])),
        "n_slices": int(found["n_slices"].sum()),
        "n_kept": int(found["n_kept"].sum()),
        "n_chunks": int(found["n_chunks"].sum()),
        "fallback": "; ".join(notes),
    }
