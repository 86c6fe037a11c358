"""The training of a fold: a card that says everything, and a folder for every setting."""

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.training_runs import (
    AUGMENTATION,
    SIZE,
    Interrupted,
    LossThatBreaks,
    ScoreOf,
    same_weights,
)

from t4e_utils.learning import ModelError
from t4e_utils.learning.datasets import PictureDataset, PictureInput
from t4e_utils.learning.losses import make_loss
from t4e_utils.learning.networks import Recipe, build, load_network
from t4e_utils.learning.plan import TrainConfig
from t4e_utils.learning.train_fold import FoldJob, train_fold
from t4e_utils.learning.weights import save_weights
from t4e_utils.sampling.squares import Square
from t4e_utils.tables.folds import FoldSplit

RECIPE = Recipe("image", "test_resnet", size=SIZE)
CONFIG = TrainConfig(
    epochs=1, learning_rate=1e-3, batch_size=5, schedule="cosine", num_workers=0, seed=2
)
SPLIT = FoldSplit(1, ["2", "0"], ["1"], ["3"], "inner")
PROVENANCE = {"percentiles": [0.5, 99.5], "data": "phantoms"}


def brightness(logits, targets, indices):
    return {"score": float(np.mean(logits)), "n": len(indices)}


@pytest.fixture
def train(cases, tmp_path):
    """A function that trains a fold, with changes to the job, the recipe or the settings."""
    slices = pd.read_pickle(cases / "slices.pkl")
    slices["label"] = slices["patient_id"].astype(int) % 2
    source = PictureInput(cases, Square(SIZE), augmentation=AUGMENTATION, seed=CONFIG.seed)

    def data(ids, own):
        table = slices[slices["patient_id"].isin(ids)].reset_index(drop=True)
        return PictureDataset(table, own, targets=("label",)) if len(table) else None

    def run(*, recipe=RECIPE, config=CONFIG, facts=None, loss=None, root=tmp_path, **changes):
        job = FoldJob(SPLIT, root / "models" / "fold1.json", root, PROVENANCE)
        job = replace(job, **changes)
        return train_fold(
            job,
            recipe,
            data(job.split.train, source),
            data(job.split.tune, replace(source, augmentation=type(AUGMENTATION)())),
            config=config,
            loss=loss or make_loss("bce"),
            score=ScoreOf(brightness),
            facts=facts or {"loss": "bce"},
        )

    return run


def test_the_card_says_who_trained_what_with_which_settings_and_data(train, tmp_path):
    card = train(facts={"loss": "bce", "series": "first"})
    assert (card["loss"], card["series"], card["fold"], card["select_on"]) == (
        "bce",
        "first",
        1,
        "inner",
    )
    assert [card[name] for name in ("n_train", "n_tune", "n_held_out")] == [2, 1, 1]
    assert (card["trained_on"], card["held_out"]) == (["0", "1", "2"], ["3"])
    assert card["model"] == asdict(RECIPE)
    assert card["training"] == asdict(CONFIG)
    assert card["provenance"] == PROVENANCE
    assert card["best_epoch"] == 1
    assert math.isfinite(card["best_score"])
    stored = json.loads((tmp_path / "models" / "fold1.json").read_text())
    assert stored == json.loads(json.dumps(card))
    assert stored["weights"] == f"{stored['folder']}/best.safetensors"
    assert stored["folder"].startswith("models/fold1-")


def test_the_card_of_the_weights_is_enough_to_have_the_network_again(train, tmp_path):
    recipe = replace(RECIPE, percentiles=(1, 99), precision="fp32")
    model = load_network(tmp_path / train(recipe=recipe)["weights"])
    assert model.recipe == recipe
    assert not model.training


def test_without_tuning_patients_the_last_epoch_is_taken(train):
    split = replace(SPLIT, tune=[], select_on="last epoch")
    card = train(split=split, config=replace(CONFIG, epochs=2))
    assert (card["best_epoch"], card["select_on"], card["n_tune"]) == (2, "last epoch", 0)
    assert math.isnan(card["best_score"])


