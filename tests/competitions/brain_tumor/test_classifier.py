"""The held-out fold decides nothing.

Neither its labels nor its slices reach the training of its own model.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from t4e_utils.competitions.brain_tumor.classifier import (
    ClassifierSettings,
    predict_held_out,
    shuffled_labels,
    shuffled_order,
    train_classifier,
)
from t4e_utils.learning.networks import load_network
from t4e_utils.learning.plan import TrainConfig
from t4e_utils.learning.scores import ChunkScore
from t4e_utils.prediction.out_of_fold import auc_by_series, most_confident, out_of_fold_table
from t4e_utils.sampling.chunks import chunk_table
from t4e_utils.sampling.pictures import write_slice
from t4e_utils.tables.folds import LeakError, make_folds, split_fold

SETTINGS = ClassifierSettings("test_nfnet", "", 8, 6, 2, 32)
CONFIG = TrainConfig(epochs=2, lr=2e-3, batch_size=4, schedule="onecycle", num_workers=0)
N_PATIENTS = 12


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Twelve patients with a few textured slices of one type each."""
    root = tmp_path_factory.mktemp("cls")
    generator = np.random.default_rng(0)
    rows = []
    for k in range(N_PATIENTS):
        for position in range(3 + k % 5):
            image = generator.integers(0, 256, (32, 32), dtype=np.uint8)
            path = root / f"{k:05d}_{position}.png"
            write_slice(path, image, np.stack([image > 100, image > 200]))
            rows.append(
                (
                    f"{k:05d}",
                    "FLAIR",
                    position,
                    path.name,
                    True,
                    900,
                    int((image > 100).sum()),
                    int((image > 200).sum()),
                    "",
                )
            )
    slices = pd.DataFrame(
        rows,
        columns=[
            "patient_id",
            "series",
            "position",
            "path",
            "is_kept",
            "brain_area",
            "wt_area",
            "et_area",
            "fallback",
        ],
    )
    patients = pd.DataFrame(
        {
            "patient_id": [f"{k:05d}" for k in range(N_PATIENTS)],
            "label": [k % 2 for k in range(N_PATIENTS)],
        }
    )
    patients["fold"] = make_folds(
        patients["patient_id"], n_folds=2, seed=0, labels=patients["label"]
    )
    return root, slices, patients


def train_and_predict(
    data, labels, folder, *, settings=SETTINGS, select_on="inner", slices=None, **options
):
    root, all_slices, patients = data
    slices = all_slices if slices is None else slices
    split = split_fold(
        patients.assign(label=patients["patient_id"].map(labels)),
        0,
        select_share=0.34,
        seed=0,
        select_on=select_on,
    )
    card = train_classifier(
        chunk_table(slices, length=6, stride=2),
        slices,
        labels,
        split,
        root / folder,
        name="FLAIR",
        root=root,
        settings=settings,
        config=CONFIG,
        provenance={},
        **options,
    )
    classifier = load_network(root / card["weights"])
    predictions = predict_held_out(
        classifier,
        slices,
        split.held_out,
        root=root,
        size=32,
        views=("identity",),
        length=6,
        stride=2,
    )
    return card, predictions, split


def test_changing_the_labels_of_held_out_patients_leaves_their_predictions_bit_identical(data):
    _, _, patients = data
    labels = patients.set_index("patient_id")["label"].to_dict()
    card, predictions, split = train_and_predict(data, labels, "a")
    changed = {
        patient: 1 - label if patient in split.held_out else label
        for patient, label in labels.items()
    }
    other_card, other, _ = train_and_predict(data, changed, "b")
    assert sorted(split.held_out) == card["held_out"]
    assert len(predictions) >= len(split.held_out)
    np.testing.assert_array_equal(predictions["probability"], other["probability"])
    assert card["weights"].split("/")[-2] == other_card["weights"].split("/")[-2]
    trained = {
        patient: 1 - label if patient not in split.held_out else label
        for patient, label in labels.items()
    }
    _, different, _ = train_and_predict(data, trained, "c")
    assert not np.array_equal(predictions["probability"], different["probability"])


