"""The segmenter is trained on some patients and scored on others, over whole volumes."""

import numpy as np
import pandas as pd
import pytest
from helpers.stand_ins import BrightIsTumour

from t4e_utils.competitions.brain_tumor.rules import SliceRule
from t4e_utils.competitions.brain_tumor.segmenter import (
    SegmentationError,
    SegmenterSettings,
    mix_slices,
    train_segmenter,
)
from t4e_utils.learning.datasets import SliceDataset
from t4e_utils.learning.networks import normalise
from t4e_utils.learning.plan import TrainConfig
from t4e_utils.learning.scores import segmentation_score
from t4e_utils.metrics.overlap import dice
from t4e_utils.prediction.evaluation import evaluate_patients, patient_dice, score_slices
from t4e_utils.sampling.cutting import cut_patients
from t4e_utils.scans.geometry import display_affine
from t4e_utils.scans.nifti import write_nifti
from t4e_utils.scans.volume import Volume
from t4e_utils.tables.folds import FoldSplit

REGIONS = {"WT": (1, 2, 4), "ET": (4,)}
SETTINGS = SegmenterSettings("tu-test_resnet", (16, 12, 8, 8, 8), "", 32)
CONFIG = TrainConfig(epochs=1, lr=1e-3, batch_size=8, schedule="constant", num_workers=0)


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
        files, root / "slices", root=root, rule=SliceRule(REGIONS, (0, 100)), n_jobs=1
    )
    return root, files, slices[slices["is_kept"]].reset_index(drop=True)


def train(data, split, folder):
    root, _, slices = data
    return train_segmenter(
        slices, split, root / folder, root=root, settings=SETTINGS, config=CONFIG, provenance={}
    )


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
    cards = {
        name: train_segmenter(
            slices,
            split,
            root / name,
            root=root,
            settings=SETTINGS,
            config=CONFIG,
            provenance={},
            synthetic=drawn,
            synthetic_share=0.5,
        )
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
        SegmentationError, match=f"synthetic_share is {share}: give a share between 0 and 1"
    ):
        mix_slices(pd.DataFrame({"path": ["a"]}), pd.DataFrame({"path": []}), synthetic_share=share)


def test_without_choosing_patients_the_last_epoch_is_taken(data):
    card = train(data, FoldSplit(0, ["00000", "00001"], [], ["00003"], "last epoch"), "c")
    assert card["best_epoch"] == 1
    assert card["select_on"] == "last epoch"


def test_whole_volumes_are_scored_in_all_planes_against_a_slow_dice(data):
    _, files, _ = data
    patients = files.pivot(index="patient_id", columns="series", values="path").reset_index()
    table = evaluate_patients(
        BrightIsTumour().eval(),
        patients,
        series=["FLAIR"],
        regions=REGIONS,
        percentiles=(0, 100),
        size=32,
    )
    assert len(table) == 4 * 3 * 2
    assert table["dice"].between(0.85, 1).all()
    assert table.loc[table["region"] == "WT", "truth_ml"].eq(8 * 12 * 10 / 1000).all()
    assert (
        table.loc[(table["region"] == "WT") & (table["plane"] == "axial"), "empty_slices"]
        .eq(24 - 8)
        .all()
    )
    by_patient = patient_dice(table)
    slow = table[(table["patient_id"] == "00002") & (table["region"] == "ET")]["dice"].mean()
    assert by_patient.set_index(["patient_id", "region"]).loc[
        ("00002", "ET"), "dice"
    ] == pytest.approx(slow)


def test_the_pooled_score_is_the_dice_over_all_pixels():
    generator = np.random.default_rng(0)
    predicted, true = generator.random((5, 2, 8, 8)) > 0.5, generator.random((5, 2, 8, 8)) > 0.7
    overlaps = np.stack([(predicted & true).sum(axis=(2, 3)), predicted.sum(axis=(2, 3))], axis=-1)
    figures = segmentation_score(overlaps, true.sum(axis=(2, 3)), np.arange(5))
    assert figures["dice_wt"] == pytest.approx(dice(predicted[:, 0], true[:, 0]))
    assert figures["dice_et"] == pytest.approx(dice(predicted[:, 1], true[:, 1]))
    assert figures["score"] == pytest.approx((figures["dice_wt"] + figures["dice_et"]) / 2)


def test_the_threshold_sweep_finds_the_best_threshold_of_a_known_segmenter(data):
    root, _, slices = data
    table = score_slices(BrightIsTumour().eval(), slices, root, image_size=32)
    assert set(table["n_slices"]) == {len(slices)}
    dataset = SliceDataset(slices, root, image_size=32)
    for row in table[table["threshold"].isin([0.25, 0.5])].itertuples():
        n_both = n_predicted = n_true = 0
        for item in dataset:
            true = item["masks"][["WT", "ET"].index(row.region)].numpy() > 0
            predicted = (
                BrightIsTumour()(normalise(item["image"][None]))
                .sigmoid()[0, ["WT", "ET"].index(row.region)]
                .detach()
                .numpy()
                > row.threshold
            )
            n_both, n_predicted, n_true = (
                n_both + (true & predicted).sum(),
                n_predicted + predicted.sum(),
                n_true + true.sum(),
            )
        assert row.dice == pytest.approx(2 * n_both / max(n_predicted + n_true, 1))
        assert row.iou == pytest.approx(n_both / max(n_predicted + n_true - n_both, 1))
    whole = table[table["region"] == "WT"]
    assert whole["threshold"].tolist() == pytest.approx(np.arange(1, 20) / 20)
    assert whole["dice"].max() > 0.9
