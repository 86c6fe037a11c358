"""A finished run with tiny networks of random weights.

What notebook 06 and the Kaggle bundle read, without any training.
"""

from dataclasses import asdict

import pandas as pd
import torch

from t4e_utils.competitions.brain_tumor.classifier import ClassifierSettings
from t4e_utils.competitions.brain_tumor.rules import SeriesRule
from t4e_utils.competitions.brain_tumor.segmenter import SegmenterSettings
from t4e_utils.learning.networks import build
from t4e_utils.learning.weights import save_weights
from t4e_utils.tables.store import write_json, write_table

RULE = SeriesRule(sequence_length=6, chunk_stride=2)
WINDOW = (0.5, 99.5)
SEGMENTER_SETTINGS = SegmenterSettings("tu-test_resnet", (16, 12, 8, 8, 8), segmenter_size=32)
CLASSIFIER_SETTINGS = ClassifierSettings(
    "test_nfnet", lstm_hidden=8, sequence_length=RULE.sequence_length, classifier_size=32
)
SEGMENTER = SEGMENTER_SETTINGS.recipe(WINDOW, "fp32")
CLASSIFIER = CLASSIFIER_SETTINGS.recipe(WINDOW, "fp32")


def tiny_classifier(seed=0):
    torch.manual_seed(seed)
    return build(CLASSIFIER).eval()


def write_tiny_run(run, *, series=("FLAIR", "T2w"), folds=(0,), prevalence=0.4):
    torch.manual_seed(0)
    segmenter = "seg/models/fold0-a/best.safetensors"
    save_weights(build(SEGMENTER), run / segmenter, {})
    provenance = {**asdict(RULE), "percentiles": WINDOW, "segmenter": segmenter}
    for name in series:
        for fold in folds:
            weights = f"cls/models/{name}_fold{fold}-b/best.safetensors"
            save_weights(build(CLASSIFIER), run / weights, {})
            card = {
                "series": name,
                "control": "none",
                "provenance": provenance,
                "fold": fold,
                "weights": weights,
                "best_epoch": 1,
                "select_on": "inner",
                "n_train": 1,
                "trained_on": ["99991"],
                "model": asdict(CLASSIFIER),
            }
            write_json(card, run / "cls" / "models" / f"{name}_fold{fold}.json")
    write_json({"prevalence": prevalence}, run / "cls" / "summary.json")
    table = {
        "patient_id": ["99991", "99992"],
        "label": [0, 1],
        "fold": [0, 0],
        "mean": [0.3, 0.6],
        **{name: [0.3, 0.6] for name in series},
    }
    write_table(pd.DataFrame(table), run / "cls" / "oof.parquet")
    return run