def test_held_out_slices_do_not_reach_the_training(data):
    root, slices, patients = data
    labels = patients.set_index("patient_id")["label"].to_dict()
    card, _, split = train_and_predict(data, labels, "d")
    without = slices[~slices["patient_id"].isin(split.held_out)]
    other, none, _ = train_and_predict(data, labels, "e", slices=without)
    assert none.empty
    assert (root / card["weights"]).read_bytes() == (root / other["weights"]).read_bytes()


def test_validation_patients_are_not_training_patients(data):
    _, _, patients = data
    labels = patients.set_index("patient_id")["label"].to_dict()
    card, _, split = train_and_predict(data, labels, "f")
    assert not set(split.train) & set(split.tune)
    assert not set(card["trained_on"]) & set(card["held_out"])
    assert (card["n_train"], card["n_tune"], card["n_held_out"]) == (4, 2, 6)
    outer, _, _ = train_and_predict(data, labels, "g", select_on="outer")
    assert outer["select_on"] == "outer"


def test_other_settings_train_in_a_folder_of_their_own_and_the_same_are_not_trained_again(data):
    root, _, patients = data
    labels = patients.set_index("patient_id")["label"].to_dict()
    card, _, _ = train_and_predict(data, labels, "h")
    stamp = (root / card["folder"] / "last.pt").stat().st_mtime_ns
    again, _, _ = train_and_predict(data, labels, "h")
    assert again == card
    assert (root / card["folder"] / "last.pt").stat().st_mtime_ns == stamp
    other, _, _ = train_and_predict(data, labels, "h", settings=replace(SETTINGS, augment=False))
    assert other["weights"] != card["weights"]
    assert (root / card["weights"]).exists()


def test_series_without_a_slice_that_passed_are_learnt_from_when_asked_or_when_there_are_no_others(
    data,
):
    root, slices, patients = data
    labels = patients.set_index("patient_id")["label"].to_dict()
    _, _, split = train_and_predict(data, labels, "i")

    def weights(folder, patients_that_fell_back, **options):
        fallback = np.where(
            slices["patient_id"].isin(patients_that_fell_back), "largest tumour", ""
        )
        card, predictions, _ = train_and_predict(
            data, labels, folder, slices=slices.assign(fallback=fallback), **options
        )
        # these are predicted in any case
        assert sorted(predictions["patient_id"].unique()) == sorted(split.held_out)
        return card["uses_fallback"], (root / card["weights"]).read_bytes()

    all_learnt, one_left_out = weights("j", []), weights("k", split.train[:1])
    assert (all_learnt[0], one_left_out[0]) == (False, False)
    assert one_left_out[1] != all_learnt[1]
    assert weights("l", split.train[:1], train_on_fallback=True) == (True, all_learnt[1])
    assert weights("m", split.train) == (True, all_learnt[1])


def test_shuffled_labels_keep_their_numbers_and_repeat_with_the_seed():
    labels = {f"{k:05d}": int(k < 8) for k in range(20)}
    shuffled = shuffled_labels(labels, seed=1)
    assert sum(shuffled.values()) == 8
    assert shuffled.keys() == labels.keys()
    assert shuffled != labels
    assert shuffled == shuffled_labels(dict(reversed(labels.items())), seed=1)


def test_shuffled_order_exchanges_positions_within_each_patient(data):
    _, slices, _ = data
    shuffled = shuffled_order(slices, seed=0)
    for patient, own in shuffled.groupby("patient_id"):
        assert sorted(own["position"]) == sorted(
            slices.loc[slices["patient_id"] == patient, "position"]
        )
    merged = slices.merge(shuffled, on=["patient_id", "path"], suffixes=("", "_new"))
    assert (merged["position"] != merged["position_new"]).any()


def test_chunk_score_means_over_the_chunks_of_a_patient():
    score = ChunkScore(np.array(["a", "a", "b", "c"]))
    # probabilities 0.5 0.9 | 0.6 | 0.8, so the patients have 0.7, 0.6, 0.8; positive are a and c
    logits = np.log(np.array([0.5, 0.9, 0.6, 0.8]) / (1 - np.array([0.5, 0.9, 0.6, 0.8])))
    figures = score(logits, np.array([1, 1, 0, 1]), np.arange(4))
    assert figures["patient_auc"] == 1.0
    assert figures["chunk_auc"] == pytest.approx(2 / 3)
    assert np.isnan(score(logits, np.ones(4), np.arange(4))["patient_auc"])