def test_weights_are_drawn_from_the_seed_and_the_fold(train, tmp_path):
    torch.manual_seed(99)
    still = replace(CONFIG, learning_rate=0.0, weight_decay=0.0)
    first = load_network(tmp_path / train(config=still)["weights"])
    torch.manual_seed(CONFIG.seed + SPLIT.fold)
    drawn = dict(build(RECIPE).named_parameters())
    assert all(torch.equal(weight, drawn[name]) for name, weight in first.named_parameters())


@pytest.mark.parametrize(
    "changes",
    [
        {"recipe": replace(RECIPE, percentiles=(0, 100))},
        {"recipe": replace(RECIPE, precision="bf16")},
        {"recipe": replace(RECIPE, is_stretched=True)},
        {"recipe": replace(RECIPE, options={"drop_rate": 0.1})},
        {"config": replace(CONFIG, precision="bf16")},
        {"config": replace(CONFIG, learning_rate=2e-3)},
        {"provenance": {**PROVENANCE, "percentiles": [0, 100]}},
        {"provenance": {**PROVENANCE, "data": "scans"}},
        {"made_from": (pd.DataFrame({"path": ["a.png"]}),)},
        {"split": replace(SPLIT, select_on="outer")},
        {"facts": {"loss": "bce", "augment": False}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_another_setting_trains_in_another_folder_and_nothing_is_overwritten(
    train, tmp_path, changes
):
    first = train()
    before = (tmp_path / first["weights"]).stat().st_mtime_ns
    second = train(**changes)
    assert second["folder"] != first["folder"]
    assert (tmp_path / second["weights"]).is_file()
    assert (tmp_path / first["weights"]).stat().st_mtime_ns == before
    assert train() == first


def test_weights_to_start_from_are_part_of_the_setting(train, tmp_path):
    first = train()
    second = train(start_weights=str(tmp_path / first["weights"]))
    assert second["folder"] != first["folder"]
    card = json.loads((tmp_path / second["weights"]).with_suffix(".json").read_text())
    assert card["starts_from"] == str(tmp_path / first["weights"])


def test_other_weights_in_the_same_file_are_another_start(train, tmp_path):
    start = tmp_path / "start.safetensors"
    torch.manual_seed(1)
    save_weights(build(RECIPE), start, {})
    first, same = train(start_weights=str(start)), train(start_weights=str(start))
    torch.manual_seed(2)
    save_weights(build(RECIPE), start, {})
    other = train(start_weights=str(start))
    assert same["folder"] == first["folder"] != other["folder"]
    networks = [load_network(tmp_path / card["weights"]) for card in (first, other)]
    assert not same_weights(*networks)


@pytest.mark.parametrize("changes", [{}, {"config": replace(CONFIG, num_workers=-1)}])
def test_the_same_setting_is_not_trained_again(train, tmp_path, changes):
    first = train()
    written = (tmp_path / first["weights"]).stat().st_mtime_ns
    again = train(loss=LossThatBreaks(0), **changes)
    assert {**again, "training": None} == {**first, "training": None}
    assert (tmp_path / first["weights"]).stat().st_mtime_ns == written
    with pytest.raises(Interrupted):
        train(loss=LossThatBreaks(0), overwrite=True)


@pytest.mark.parametrize("workers", [0, -1])
def test_an_interrupted_training_has_no_card_and_goes_on(train, tmp_path, workers):
    config = replace(CONFIG, epochs=4)
    whole = train(config=config, root=tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(config=config, root=tmp_path / "broken", loss=LossThatBreaks(7))
    card = tmp_path / "broken" / "models" / "fold1.json"
    assert not card.exists()
    (folder,) = card.parent.iterdir()
    assert (folder / "last.pt").exists()
    resumed = train(config=replace(config, num_workers=workers), root=tmp_path / "broken")
    assert card.exists()
    assert list(card.parent.glob("fold1-*")) == [folder]
    assert {**resumed, "training": None} == {**whole, "training": None}
    models = [load_network(tmp_path / name / whole["weights"]) for name in ("whole", "broken")]
    assert same_weights(*models)


def test_a_network_that_cannot_be_built_leaves_nothing(train, tmp_path):
    with pytest.raises(ModelError, match="'no_such' cannot be built"):
        train(recipe=replace(RECIPE, backbone="no_such"))
    assert not (tmp_path / "models").exists()
