"""Held-out patients are predicted by the classifiers that did not learn from them, once."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from tiny_models import tiny_classifier

from t4e_utils.competitions.brain_tumor.classified import Classified
from t4e_utils.competitions.brain_tumor.classifier import predict_held_out
from t4e_utils.prediction.sequences import SequenceReading
from t4e_utils.sampling.pictures import stack_channels, write_picture
from t4e_utils.tables.folds import LeakError

READING = SequenceReading(stride=2)
KEYS = [("FLAIR", 0), ("FLAIR", 1), ("T2w", 0)]


@pytest.fixture
def slices(tmp_path):
    """Four patients with nine kept slices of two contrasts, every second of their series."""
    generator, rows = np.random.default_rng(0), []
    for patient, series, position in np.ndindex(4, 2, 9):
        image = generator.integers(0, 256, (32, 32), dtype=np.uint8)
        name = f"{patient}_{series}_{position}.png"
        write_picture(tmp_path / name, stack_channels(image, [image > 100, image > 200]))
        rows.append(
            {
                "patient_id": f"0000{patient}",
                "series": ("FLAIR", "T2w")[series],
                "position": position,
                "slice": 2 * position,
                "path": name,
                "plane": "axial",
                "row_mm": 1.0,
                "column_mm": 1.0,
            }
        )
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


@pytest.fixture
def classified(tmp_path):
    held_out = {0: ["00000", "00001"], 1: ["00002", "00003"]}
    cards = {
        (series, fold): {
            "weights": f"{series}{fold}",
            "control": "none",
            "select_on": "inner",
            "held_out": held_out[fold],
            "trained_on": held_out[1 - fold],
        }
        for series, fold in KEYS
    }
    networks = {key: tiny_classifier(seed) for seed, key in enumerate(KEYS)}
    return Classified(tmp_path, cards, networks, READING, seed=0)


def test_each_patient_is_predicted_by_its_own_fold_and_what_is_finished_is_read(classified, slices):
    table = classified.predict(slices)
    for key, own in table.groupby(["series", "fold"]):
        card, network = classified.cards[key], classified.networks[key]
        expected = predict_held_out(
            network,
            slices[slices["series"] == key[0]],
            card["held_out"],
            READING,
            root=classified.run,
        )
        assert sorted(set(own["patient_id"])) == card["held_out"]
        np.testing.assert_array_equal(own["probability"], expected["probability"])
    assert [*table.groupby(["series", "fold"]).groups] == KEYS
    pd.testing.assert_frame_equal(replace(classified, networks={}).predict(slices), table)
    other_views = replace(classified, reading=replace(READING, views=("hflip",)))
    assert not other_views.predict(slices)["probability"].equals(table["probability"])


@pytest.mark.parametrize("what", ["weights", "table", "table emptied"])
def test_after_another_training_in_the_same_place_patients_are_predicted_again(
    classified, slices, what
):
    table = classified.predict(slices)
    if what == "weights":
        (classified.run / "T2w0").write_bytes(b"trained again, in the same place")
    else:
        path = classified.run / "cls" / "oof" / "T2w_fold0.parquet"
        path.write_bytes(b"noise" if what == "table" else b"")
    other = {("T2w", 0): tiny_classifier(9)}  # the others are read
    again = replace(classified, networks=other).predict(slices)
    is_changed = table["probability"] != again["probability"]
    assert is_changed.any()
    assert is_changed.equals(table["series"] == "T2w")


def test_a_patient_that_trained_the_classifier_is_not_predicted(classified, slices):
    card = {**classified.cards["FLAIR", 0], "trained_on": ["00001", "00002"]}
    with pytest.raises(LeakError, match="00001"):
        replace(classified, cards={("FLAIR", 0): card}).predict(slices)
    outer = {("FLAIR", 0): {**card, "select_on": "outer"}}
    assert len(replace(classified, cards=outer).predict(slices))


def test_influences_are_of_the_surest_right_and_wrong_prediction(classified, slices):
    table = pd.DataFrame(
        {
            "patient_id": ["00000", "00001", "00002"],
            "fold": [0, 0, 1],
            "label": [0, 1, 1],
            "FLAIR": [0.4, 0.3, 0.9],
            "T2w": [0.45, 0.6, np.nan],
        }
    )
    found = {title: rest for title, *rest in classified.influences(table, slices)}
    assert list(found) == [
        "Confident and right: patient 00002 · FLAIR · label 1 · predicted 0.90",
        "Confident and wrong: patient 00001 · FLAIR · label 1 · predicted 0.30",
    ]
    for pictures, influence, numbers in found.values():
        assert len(pictures) == len(influence) == 9
        assert numbers == list(range(0, 18, 2))
        assert np.ptp(influence) > 0
        assert pictures[0].regions == ("WT", "ET")
