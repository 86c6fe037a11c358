"""A finished run with tiny networks of random weights.

What notebook 06 and the Kaggle bundle read, without any training.
"""

from dataclasses import asdict

import pandas as pd
import torch

from t4e_utils.competitions.brain_tumor.sequences import SeriesRule
from t4e_utils.learning.networks import build_classifier, build_segmenter
from t4e_utils.learning.weights import save_weights
from t4e_utils.tables.store import write_json, write_table

RULE = SeriesRule(segmenter_size=32, sequence_length=6, chunk_stride=2)


def write_tiny_run(run, *, series=("FLAIR", "T2w"), folds=(0,), prevalence=0.4):
    torch.manual_seed(0)
    segmenter = build_segmenter("tu-test_resnet", decoder_channels=(16, 12, 8, 8, 8))
    save_weights(segmenter, run / "seg" / "models" / "fold0-a" / "best.safetensors", {})
    provenance = {**asdict(RULE), "segmenter": "seg/models/fold0-a/best.safetensors"}
    for name in series:
        for fold in folds:
            weights = f"cls/models/{name}_fold{fold}-b/best.safetensors"
            save_weights(
                build_classifier("test_nfnet", lstm_hidden=8, sequence_length=RULE.sequence_length),
                run / weights,
                {},
            )
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
                "backbone": "test_nfnet",
                "image_size": 32,
                "is_stretched": False,
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
