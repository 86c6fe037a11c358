"""The segmenter is trained on some patients and scored on others, over whole volumes."""

import numpy as np
import pandas as pd
import pytest
from stand_ins import BrightIsTumour

from t4e_utils.catalog import FoldSplit
from t4e_utils.datasets import SliceDataset
from t4e_utils.geometry import display_affine
from t4e_utils.metrics import dice
from t4e_utils.models import normalise
from t4e_utils.preparation import SliceRule, cut_patients
from t4e_utils.segmentation import (
    SegmenterSettings,
    evaluate_patients,
    patient_dice,
    score_slices,
    segmentation_score,
    train_segmenter,
)
from t4e_utils.training import TrainConfig
from t4e_utils.training_plan import epochs_for_steps
from t4e_utils.volumes import Volume, write_nifti

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
    slices, _ = cut_patients(files, root / "slices", root=root, rule=SliceRule(REGIONS, (0, 100)), n_jobs=1)
    return root, files, slices[slices["is_kept"]].reset_index(drop=True)


def train(data, split, folder):
    root, _, slices = data
    return train_segmenter(slices, split, root / folder, root=root, settings=SETTINGS, config=CONFIG, made_with={})


def test_validation_slices_are_those_of_the_choosing_patients_and_not_training_slices(data):
    root, _, _ = data
    card = train(data, FoldSplit(0, ["00000", "00001"], ["00002"], ["00003"], "inner"), "a")
    history = pd.read_csv(root / card["folder"] / "history.csv")
    assert card["trained_on"] == ["00000", "00001", "00002"]
    assert card["held_out"] == ["00003"]
    assert {"train_loss", "valid_loss", "dice_wt", "dice_et"} <= set(history.columns)
    # T4E built its validation set from the training rows: then another choosing patient would change nothing
    other = train(data, FoldSplit(0, ["00000", "00001"], ["00003"], ["00002"], "inner"), "b")
    assert other["folder"].split("-")[-1] != card["folder"].split("-")[-1]
    assert history["train_loss"].equals(pd.read_csv(root / other["folder"] / "history.csv")["train_loss"])
    assert not history["valid_loss"].equals(pd.read_csv(root / other["folder"] / "history.csv")["valid_loss"])


def test_few_slices_are_passed_through_until_they_make_the_least_number_of_steps(data):
    root, _, slices = data
    split = FoldSplit(0, ["00000", "00001"], [], ["00003"], "last epoch")
    n_batches = -(-slices["patient_id"].isin(split.fitted).sum() // CONFIG.batch_size)
    options = {"root": root, "settings": SETTINGS, "config": CONFIG, "made_with": {}}
    card = train_segmenter(slices, split, root / "steps", min_steps=2 * n_batches - 1, few_slices=1000, **options)
    assert card["training"]["epochs"] == 2
    steps = {"batch_size": 16, "min_steps": 601, "few_items": 200}
    assert [epochs_for_steps(7, n_items=n, **steps) for n in (0, 120, 199, 200)] == [7, 76, 47, 7]  # 8 and 13 batches an epoch


def test_without_choosing_patients_the_last_epoch_is_taken(data):
    card = train(data, FoldSplit(0, ["00000", "00001"], [], ["00003"], "last epoch"), "c")
    assert card["best_epoch"] == 1
    assert card["select_on"] == "last epoch"


def test_whole_volumes_are_scored_in_all_planes_against_a_slow_dice(data):
    _, files, _ = data
    patients = files.pivot(index="patient_id", columns="series", values="path").reset_index()
    table = evaluate_patients(BrightIsTumour().eval(), patients, series=["FLAIR"], regions=REGIONS, percentiles=(0, 100), size=32)
    assert len(table) == 4 * 3 * 2
    assert table["dice"].between(0.85, 1).all()
    assert table.loc[table["region"] == "WT", "truth_ml"].eq(8 * 12 * 10 / 1000).all()
    assert table.loc[(table["region"] == "WT") & (table["plane"] == "axial"), "empty_slices"].eq(24 - 8).all()
    by_patient = patient_dice(table)
    slow = table[(table["patient_id"] == "00002") & (table["region"] == "ET")]["dice"].mean()
    assert by_patient.set_index(["patient_id", "region"]).loc[("00002", "ET"), "dice"] == pytest.approx(slow)


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
            predicted = BrightIsTumour()(normalise(item["image"][None])).sigmoid()[0, ["WT", "ET"].index(row.region)].detach().numpy() > row.threshold
            n_both, n_predicted, n_true = n_both + (true & predicted).sum(), n_predicted + predicted.sum(), n_true + true.sum()
        assert row.dice == pytest.approx(2 * n_both / max(n_predicted + n_true, 1))
        assert row.iou == pytest.approx(n_both / max(n_predicted + n_true - n_both, 1))
    whole = table[table["region"] == "WT"]
    assert whole["threshold"].tolist() == pytest.approx(np.arange(1, 20) / 20)
    assert whole["dice"].max() > 0.9
