"""The submission: one finite probability for every patient of the sample, and how it came about."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from t4e_utils.competitions.brain_tumor.data import (
    ID_COLUMN,
    LABEL_COLUMN,
    SUBMISSION,
    read_sample,
    test_series,
)
from t4e_utils.competitions.brain_tumor.rules import SeriesRule
from t4e_utils.competitions.brain_tumor.sources import require_classifiers
from t4e_utils.competitions.brain_tumor.trained import read_classifier_card
from t4e_utils.scans.problems import Problem
from t4e_utils.tables.catalog import CatalogError, folder_names, problems_table
from t4e_utils.tables.ids import spelled_as
from t4e_utils.tables.run import MissingInputError
from t4e_utils.tables.submission import SubmissionError

PREVALENCE = "prevalence of the training labels"


def patients_to_predict(rsna: Path) -> tuple[pd.DataFrame, pd.DataFrame, list[Problem]]:
    """Return the sample, the series of its patients in its spelling, and what is odd.

    Without any test folder there are no series: the test set of a competition is not always there.

    Returns:
        Sample (patient_id), series (patient_id, split, series, path), problems.

    Raises:
        CatalogError: there are test folders, but none of a patient of the sample.
    """
    sample, names = read_sample(rsna), folder_names(rsna / "test")
    path, ids = rsna / "sample_submission.csv", sample["patient_id"]
    spelled, problems = spelled_as(ids, names, path=path)
    if not names:
        sentence = (
            f"There is no folder of a test patient, so all {len(sample)} get the fallback: is the "
            "test set unpacked?"
        )
        problems.append(Problem("no_files", str(rsna / "test"), sentence))
    elif not {*spelled} & {*names}:
        raise CatalogError(
            f"None of the {len(sample)} patients of {path}, such as {ids[0]}, has a folder below "
            f"{rsna / 'test'}, which holds {names[0]}: do the two belong together?"
        )
    own, series = dict(zip(spelled, ids, strict=True)), test_series(rsna)
    series = series[series["patient_id"].isin(own)].reset_index(drop=True)
    return sample, series.assign(patient_id=series["patient_id"].map(own)), problems


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
        ModelError: a card does not describe one.
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
        cards |= {path: read_classifier_card(path, series=name) for path in found}
    require_classifiers(models, cards)
    return list(cards.values())


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
    problems: pd.DataFrame | None = None,
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
        problems: from `problems_by_series`.

    Returns:
        patient_id, probability, series_used, n_slices, n_kept, n_chunks, fallback (empty, or what
        was done, in words), problems (codes by contrast, as in "FLAIR: gap; T2w: truncated").

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
    codes = _codes(problems) if problems is not None else {}
    return pd.DataFrame(rows).assign(problems=[codes.get(row["patient_id"], "") for row in rows])


def problems_by_series(
    sample: pd.DataFrame, series: pd.DataFrame, problems: Sequence[Problem], *, names: Sequence[str]
) -> pd.DataFrame:
    """Say of each problem to which series it belongs, and add the series that are not there.

    Args:
        sample: column patient_id.
        series: patient_id, series, path of the folder.
        problems: their paths are folders of series, files in them, or anything else.
        names: of the contrasts that each patient should have.

    Returns:
        patient_id and series (empty where a problem belongs to none), code, path, sentence; the
        patients in the order of the sample, after what belongs to none.
    """
    own = {Path(row.path): (row.patient_id, row.series) for row in series.itertuples()}
    there, place = set(own.values()), {one: k for k, one in enumerate(sample["patient_id"])}
    found = [*problems]
    owners = [_owner(Path(problem.path), own) for problem in found]
    for missing in ((one, name) for one in place for name in names if (one, name) not in there):
        owners.append(missing)
        found.append(Problem("missing_series", "", "Patient {} has no {}.".format(*missing)))
    table = pd.DataFrame(owners, columns=["patient_id", "series"]).join(problems_table(found))
    order = np.argsort([place.get(patient, -1) for patient, _ in owners], kind="stable")
    return table.iloc[order].reset_index(drop=True)


def _owner(path: Path, own: Mapping[Path, tuple[str, str]]) -> tuple[str, str]:
    """Return patient and series of the folder that a path is, or lies in; else nobody."""
    return next((own[folder] for folder in (path, *path.parents) if folder in own), ("", ""))


def _codes(problems: pd.DataFrame) -> dict[str, str]:
    """Return the codes of each patient as text, contrast by contrast, each code once."""
    by_series = problems.groupby(["patient_id", "series"], sort=True)["code"].unique()
    found: dict[str, list[str]] = {}
    for (patient, name), codes in by_series.items():
        found.setdefault(patient, []).append(f"{name}: {' '.join(sorted(codes))}")
    return {patient: "; ".join(own) for patient, own in found.items()}


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
