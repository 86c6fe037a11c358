"""From sequences to probabilities.

What notebook 06 does with each patient of the test set, and how long it takes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import nn
from tqdm import tqdm

from t4e_utils.competitions.brain_tumor.sequences import (
    PreparedSeries,
    SeriesRule,
    prepare_all,
    prepare_patient,
    read_for_segmentation,
)
from t4e_utils.learning.networks import SequenceClassifier
from t4e_utils.prediction.sequences import classify_sequence
from t4e_utils.progress import expected_finish
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
N_TIMED = 3  # patients after which the expected finish is told


def predict_series(
    prepared: PreparedSeries, classifiers: Sequence[SequenceClassifier], **options: Any
) -> dict[str, Any]:
    """Return what the classifiers of one MRI type say about a series.

    A row of `PREDICTION_COLUMNS`.

    Args:
        prepared: the series.
        classifiers: one a fold; their probabilities are averaged.
        **options: as in `classify_sequence`.

    Returns:
        probability (mean over folds and chunks), n_slices, n_kept, n_chunks, fallback.
    """
    chunks = np.stack(
        [classify_sequence(classifier, prepared.pictures, **options) for classifier in classifiers]
    )
    return {
        "probability": float(chunks.mean()),
        "n_slices": len(prepared.measures),
        "n_kept": len(prepared.pictures),
        "n_chunks": chunks.shape[1],
        "fallback": prepared.fallback,
    }


def predict_all(
    series: pd.DataFrame,
    segmenter: nn.Module,
    classifiers: Mapping[str, Sequence[SequenceClassifier]],
    rule: SeriesRule,
    *,
    batch_size: int = 32,
    num_workers: int = 1,
    limit_hours: float = 0.0,
    **options: Any,
) -> tuple[pd.DataFrame, list[Problem]]:
    """Predict many patients; only series that have a classifier or a say in the masks are read.

    After `N_TIMED` patients a line says when all of them will be done.

    Args:
        series: patient_id, series, path.
        segmenter: in evaluation mode.
        classifiers: of each MRI type, one a fold.
        rule: the one that the classifiers were trained with.
        batch_size: slices a pass.
        num_workers: threads that read.
        limit_hours: what the expected finish is compared with; 0: nothing is said.
        **options: size, is_stretched and views of `classify_sequence`.

    Returns:
        `PREDICTION_COLUMNS`, a row for each series that could be read; and problems.
    """
    rows, problems = [], []
    wanted = series[series["series"].isin({*classifiers, *rule.voters})]
    started, patients = time.perf_counter(), wanted["patient_id"].nunique()
    timed = set()
    for row, result in prepare_all(
        wanted, segmenter, rule, batch_size=batch_size, num_workers=num_workers
    ):
        if limit_hours and row.patient_id not in timed and len(timed) <= N_TIMED:
            if len(timed) == N_TIMED:
                tqdm.write(
                    time_sentence(
                        time.perf_counter() - started, N_TIMED, patients, limit_hours=limit_hours
                    )
                )
            timed.add(row.patient_id)
        if isinstance(result, Problem):
            problems.append(result)
            continue
        problems += result.problems
        if row.series not in classifiers:
            continue
        said = predict_series(
            result,
            classifiers[row.series],
            length=rule.sequence_length,
            stride=rule.chunk_stride,
            batch_size=batch_size,
            **options,
        )
        rows.append({"patient_id": row.patient_id, "series": row.series, **said})
    return pd.DataFrame(rows, columns=list(PREDICTION_COLUMNS)), problems


def time_sentence(seconds: float, done: int, total: int, *, limit_hours: float) -> str:
    """Say when all patients will be done, and what that is of the time allowed.

    >>> time_sentence(30, 3, 87, limit_hours=9).split("; ")[1]
    'that is 0.24 of 9 hours, within the limit.'
    """
    hours = seconds / done * total / 3600
    verdict = (
        "within the limit"
        if hours <= limit_hours
        else "too long: take a larger segmentation_stride (where each series draws its own "
        "mask), fewer views or fewer folds"
    )
    return (
        f"{done} of {total} patients in {seconds:.0f} s: all are expected to be done at "
        f"{expected_finish(seconds, done, total):%H:%M}; "
        f"that is {hours:.2f} of {limit_hours:g} hours, {verdict}."
    )


def time_stages(
    series: pd.DataFrame,
    segmenter: nn.Module,
    classifiers: Mapping[str, Sequence[SequenceClassifier]],
    rule: SeriesRule,
    **options: Any,
) -> dict[str, float]:
    """Return how many seconds reading, segmenting and classifying take, one after the other.

    `predict_all` reads ahead instead.

    Args:
        series: series, path of one patient; those that cannot be read are left out.
        segmenter: in evaluation mode.
        classifiers: of each MRI type.
        rule: as in `predict_all`.
        **options: as in `predict_all`.
    """
    read, reading = {}, 0.0
    for row in series[series["series"].isin({*classifiers, *rule.voters})].itertuples(index=False):
        begin = time.perf_counter()
        try:
            read[row.series] = read_for_segmentation(row.path, rule)
        except VolumeError:
            continue
        reading += time.perf_counter() - begin
    begin = time.perf_counter()
    prepared = (
        prepare_patient(read, segmenter, rule, batch_size=options.get("batch_size", 32))
        if read
        else {}
    )
    segmented = time.perf_counter()
    for name in set(prepared) & set(classifiers):
        predict_series(
            prepared[name],
            classifiers[name],
            length=rule.sequence_length,
            stride=rule.chunk_stride,
            **options,
        )
    classified = time.perf_counter()
    return {
        "read and window": reading,
        "segment and filter": segmented - begin if read else 0.0,
        "classify": classified - segmented if read else 0.0,
    }
