"""The T4E team's published checkpoints as a finished run.

`python -m t4e_utils.competitions.brain_tumor.published data/t4e_published`.

    downloads/               the team's files, as they are on Google Drive
    seg/models/, cls/models/ segmenter and classifiers of fold 0 as safetensors with cards:
    models_dir of 06_submission start/                   what the team began its trainings from:
    segmenter_weights of 03, classifier_weights of 05

The files are read with `weights_only=True`, and must have exactly the names and shapes of the
networks. The team's repository is under the MIT licence; nothing is said about the licence of the
weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from t4e_utils import T4EError, printable
from t4e_utils.competitions.brain_tumor.classifier import ClassifierSettings
from t4e_utils.competitions.brain_tumor.data import CONTRASTS
from t4e_utils.competitions.brain_tumor.rules import SeriesRule
from t4e_utils.competitions.brain_tumor.segmenter import SegmenterSettings
from t4e_utils.learning.networks import Recipe, blueprint, build
from t4e_utils.learning.weights import read_weights, require_entries_of, save_state
from t4e_utils.tables.store import write_json
from t4e_utils.workflow.download import fetch_from_drive

SEGMENTER_FILE = "Fold0_densenet121_2d_segment.pth"
CLASSIFIER_FILE = "{}_Fold0_eca_nfnet_l0_2d_classification.pth"
START_FILES = {
    "densenet121": "start_unetplusplus_densenet121.pth",
    "eca_nfnet_l0": "start_eca_nfnet_l0.pth",
}
DRIVE_IDS = {
    SEGMENTER_FILE: "12EVeyHI_kQlryAp6554Au4S1pt1ektnY",
    CLASSIFIER_FILE.format("FLAIR"): "12UBvr4ewswPWzf-8OyM4GjqYugonlTjY",
    CLASSIFIER_FILE.format("T1w"): "1wFJAurtdm8_G-nV2DVUQlWy7X4h4lBjo",
    CLASSIFIER_FILE.format("T1wCE"): "1fmMScOnUyDWNDEYewtX7CpDMz6EFr3Vd",
    CLASSIFIER_FILE.format("T2w"): "1JPAcR2vCDtvblDqPljx_poZNUTC00OET",
    START_FILES["densenet121"]: "1hV4HECWeiHpFkBTES2nYPpnlYM0dApRJ",
    START_FILES["eca_nfnet_l0"]: "14dmJ2HEEsdDzcsbJC_qTAQPxOGSSkDY3",
}
# SHA-256 of the files by name. The team published none, so that there is nothing to compare with
DIGESTS: dict[str, str] = {}
WINDOW = (0, 100)  # minimum and maximum of a volume
SEGMENTER = SegmenterSettings(is_stretched=True).recipe(WINDOW, "fp32")
# the team's text says 64
CLASSIFIER = ClassifierSettings(lstm_hidden=128, is_stretched=True).recipe(WINDOW, "fp32")
SEGMENTER_WEIGHTS = "seg/models/fold0-published/best.safetensors"
PREVALENCE = 306 / 582  # of the training patients without the three that the challenge leaves out
ORIGIN = (
    "published by team T4E (Train4Ever 2021); scripts under the MIT licence, nothing is "
    "said about the weights"
)


def convert_segmenter(path: Path, target: Path) -> None:
    """Write the team's segmenter as safetensors with its card.

    Raises:
        ModelError: the file is no state dict of this network.
    """
    _convert(path, target / SEGMENTER_WEIGHTS, SEGMENTER)


def convert_classifier(path: Path, target: Path, *, name: str) -> None:
    """Write the team's classifier of a contrast as safetensors, with the cards of a training.

    Raises:
        ModelError: the file is no state dict of this network.
    """
    weights = f"cls/models/{name}_fold0-published/best.safetensors"
    _convert(path, target / weights, CLASSIFIER)
    write_json(_card(name, weights), target / "cls" / "models" / f"{name}_fold0.json")


def _convert(path: Path, weights: Path, recipe: Recipe) -> None:
    state = read_weights(path)
    require_entries_of(blueprint(recipe), state, path)
    save_state(state, weights, {"model": asdict(recipe), "origin": ORIGIN, "file": path.name})


def _card(name: str, weights: str) -> dict[str, Any]:
    made = {"percentiles": WINDOW, "segmenter": SEGMENTER_WEIGHTS}
    return {
        "series": name,
        "control": "none",
        "provenance": {**asdict(SeriesRule()), **made},
        "fold": 0,
        "weights": weights,
        "best_epoch": None,  # not published
        "select_on": "outer",  # the team chose its checkpoints by the held-out fold
        "n_train": None,
        "trained_on": [],  # not needed: training and test patients of the challenge are apart
        "model": asdict(CLASSIFIER),
        "origin": ORIGIN,
    }


def convert_start(path: Path, target: Path, *, model: str) -> None:
    """Write the weights that the team began a training from as `start/<model>.safetensors`.

    Raises:
        ModelError: a training could not begin from them.
    """
    build(SEGMENTER if model == SEGMENTER.backbone else CLASSIFIER, weights=path)
    weights = target / "start" / f"{model}.safetensors"
    save_state(read_weights(path), weights, {"origin": ORIGIN, "file": path.name})


def fetch_published(
    target: Path, *, series: Sequence[str] = CONTRASTS, with_start: bool = True
) -> None:
    """Fetch and convert what is not there yet.

    The summary, which makes the run complete, is written last.

    Raises:
        PipelineError: a file cannot be fetched.
        ModelError: a file is damaged, or not what it should be.
    """
    print(f"These weights were {ORIGIN}.")

    def fetched(name: str) -> Path:
        place = target / "downloads" / name
        return fetch_from_drive(DRIVE_IDS[name], place, name=name, sha256=DIGESTS.get(name, ""))

    convert_segmenter(fetched(SEGMENTER_FILE), target)
    for name in series:
        convert_classifier(fetched(CLASSIFIER_FILE.format(name)), target, name=name)
    write_json({"prevalence": PREVALENCE, "origin": ORIGIN}, target / "cls" / "summary.json")
    for model, name in START_FILES.items() if with_start else ():
        convert_start(fetched(name), target, model=model)
    print(printable(f"{target} is complete."))


def main(arguments: list[str] | None = None) -> None:
    """Fetch and convert into the folder named on the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m t4e_utils.competitions.brain_tumor.published",
        description="Fetch the T4E team's checkpoints.",
    )
    parser.add_argument("target", type=Path, help="folder to fill, such as data/t4e_published")
    parser.add_argument(
        "--without-start", action="store_true", help="leave out what only trainings need"
    )
    asked = parser.parse_args(arguments)
    try:
        fetch_published(asked.target, with_start=not asked.without_start)
    except T4EError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
