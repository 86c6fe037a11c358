"""From series to probabilities: what notebook 06 does with each test patient."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from t4e_utils.competitions.brain_tumor.rules import SeriesRule
from t4e_utils.competitions.brain_tumor.sequences import PreparedSeries, Preparer, ReadSeries
from t4e_utils.competitions.brain_tumor.trained import require_segmenter
from t4e_utils.learning import ModelError
from t4e_utils.learning.networks import Recipe, SequenceClassifier, load_network, with_precision
from t4e_utils.prediction import PredictionError
from t4e_utils.prediction.ensemble import fit_weights
from t4e_utils.prediction.rehearsal import ramp, require_finite
from t4e_utils.prediction.sequences import SequenceReading, classify_sequence
from t4e_utils.prediction.streaming import Walk, for_each
from t4e_utils.scans.problems import Problem, VolumeError

PREDICTION_COLUMNS = (
    "patient_id",
    "series",
    "probability",
    "n_slices",
    "n_kept",
    "n_chunks",
    "fallback",
)
ADVICE = (
    "take a larger segmentation_stride (where each series draws its own mask), fewer views or "
    "fewer folds"
)
NOT_FINITE = (
    "The classifiers say nothing finite about this series, so it does not count: look at its "
    "pictures, or predict with precision fp32."
)


@dataclass(frozen=True)
class Predictor:
    """Everything that turns the series of a test patient into probabilities."""

    preparer: Preparer
    classifiers: Mapping[str, Sequence[SequenceClassifier]]  # of each contrast, one per fold
    reading: SequenceReading

    def wanted(self, series: pd.DataFrame) -> pd.DataFrame:
        """Return the series that have a classifier or a say in the masks; others are not read."""
        names = {*self.classifiers, *self.preparer.rule.voters}
        return series[series["series"].isin(names)]

    def predict_series(self, prepared: PreparedSeries, name: str) -> dict[str, Any]:
        """Return what the classifiers of a contrast say about a series.

        Args:
            prepared: the series.
            name: the contrast.

        Returns:
            probability (mean over folds and chunks), n_slices, n_kept, n_chunks, fallback.
        """
        pictures, reading = prepared.pictures, self.reading
        own = [classify_sequence(network, pictures, reading) for network in self.classifiers[name]]
        chunks = np.stack(own)
        return {
            "probability": float(chunks.mean()),
            "n_slices": len(prepared.measures),
            "n_kept": len(prepared.pictures),
            "n_chunks": chunks.shape[1],
            "fallback": prepared.fallback,
        }

    def rehearse(self) -> None:
        """Let every network see one picture, before any patient.

        Raises:
            PredictionError: what it says is not finite.
        """
        self.preparer.rehearse()
        for name, networks in self.classifiers.items():
            for network in networks:
                pictures = [ramp(network.recipe.size, network.recipe.n_inputs)]
                require_finite(classify_sequence(network, pictures, self.reading), network, name)

    def predict_all(
        self, series: pd.DataFrame, *, n_readers: int = 1, limit_hours: float = 0.0
    ) -> tuple[pd.DataFrame, list[Problem]]:
        """Predict many patients; after a few, a line says when all of them will be done.

        Args:
            series: patient_id, series, path.
            n_readers: threads that read.
            limit_hours: what the expected finish is compared with; 0: nothing is said.

        Returns:
            `PREDICTION_COLUMNS`, one row for each series that could be read; and problems.
        """
        patients = {"group_by": "patient_id", "group_unit": "patients"}
        walk = Walk(**patients, n_readers=n_readers, limit_hours=limit_hours, advice=ADVICE)
        wanted = self.wanted(series)
        table, problems = for_each(wanted, self.preparer.read, self._predict_patient, walk=walk)
        return table.reindex(columns=list(PREDICTION_COLUMNS)), problems

    def _predict_patient(
        self, rows: Sequence[Any], read: Sequence[ReadSeries]
    ) -> list[tuple[pd.DataFrame, list[Problem]]]:
        names = [row.series for row in rows]
        prepared = self.preparer.prepare_patient(dict(zip(names, read, strict=True)))
        results = []
        for row in rows:
            own, found = prepared[row.series], pd.DataFrame()
            if row.series in self.classifiers:
                said = self.predict_series(own, row.series)
                named = {"patient_id": row.patient_id, "series": row.series}
                found = pd.DataFrame([{**named, **said}])
            is_lost = len(found) and not np.isfinite(said["probability"])
            lost = [Problem("no_prediction", str(row.path), NOT_FINITE)] if is_lost else []
            results.append((found[:0] if is_lost else found, [*own.problems, *lost]))
        return results

    def story(self, series: pd.DataFrame) -> tuple[dict[str, PreparedSeries], pd.DataFrame]:
        """Return the prepared series of one patient by name, and what was predicted of each."""
        read, _ = self._read(series)
        prepared = self.preparer.prepare_patient(read) if read else {}
        rows = [
            {
                "patient_id": series["patient_id"].iloc[0],
                "series": name,
                **self.predict_series(own, name),
            }
            for name, own in prepared.items()
            if name in self.classifiers
        ]
        return prepared, pd.DataFrame(rows, columns=list(PREDICTION_COLUMNS))

    def time_stages(self, series: pd.DataFrame) -> dict[str, float]:
        """Return how many seconds each stage takes for one patient, one after the other.

        `predict_all` reads ahead instead. Series that cannot be read are left out.
        """
        read, reading = self._read(series)
        begin = time.perf_counter()
        prepared = self.preparer.prepare_patient(read) if read else {}
        segmented = time.perf_counter()
        for name in set(prepared) & set(self.classifiers):
            self.predict_series(prepared[name], name)
        return {
            "read and window": reading,
            "segment and filter": segmented - begin,
            "classify": time.perf_counter() - segmented,
        }

    def _read(self, series: pd.DataFrame) -> tuple[dict[str, ReadSeries], float]:
        """Series of a patient by name, and the seconds that it took to read them."""
        read, seconds = {}, 0.0
        for row in self.wanted(series).itertuples(index=False):
            begin = time.perf_counter()
            try:
                read[row.series] = self.preparer.read(row.path)
            except VolumeError:  # named where all patients are predicted
                continue
            seconds += time.perf_counter() - begin
        return read, seconds


def load_predictor(
    models: Path,
    cards: Sequence[Mapping[str, Any]],
    rule: SeriesRule,
    *,
    device: torch.device,
    views: Sequence[str],
    batch_size: int,
    precision: str = "",
) -> Predictor:
    """Load the segmenter and the classifiers that the cards name.

    Args:
        models: run folder of the models.
        cards: of the classifiers.
        rule: by which their training data were made.
        device: where they run.
        views: of the sequences.
        batch_size: slices per pass.
        precision: of all networks instead of that on their cards; "": as there.

    Raises:
        ModelError: a network cannot be loaded, or is not the one of its card.
    """

    def load(weights: str, stated: Mapping[str, Any]) -> torch.nn.Module:
        network = load_network(models / weights, device=device)
        for name, value in stated.items():
            if getattr(network.recipe, name) != value:
                raise ModelError(
                    f"{models / weights} is not the network that the classifiers' cards name: its "
                    f"{name} is {getattr(network.recipe, name)}, not {value}. Run 04_cls_data and "
                    "05_train_cls again."
                )
        return with_precision(network, precision)

    made = cards[0]["provenance"]
    segmenter = load(made["segmenter"], {"percentiles": tuple(made["percentiles"])})
    require_segmenter(segmenter.recipe, models / made["segmenter"])
    classifiers = {card["series"]: [] for card in cards}
    for card in cards:
        stated = asdict(Recipe.from_card(card["model"]))
        classifiers[card["series"]].append(load(card["weights"], stated))
    reading = SequenceReading(rule.chunk_stride, tuple(views), batch_size)
    return Predictor(Preparer(segmenter, rule, batch_size), classifiers, reading)


def type_weights_from(
    series: Sequence[str], numbers: Sequence[float], out_of_fold: pd.DataFrame | None, *, fit: bool
) -> dict[str, float] | None:
    """Return the weights of the contrasts in a patient's mean; None: equal.

    Args:
        series: the contrasts.
        numbers: one per contrast; or empty.
        out_of_fold: table of out-of-fold predictions, if there is one.
        fit: fit the weights on it.

    Raises:
        PredictionError: the weights make no sense or are not one for each, both ways are wanted,
            or there is nothing to fit on.
    """
    if numbers and fit:
        raise PredictionError(
            "The weights are given (type_weights) and to be fitted (fit_type_weights): choose "
            "one of the two."
        )
    if numbers and not (
        all(isinstance(n, (int, float)) and n >= 0 for n in numbers) and 0 < sum(numbers) < math.inf
    ):
        raise PredictionError(
            f"type_weights = {list(numbers)} are no weights: give finite numbers of 0 or more, not "
            "all of them 0."
        )
    if fit and out_of_fold is None:
        raise PredictionError(
            "There are no out-of-fold predictions to fit weights on: run 05_train_cls, or "
            "leave fit_type_weights off."
        )
    if numbers and len(numbers) != len(series):
        raise PredictionError(
            f"type_weights = {list(numbers)} are {len(numbers)} numbers for the {len(series)} "
            f"types {', '.join(series)}: give one for each type."
        )
    if fit:
        return fit_weights(out_of_fold, series=series)
    return dict(zip(series, numbers, strict=True)) if numbers else None
