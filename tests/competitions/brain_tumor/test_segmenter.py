"""The segmenter is trained on some patients, chosen by others, and has seen nobody else."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from tiny_models import SEGMENTER_SETTINGS as SETTINGS

from t4e_utils.competitions.brain_tumor.data import REGIONS
from t4e_utils.competitions.brain_tumor.rules import SliceRule
from t4e_utils.competitions.brain_tumor.segmenter import (
    AUGMENTATION,
    mix_slices,
    picture_input,
    train_segmenter,
)
from t4e_utils.learning import TrainingError
from t4e_utils.learning.augmentation import Augmentation
from t4e_utils.learning.networks import Recipe, load_network
from t4e_utils.learning.plan import TrainConfig
from t4e_utils.learning.scores import RegionDice
from t4e_utils.learning.train_fold import FoldJob
from t4e_utils.metrics.overlap import dice
from t4e_utils.sampling.cutting import cut_patients
from t4e_utils.scans.geometry import display_affine
from t4e_utils.scans.nifti import write_nifti
from t4e_utils.scans.volume import Volume
from t4e_utils.tables.folds import FoldSplit

WINDOW = (0, 100)
CONFIG = TrainConfig(epochs=1, learning_rate=1e-3, batch_size=8, schedule="constant", num_workers=0)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Four patients whose tumour is bright, and whose enhancing part is brighter."""
    root = tmp_path_factory.mktemp("seg")
    rows = []
    for k in range(4):
        labels = np.zeros((24, 30, 28), np.uint8)
        labels[6 + k : 14 + k, 8:20, 5 + k : 15 + k] = 2
        labels[8 + k : 11 + k, 12:16, 7 + k : 11 + k] = 4
        array = np.zeros(labels.shape, np.int16)
        array[2:22, 2:28, 2:26] = 60
        array[labels == 2], array[labels == 4] = 180, 250
        for name, values in (("FLAIR", array), ("labels", labels)):
            path = root / f"{k}_{name}.nii.gz"
            write_nifti(Volume(values, (1.0, 1.0, 1.0), display_affine("axial")), path)
            rows.append((f"0000{k}", name, str(path)))
    files = pd.DataFrame(rows, columns=["patient_id", "series", "path"])
    slices, _ = cut_patients(
        files, root / "slices", root=root, rule=SliceRule(percentiles=WINDOW), n_jobs=1
    )
    return root, files, slices[slices["is_kept"]].reset_index(drop=True)


def train(data, split, folder, *, settings=SETTINGS, config=CONFIG, **options):
    root, _, slices = data
    job = FoldJob(split, root / folder / f"fold{split.fold}.json", root, {"percentiles": WINDOW})
    return train_segmenter(slices, job, settings, config, **options)


def test_validation_slices_are_those_of_the_choosing_patients_and_not_training_slices(data):
    root, _, _ = data
    card = train(data, FoldSplit(0, ["00000", "00001"], ["00002"], ["00003"], "inner"), "a")
    history = pd.read_csv(root / card["folder"] / "history.csv")
    assert card["trained_on"] == ["00000", "00001", "00002"]
    assert card["held_out"] == ["00003"]
    assert {"train_loss", "valid_loss", "dice_wt", "dice_et"} <= set(history.columns)
    # T4E built its validation set from the training rows: then another choosing patient would
    # change nothing
    other = train(data, FoldSplit(0, ["00000", "00001"], ["00003"], ["00002"], "inner"), "b")
    assert other["folder"].split("-")[-1] != card["folder"].split("-")[-1]
    assert history["train_loss"].equals(
        pd.read_csv(root / other["folder"] / "history.csv")["train_loss"]
    )
    assert not history["valid_loss"].equals(
        pd.read_csv(root / other["folder"] / "history.csv")["valid_loss"]
    )


def test_synthetic_slices_are_learnt_from_and_choose_nothing(data):
    root, _, slices = data
    split = FoldSplit(0, ["00000"], ["00002"], ["00003"], "inner")
    synthetic = slices[slices["patient_id"] == "00001"].assign(patient_id="synthetic000")
    half = replace(SETTINGS, synthetic_share=0.5)
    cards = {
        name: train(data, split, name, settings=half, synthetic=drawn)
        for name, drawn in {"with": synthetic, "without": synthetic.iloc[:0]}.items()
    }
    plain = train(data, split, "plain")
    assert (cards["with"]["n_synthetic"], cards["without"]["n_synthetic"]) == (1, 0)
    assert cards["with"]["trained_on"] == plain["trained_on"] == ["00000", "00002"]
    losses = {
        name: pd.read_csv(root / card["folder"] / "history.csv")["train_loss"].item()
        for name, card in {**cards, "plain": plain}.items()
    }
    assert losses["without"] == losses["plain"] != losses["with"]
    assert (
        cards["without"]["folder"].split("-")[-1]
        == plain["folder"].split("-")[-1]
        != cards["with"]["folder"].split("-")[-1]
    )


