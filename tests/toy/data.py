"""Which shapes does a slice show? A collection in miniature, whose leaf is this file."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from t4e_utils.figures.palette import Palette
from t4e_utils.learning.augmentation import Augmentation
from t4e_utils.learning.datasets import PictureDataset, PictureInput
from t4e_utils.learning.losses import make_loss
from t4e_utils.learning.networks import Recipe
from t4e_utils.learning.plan import TrainConfig
from t4e_utils.learning.scores import OutputAUC
from t4e_utils.learning.train_fold import FoldJob, train_fold
from t4e_utils.sampling.pictures import write_picture
from t4e_utils.tables.submission import SubmissionForm
from t4e_utils.workflow.plan import Stage

SHAPES = ("disc", "ring")
PALETTE = Palette({"disc": "#0072B2", "ring": "#D55E00"}, outcome="a disc")
SUBMISSION = SubmissionForm("slice_id", SHAPES)
STAGES = {"data": Stage("01_data"), "train": Stage("02_train", folds_from="data", uses_gpu=True)}
FLIPS = Augmentation(flip_rows=0.5, flip_columns=0.5)


def draw(root: Path, n_patients: int, *, seed: int) -> Path:
    """Write six slices of each patient, the labels, and a sample with one slice too many."""
    rng, (y, x), labels = np.random.default_rng(seed), np.mgrid[:48, :48], []
    for patient, place in np.ndindex(n_patients, 6):
        part, slice_id = ("train", "test")[patient % 4 == 3], f"{patient:03d}_{place}"
        image, shown = rng.normal(60, 12, (48, 48)), rng.random(2) < 0.5
        for is_shown, hole in zip(shown, (0, 4), strict=True):
            distance = np.hypot(*(np.array([y, x]) - rng.uniform(9, 39, (2, 1, 1))))
            image += 24 * is_shown * ((hole <= distance) & (distance < 8))
        stored = image.clip(0, 255).astype(np.uint8)[..., None]
        write_picture(root / part / f"patient{patient:03d}" / f"{slice_id}.png", stored)
        labels.append((part, slice_id, *shown.astype(int)))
    table = pd.DataFrame(labels, columns=["part", *SUBMISSION.columns])
    table[table["part"] == "train"].drop(columns="part").to_csv(root / "labels.csv", index=False)
    sample = [*table.loc[table["part"] == "test", "slice_id"], "lost"]
    pd.DataFrame({"slice_id": sample}).to_csv(root / "sample.csv", index=False)
    return root


def train(
    slices: pd.DataFrame, job: FoldJob, recipe: Recipe, config: TrainConfig
) -> Mapping[str, Any]:
    """Train the network of one fold and write its card."""
    source = PictureInput(job.root, recipe.square, n_channels=1, seed=config.seed)
    own, tune = (slices[slices["patient_id"].isin(s)] for s in (job.split.train, job.split.tune))
    drawn = PictureDataset(own, replace(source, augmentation=FLIPS), targets=SHAPES)
    plain = PictureDataset(tune, source, targets=SHAPES)
    learnt = {"loss": make_loss("bce"), "score": OutputAUC(SHAPES), "facts": {}, "config": config}
    return train_fold(replace(job, made_from=(own, tune)), recipe, drawn, plain, **learnt)
