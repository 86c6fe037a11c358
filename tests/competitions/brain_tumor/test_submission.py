"""From the predictions of the contrasts to one probability per patient, and what Kaggle gets."""

import numpy as np
import pandas as pd
import pytest

from t4e_utils.competitions.brain_tumor.submission import PREVALENCE, assemble
from t4e_utils.tables.submission import SubmissionError

SERIES = ("FLAIR", "T1w")
SAMPLE = pd.DataFrame({"patient_id": ["00300", "00002", "00013"]})


def prediction(patient, series, probability, fallback=""):
    return {
        "patient_id": patient,
        "series": series,
        "probability": probability,
        "n_slices": 40,
        "n_kept": 12,
        "n_chunks": 1,
        "fallback": fallback,
    }


PREDICTIONS = pd.DataFrame(
    [
        prediction("00002", "FLAIR", 0.2),
        prediction("00002", "T1w", 0.8),
        prediction("00013", "T1w", 0.7, fallback="central slices"),
        prediction("99999", "T1w", 0.1),
    ]
)


def test_assemble_matches_a_hand_computed_table_in_the_order_of_the_sample():
    report = assemble(SAMPLE, PREDICTIONS, series=SERIES, prevalence=0.55)
    assert report["patient_id"].tolist() == ["00300", "00002", "00013"]
    assert report["probability"].tolist() == pytest.approx([0.55, 0.5, 0.7])
    assert report["fallback"].tolist() == [
        PREVALENCE,
        "",
        "T1w: central slices; FLAIR: no readable series",
    ]
    assert report["series_used"].tolist() == ["", "FLAIR T1w", "T1w"]
    assert report["n_kept"].tolist() == [0, 24, 12]


def test_weights_of_contrasts_are_used_and_one_without_weight_does_not_decide_alone():
    report = assemble(
        SAMPLE, PREDICTIONS, series=SERIES, prevalence=0.55, weights={"FLAIR": 3.0, "T1w": 1.0}
    )
    assert report["probability"][1] == pytest.approx(0.35)
    alone = assemble(
        SAMPLE, PREDICTIONS, series=SERIES, prevalence=0.55, weights={"FLAIR": 1.0, "T1w": 0.0}
    )
    assert alone["probability"].tolist() == pytest.approx([0.55, 0.2, 0.55])


def test_contrasts_without_a_classifier_are_left_out():
    report = assemble(SAMPLE, PREDICTIONS, series=("FLAIR",), prevalence=0.5)
    assert report["probability"].tolist() == pytest.approx([0.5, 0.2, 0.5])


def test_without_any_prediction_everybody_gets_the_prevalence():
    report = assemble(SAMPLE, PREDICTIONS.iloc[:0], series=SERIES, prevalence=0.4)
    assert report["probability"].tolist() == [0.4] * 3
    assert set(report["fallback"]) == {PREVALENCE}


@pytest.mark.parametrize("bad", [np.nan, 1.2, -0.1, np.inf])
def test_a_prediction_that_is_no_probability_is_refused(bad):
    with pytest.raises(SubmissionError, match="00002 was given"):
        assemble(SAMPLE, PREDICTIONS.assign(probability=bad), series=SERIES, prevalence=0.5)


def test_a_prevalence_and_weights_that_make_no_sense_are_refused():
    with pytest.raises(SubmissionError, match=r"prevalence = 1\.5"):
        assemble(SAMPLE, PREDICTIONS, series=SERIES, prevalence=1.5)
    with pytest.raises(SubmissionError, match="The contrast T1w has no weight"):
        assemble(SAMPLE, PREDICTIONS, series=SERIES, prevalence=0.5, weights={"FLAIR": 1.0})
