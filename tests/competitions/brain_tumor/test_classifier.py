"""The held-out fold decides nothing.

Neither its labels nor its slices reach the training of its own model.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.stand_ins import precisions_of
from tiny_models import CLASSIFIER_SETTINGS as SETTINGS
from tiny_models import WINDOW, tiny_classifier

from t4e_utils.competitions.brain_tumor.classifier import (
    predict_held_out,
    shuffled_labels,
    shuffled_order,
    train_classifier,
)
from t4e_utils.learning import TrainingError
from t4e_utils.learning.networks import Recipe, load_network, with_precision
from t4e_utils.learning.plan import TrainConfig
from t4e_utils.learning.scores import ChunkScore
from t4e_utils.learning.train_fold import FoldJob
from t4e_utils.prediction.sequences import SequenceReading, classify_sequence
from t4e_utils.sampling.chunks import chunk_table
from t4e_utils.sampling.pictures import stack_channels, write_picture
from t4e_utils.tables.folds import make_folds, split_fold

CONFIG = TrainConfig(epochs=2, learning_rate=2e-3, batch_size=4, schedule="onecycle", num_workers=0)
READING = SequenceReading(stride=2)
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
            write_picture(path, stack_channels(image, [image > 100, image > 200]))
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
    data, labels, folder, *, settings=SETTINGS, select_on="inner", slices=None, config=CONFIG
):
    root, all_slices, patients = data
    slices = all_slices if slices is None else slices
    labelled = patients.assign(label=patients["patient_id"].map(labels))
    split = split_fold(labelled, 0, select_share=0.34, seed=0, select_on=select_on)
    job = FoldJob(split, root / folder / "FLAIR_fold0.json", root, {"percentiles": WINDOW})
    chunks = chunk_table(slices, length=6, stride=2)
    card = train_classifier(chunks, slices, labels, job, settings, config)
    network = load_network(root / card["weights"])
    return card, predict_held_out(network, slices, split.held_out, READING, root=root), split


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

    def weights(folder, patients_that_fell_back, **changes):
        fallback = np.where(
            slices["patient_id"].isin(patients_that_fell_back), "largest tumour", ""
        )
        card, predictions, _ = train_and_predict(
            data,
            labels,
            folder,
            slices=slices.assign(fallback=fallback),
            settings=replace(SETTINGS, **changes),
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
    scores = score(logits, np.array([1, 1, 0, 1]), np.arange(4))
    assert scores["patient_auc"] == 1.0
    assert scores["chunk_auc"] == pytest.approx(2 / 3)
    assert np.isnan(score(logits, np.ones(4), np.arange(4))["patient_auc"])


def test_the_card_says_what_the_network_saw(data):
    root, _, patients = data
    labels = patients.set_index("patient_id")["label"].to_dict()
    settings = replace(SETTINGS, control="masks only", augment=False)
    card, _, _ = train_and_predict(data, labels, "n", settings=settings)
    assert (root / "n" / "FLAIR_fold0.json").is_file()
    assert (card["series"], card["control"], card["augment"]) == ("FLAIR", "masks only", False)
    assert Recipe.from_card(card["model"]) == settings.recipe(WINDOW, CONFIG.precision)
    assert card["provenance"] == {"percentiles": WINDOW}


def test_a_contrast_without_chunks_is_refused(data):
    _, slices, patients = data
    labels = patients.set_index("patient_id")["label"].to_dict()
    with pytest.raises(TrainingError, match="The table of chunks has no rows"):
        train_and_predict(data, labels, "o", slices=slices[:0])


@pytest.mark.parametrize("control", ["none", "shuffled order", "masks only"])
def test_held_out_patients_are_predicted_under_the_control_of_the_training(data, control):
    root, slices, _ = data
    own = slices[slices["patient_id"] == "00004"]  # seven slices
    classifier, read = tiny_classifier(), []
    classifier.normalise.register_forward_hook(lambda _, images, __: read.append(images[0]))
    found = predict_held_out(
        classifier, own, ["00004"], READING, root=root, control=control, seed=1
    )
    plain = predict_held_out(tiny_classifier(), own, ["00004"], READING, root=root)
    shown = torch.cat(read)[:-1]  # without the black one
    assert bool(shown[:, 0].any()) == (control != "masks only")
    assert shown[:, 1:].any()
    is_equal = np.array_equal(found["probability"], plain["probability"])
    assert is_equal == (control == "none")


def test_held_out_patients_are_predicted_in_the_precision_of_the_recipe(data):
    root, slices, _ = data
    classifier = with_precision(tiny_classifier(), "bf16")
    found = precisions_of(classifier.backbone)
    predict_held_out(classifier, slices, ["00004"], READING, root=root)
    assert found == {torch.bfloat16}


def test_a_network_predicts_in_the_precision_that_it_was_trained_in(data):
    root, _, patients = data
    labels = patients.set_index("patient_id")["label"].to_dict()
    config = replace(CONFIG, epochs=1, precision="bf16")
    card, _, _ = train_and_predict(data, labels, "p", config=config)
    network = load_network(root / card["weights"])
    found = precisions_of(network.backbone)
    classify_sequence(network, [np.full((32, 32, 3), 99, np.uint8)], READING)
    assert (network.recipe.precision, found) == ("bf16", {torch.bfloat16})
