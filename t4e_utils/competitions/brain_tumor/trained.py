"""What a run says of its trained models: cards, summary, out-of-fold table.

All of it is checked when it is read, so that no work is done for a run that cannot end well.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import AfterValidator, Field

from t4e_utils.competitions.brain_tumor.classifier import ALL_CHANNELS, CONTROLS
from t4e_utils.competitions.brain_tumor.data import REGIONS
from t4e_utils.competitions.brain_tumor.rules import SeriesRule
from t4e_utils.learning import ModelError
from t4e_utils.learning.networks import Recipe
from t4e_utils.learning.weights import WEIGHT_SUFFIXES
from t4e_utils.prediction import PredictionError
from t4e_utils.prediction.ensemble import require_labels, require_probabilities
from t4e_utils.prediction.tta import MASK_VIEWS
from t4e_utils.tables.run import MissingInputError
from t4e_utils.tables.schema import SchemaError, conform
from t4e_utils.tables.store import read_json, read_table

SEGMENTERS = ("unet", "unet++")  # kinds of networks that draw regions
LONGEST_NAME = 255  # characters of a file's name


def _in_the_run(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\0" in path:
        raise ValueError("should be a path below the run's folder")
    if max(map(len, parts)) > LONGEST_NAME or PurePosixPath(path).suffix not in WEIGHT_SUFFIXES:
        raise ValueError(f"should be a file that ends in one of {', '.join(WEIGHT_SUFFIXES)}")
    return path


WeightsPath = Annotated[str, AfterValidator(_in_the_run)]  # relative to the run


@dataclass(frozen=True)
class SegmenterCard:
    """What is read of the card of a segmenter."""

    fold: Annotated[int, Field(ge=0)]
    weights: WeightsPath
    trained_on: list[str]  # ids
    model: Mapping[str, Any]  # the recipe
    provenance: Mapping[str, Any]  # of its slices


@dataclass(frozen=True)
class ClassifierCard:
    """What is read of the card of a classifier."""

    series: str
    control: Literal[CONTROLS]
    fold: Annotated[int, Field(ge=0)]
    weights: WeightsPath
    best_epoch: int | None
    n_train: int | None
    select_on: str
    trained_on: list[str]  # ids
    model: Mapping[str, Any]  # the recipe
    provenance: Mapping[str, Any]  # of its slices: a `SeriesRule` and `Made`


@dataclass(frozen=True)
class Made:
    """What the slices of a classifier were made with, beside the rule."""

    segmenter: WeightsPath
    percentiles: tuple[float, float]


def read_segmenter_card(run: Path, fold: int) -> dict[str, Any]:
    """Read the card of the segmenter of a fold.

    Raises:
        MissingInputError: it is missing or damaged.
        ModelError: it does not describe a segmenter of this run.
    """
    path = run / "seg" / "models" / f"fold{fold}.json"
    card = read_json(path, made_by="03_train_seg")
    try:
        conform(SegmenterCard, card, is_part=True)
        require_segmenter(Recipe.from_card(card["model"], said_by=path), path)
    except SchemaError as error:
        raise _no_card(path, error, "03_train_seg") from None
    return card


def require_segmenter(recipe: Recipe, path: Path) -> None:
    """Refuse a network that does not draw the regions; `path` is its card or its weights.

    Raises:
        ModelError: it is of another kind, or for other regions.
    """
    if recipe.kind not in SEGMENTERS or recipe.n_outputs != len(REGIONS):
        raise ModelError(
            f"{path} is of a network of the kind {recipe.kind!r} with {recipe.n_outputs} outputs, "
            f"not of one of {' or '.join(SEGMENTERS)} that draws {' and '.join(REGIONS)}: run "
            "03_train_seg again."
        )


def read_classifier_card(path: Path, *, series: str) -> dict[str, Any]:
    """Read the card of a classifier.

    Raises:
        MissingInputError: it is missing or damaged.
        ModelError: it does not describe a classifier of this contrast.
    """
    card = read_json(path, made_by="05_train_cls")
    try:
        stated = conform(ClassifierCard, card, is_part=True)
        rule = conform(SeriesRule, stated.provenance, is_part=True, is_whole=True)
        conform(Made, stated.provenance, is_part=True)
        if stated.series != series:
            raise SchemaError(f"series is {stated.series!r}, and should be {series!r}")
        if not rule.segmentation_views or set(rule.segmentation_views) - set(MASK_VIEWS):
            raise SchemaError(f"segmentation_views is {list(rule.segmentation_views)}")
        recipe = Recipe.from_card(card["model"], said_by=path)
        form = recipe.kind, recipe.n_inputs, recipe.options.get("sequence_length")
        if form != (expected := ("sequence", len(ALL_CHANNELS), rule.sequence_length)):
            raise SchemaError(
                f"kind, n_inputs and sequence_length are {form}, and should be {expected}"
            )
    except (SchemaError, PredictionError) as error:
        raise _no_card(path, error, "05_train_cls") from None
    return card


def _no_card(path: Path, error: Exception, made_by: str) -> ModelError:
    return ModelError(
        f"{path} is no card of {made_by} ({error}): delete it and run {made_by} again."
    )


def read_summary(run: Path) -> dict[str, Any]:
    """Read the summary of the classifiers.

    Returns:
        prevalence, the share of positive training labels, and what else stands there.

    Raises:
        MissingInputError: it is missing or damaged, or the prevalence is no share.
    """
    path = run / "cls" / "summary.json"
    summary = read_json(path, made_by="05_train_cls")
    try:
        conform(_Summary, summary, is_part=True)
    except SchemaError as error:
        raise MissingInputError(
            f"{path} is no summary of 05_train_cls ({error}): delete it and run 05_train_cls again."
        ) from None
    return summary


@dataclass(frozen=True)
class _Summary:
    prevalence: Annotated[float, Field(ge=0, le=1)]


def read_out_of_fold(
    run: Path, *, series: Sequence[str] = (), fit: bool = False
) -> pd.DataFrame | None:
    """Read the out-of-fold predictions of a run; None if there are none.

    Args:
        run: its folder.
        series: the contrasts.
        fit: weights are to be fitted on them: labels, folds and contrasts are needed too.

    Raises:
        MissingInputError: the table is damaged, or lacks a column.
        PredictionError: a value is no probability, or no label.
    """
    path, made_by = run / "cls" / "oof.parquet", "05_train_cls"
    if not os.path.isfile(path):  # a name can be too long
        return None
    needed = ("mean", "label", "fold", *series) if fit else ("mean",)
    table = read_table(path, made_by=made_by, columns=needed)
    try:
        require_probabilities(table, ("mean", *series) if fit else ("mean",))
        if fit:
            require_labels(table)
    except PredictionError as error:
        raise PredictionError(f"{path}: {error} Delete it and run {made_by} again.") from None
    return table