@pytest.mark.parametrize(("share", "repeats"), [(0.7, 2), (0.5, 4), (0.2, 16), (0.95, 1)])
def test_patients_slices_are_repeated_until_synthetic_ones_have_their_share(share, repeats):
    slices = pd.DataFrame({"path": ["a", "b", "c"]})
    synthetic = pd.DataFrame({"path": [f"s{k}" for k in range(12)]})
    mixed = mix_slices(slices, synthetic, synthetic_share=share)
    # 12 of 18, 24, 60 and 15
    assert mixed["path"].value_counts().to_dict() == {
        **dict.fromkeys("abc", repeats),
        **dict.fromkeys(synthetic["path"], 1),
    }
    assert mix_slices(slices, synthetic[:0], synthetic_share=share) is slices


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5])
def test_a_share_that_leaves_one_kind_out_is_refused(share):
    with pytest.raises(
        TrainingError, match=f"synthetic_share is {share}: give a share between 0 and 1"
    ):
        mix_slices(pd.DataFrame({"path": ["a"]}), pd.DataFrame({"path": []}), synthetic_share=share)


def test_without_choosing_patients_the_last_epoch_is_taken(data):
    card = train(data, FoldSplit(0, ["00000", "00001"], [], ["00003"], "last epoch"), "c")
    assert card["best_epoch"] == 1
    assert card["select_on"] == "last epoch"


def test_the_pooled_score_is_the_dice_over_all_pixels():
    generator = np.random.default_rng(0)
    predicted, true = generator.random((5, 2, 8, 8)) > 0.5, generator.random((5, 2, 8, 8)) > 0.7
    overlaps = np.stack([(predicted & true).sum(axis=(2, 3)), predicted.sum(axis=(2, 3))], axis=-1)
    scores = RegionDice(tuple(REGIONS))(overlaps, true.sum(axis=(2, 3)), np.arange(5))
    assert scores["dice_wt"] == pytest.approx(dice(predicted[:, 0], true[:, 0]))
    assert scores["dice_et"] == pytest.approx(dice(predicted[:, 1], true[:, 1]))
    assert scores["score"] == pytest.approx((scores["dice_wt"] + scores["dice_et"]) / 2)


def test_the_card_says_what_the_network_saw(data):
    root, _, _ = data
    settings = replace(SETTINGS, is_stretched=True, augment=False, loss="dice+bce")
    split = FoldSplit(2, ["00000", "00001"], ["00002"], ["00003"], "inner")
    card = train(data, split, "d", settings=settings)
    assert (root / "d" / "fold2.json").is_file()
    recipe = Recipe.from_card(card["model"])
    assert recipe == settings.recipe(WINDOW, CONFIG.precision)
    assert (recipe.percentiles, recipe.size, recipe.is_stretched) == (WINDOW, 32, True)
    assert (card["loss"], card["augment"], card["fold"]) == ("dice+bce", False, 2)
    assert card["provenance"] == {"percentiles": WINDOW}
    assert load_network(root / card["weights"]).recipe == recipe


def test_another_window_of_the_slices_trains_in_a_folder_of_its_own(data):
    root, _, slices = data
    split = FoldSplit(0, ["00000"], [], ["00003"], "last epoch")
    jobs = [
        FoldJob(split, root / "e" / "fold0.json", root, {"percentiles": window})
        for window in ((0, 100), (1, 99))
    ]
    cards = [train_segmenter(slices, job, SETTINGS, CONFIG) for job in jobs]
    assert cards[0]["folder"] != cards[1]["folder"]
    assert [card["model"]["percentiles"] for card in cards] == [(0, 100), (1, 99)]


def test_only_slices_to_learn_from_are_augmented(data, monkeypatch):
    seen = []

    def train_fold(job, recipe, train, valid, **_):
        seen.extend(each.source for each in (train, valid))
        return {}

    monkeypatch.setattr("t4e_utils.competitions.brain_tumor.segmenter.train_fold", train_fold)
    split = FoldSplit(0, ["00000", "00001"], ["00002"], ["00003"], "inner")
    train(data, split, "f", config=replace(CONFIG, seed=4))
    root, recipe = data[0], SETTINGS.recipe(WINDOW, CONFIG.precision)
    assert seen == [
        picture_input(recipe, root, seed=4, augmentation=AUGMENTATION),
        picture_input(recipe, root),
    ]
    assert seen[1].augmentation == Augmentation()
    train(data, split, "g", settings=replace(SETTINGS, augment=False))
    assert seen[2] == seen[3] == picture_input(recipe, root)
