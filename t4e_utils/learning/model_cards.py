"""The card of a trained fold.

A JSON file that says where its weights are, who trained and chose, and with which settings.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from t4e_utils.learning.fit import FitResult
from t4e_utils.learning.plan import TrainConfig
from t4e_utils.tables.folds import FoldSplit
from t4e_utils.tables.store import write_json


def write_card(
    result: FitResult,
    path: Path,
    *,
    root: Path,
    split: FoldSplit,
    settings: Any,
    config: TrainConfig,
    **facts: Any,
) -> dict[str, Any]:
    """Write the card of a training; it is written last, so if it is there the training is complete.

    Args:
        result: what the training came to.
        path: of the card.
        root: paths in the card are relative to it.
        split: who was fitted, who chose, who is held out.
        settings: dataclass of the network and its input; its fields go into the card.
        config: of the loop.
        **facts: anything else that a reader needs.

    Returns:
        The card: weights, folder, best_epoch, best_score, select_on, numbers of patients,
        trained_on and held_out (ids), settings, training.
    """
    card = {
        **facts,
        "fold": split.fold,
        "weights": str(result.best_path.relative_to(root)),
        "folder": str(result.best_path.parent.relative_to(root)),
        "best_epoch": result.best_epoch,
        "best_score": result.best_score,
        "select_on": split.select_on,
        **split.counts,
        "trained_on": sorted({*split.train, *split.tune}),
        "held_out": sorted(split.held_out),
        **asdict(settings),
        "training": asdict(config),
    }
    write_json(card, path)
    return card
