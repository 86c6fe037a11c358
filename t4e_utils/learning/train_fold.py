"""The training of one fold, from a recipe and data sets to a card.

The folder of a training carries a fingerprint of everything that decides its result. So another
setting trains in a folder of its own, an interrupted training goes on where it was, and nothing is
overwritten. The card is a JSON file that says where the weights are, who trained and chose, with
which settings, and what the data were made with. It is written last: if it is there, the training
is complete.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from t4e_utils.learning.devices import seed_everything
from t4e_utils.learning.fit import fit
from t4e_utils.learning.networks import Recipe, build
from t4e_utils.learning.plan import TrainConfig
from t4e_utils.learning.scores import Score
from t4e_utils.learning.training_run import FitResult
from t4e_utils.learning.weights import resolve_weights
from t4e_utils.tables.folds import FoldSplit
from t4e_utils.tables.provenance import content_of
from t4e_utils.tables.store import fingerprint, write_json


@dataclass(frozen=True)
class FoldJob:
    """Whose training it is, where it belongs, and what it is made from."""

    split: FoldSplit
    card: Path  # the folder of the training stands beside it, with a fingerprint in its name
    root: Path  # paths on the card are relative to it
    provenance: Mapping[str, Any]  # what the data were made with
    made_from: tuple[Any, ...] = ()  # tables and values that decide the result beside these
    start_weights: str = ""  # "": random; "imagenet"; or a file or folder
    num_processes: int = 1  # of this machine that train together, one per GPU
    overwrite: bool = False  # train anew although finished


def train_fold(
    job: FoldJob,
    recipe: Recipe,
    train: Dataset,
    valid: Dataset | None,
    *,
    config: TrainConfig,
    loss: Callable[[Tensor, Tensor], Tensor],
    score: Score,
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Train the network of one fold and write its card.

    Args:
        job: split, places and provenance.
        recipe: of the network; its precision is that of the training.
        train: pictures of the patients that train.
        valid: of those that tune; None: nobody chooses.
        config: of the loop.
        loss: of logits and targets.
        score: of the validation set.
        facts: anything else that the card says.

    Returns:
        The card: facts, fold, weights, folder, best_epoch, best_score, select_on, numbers of
        patients, trained_on and held_out (ids), model (the recipe), training, provenance.

    Raises:
        ModelError: the network cannot be built.
        TrainingError: as `fit`.
    """
    split, seed = job.split, config.seed + job.split.fold
    settings = asdict(replace(config, num_workers=-1))  # how many there are changes nothing
    seed_everything(seed)
    model = build(recipe, weights=job.start_weights)
    # by content too: another file of the same name is another start
    is_file = job.start_weights not in ("", "imagenet")
    start = resolve_weights(job.start_weights, model=recipe.backbone) if is_file else None
    began = [content_of(start)] if start else []
    decides = (asdict(recipe), settings, job.start_weights, split.select_on, facts, *began)
    identity = fingerprint(*decides, job.provenance, *job.made_from)
    result = fit(
        model,
        train,
        valid,
        loss=loss,
        score=score,
        config=config,
        folder=job.card.with_name(f"{job.card.stem}-{identity}"),
        encoder=getattr(model, model.frozen_part) if model.frozen_part else None,
        num_processes=job.num_processes,
        overwrite=job.overwrite,
    )
    card = {**facts, **_outcome(result, job), "model": asdict(recipe), "training": asdict(config)}
    card["provenance"] = dict(job.provenance)
    write_json(card, job.card)
    return card


def _outcome(result: FitResult, job: FoldJob) -> dict[str, Any]:
    split = job.split
    return {
        "fold": split.fold,
        "weights": str(result.best_path.relative_to(job.root)),
        "folder": str(result.best_path.parent.relative_to(job.root)),
        "best_epoch": result.best_epoch,
        "best_score": result.best_score,
        "select_on": split.select_on,
        **split.counts,
        "trained_on": sorted({*split.train, *split.tune}),
        "held_out": sorted(split.held_out),
    }
