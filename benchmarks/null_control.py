"""Does the pipeline find signal where there is none?

Out-of-fold AUC over many data sets whose labels are drawn at random.

    python -m benchmarks.null_control --seeds 20

Each seed draws new phantom patients with `label_signal = 0`, takes them through masks, filter,
sequences and classifiers of each fold (the checkpoint chosen by an inner split), and scores the
mean over contrasts out of fold. The mean AUC must lie within three standard errors of 0.5. One
small segmenter, trained on other phantoms, serves all seeds: it sees no labels. `--signal 1` is the
positive control.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from t4e_utils.competitions.brain_tumor import data as brain_tumor
from t4e_utils.competitions.brain_tumor.classifier import (
    ClassifierSettings,
    predict_held_out,
    train_classifier,
)
from t4e_utils.competitions.brain_tumor.data import DataFolders
from t4e_utils.competitions.brain_tumor.phantoms import PhantomConfig, write_phantoms
from t4e_utils.competitions.brain_tumor.rules import SeriesRule, SliceRule
from t4e_utils.competitions.brain_tumor.segmenter import SegmenterSettings, train_segmenter
from t4e_utils.competitions.brain_tumor.sequences import Preparer, write_sequences
from t4e_utils.learning.networks import load_network
from t4e_utils.learning.plan import TrainConfig
from t4e_utils.learning.train_fold import FoldJob
from t4e_utils.prediction.out_of_fold import auc_by_series, out_of_fold_table
from t4e_utils.prediction.sequences import SequenceReading
from t4e_utils.progress import parallel
from t4e_utils.sampling.chunks import chunk_table
from t4e_utils.sampling.cutting import cut_patients
from t4e_utils.tables.folds import make_folds, split_fold
from t4e_utils.tables.run import versions

SIZE = 48  # voxels a side of the phantoms
SEGMENTER = SegmenterSettings("tu-test_efficientnet", (32, 24, 16, 12, 8), 64, augment=False)
CLASSIFIER = ClassifierSettings("test_byobnet", 16, 35, 48)
CUT, RULE = SliceRule(), SeriesRule()
PROVENANCE = {"percentiles": CUT.percentiles}


def make_segmenter(root):
    write_phantoms(
        root / "phantoms",
        PhantomConfig(seed=10_000, size=SIZE, n_brats=12, n_overlap=0, n_train=2, n_test=1),
        n_jobs=2,
    )
    folders = DataFolders(
        root / "phantoms" / "rsna", root / "phantoms" / "brats21", is_phantom=True
    )
    chosen = brain_tumor.segmentation_patients(folders)
    slices, _ = cut_patients(chosen.files, root / "slices", root=root, rule=CUT, n_jobs=2)
    patients = pd.DataFrame(
        {"patient_id": chosen.ids, "fold": make_folds(chosen.ids, n_folds=6, seed=0)}
    )
    split = split_fold(patients, 0, select_share=0.2, seed=0)
    config = TrainConfig(
        epochs=5,
        learning_rate=5e-3,
        batch_size=16,
        schedule="onecycle",
        channels_last=True,
        num_workers=0,
    )
    job = FoldJob(split, root / "models" / "fold0.json", root, PROVENANCE)
    card = train_segmenter(slices[slices["is_kept"]], job, SEGMENTER, config)
    return root / card["weights"], card["best_score"]


def run_seed(seed, root, segmenter_path, *, n_patients, signal, epochs, select_on):
    root = root / f"seed{seed}"
    write_phantoms(
        root / "phantoms",
        PhantomConfig(
            seed=seed,
            size=SIZE,
            n_brats=0,
            n_overlap=0,
            n_train=n_patients,
            n_test=0,
            label_signal=signal,
        ),
        n_jobs=1,
    )
    patients, series, _ = brain_tumor.training_patients(
        DataFolders(root / "phantoms" / "rsna", root / "phantoms" / "brats21", is_phantom=True)
    )
    preparer = Preparer(load_network(segmenter_path), RULE)
    slices, _ = write_sequences(series, preparer, root / "slices", root=root, provenance={})
    slices = slices[slices["is_kept"]]
    chunks = chunk_table(slices, length=RULE.sequence_length, stride=RULE.chunk_stride)
    patients["fold"] = make_folds(
        patients["patient_id"], n_folds=2, seed=seed, labels=patients["label"]
    )
    labels = patients.set_index("patient_id")["label"].to_dict()
    config = TrainConfig(
        epochs=epochs,
        learning_rate=2e-3,
        batch_size=4,
        channels_last=True,
        schedule="onecycle",
        num_workers=0,
        seed=seed,
    )
    predictions = []
    for fold in (0, 1):
        split = split_fold(patients, fold, select_share=0.25, seed=seed, select_on=select_on)
        for name in brain_tumor.CONTRASTS:
            own, own_chunks = slices[slices["series"] == name], chunks[chunks["series"] == name]
            job = FoldJob(split, root / "models" / f"{name}_fold{fold}.json", root, PROVENANCE)
            card = train_classifier(own_chunks, own, labels, job, CLASSIFIER, config)
            classifier, reading = (
                load_network(root / card["weights"]),
                SequenceReading(RULE.chunk_stride),
            )
            found = predict_held_out(classifier, own, split.held_out, reading, root=root)
            predictions.append(found.assign(series=name, fold=fold))
    table = out_of_fold_table(pd.concat(predictions), patients, series=brain_tumor.CONTRASTS)
    auc = auc_by_series(table, series=brain_tumor.CONTRASTS)
    return {"seed": seed, "n": len(table), **{name: own["auc"] for name, own in auc.items()}}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--patients", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--signal", type=float, default=0.0)
    parser.add_argument("--select-on", choices=("inner", "outer"), default="inner")
    parser.add_argument("--n-jobs", type=int, default=2)
    given = parser.parse_args()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        weights, score = make_segmenter(root / "segmenter")
        options = {
            "n_patients": given.patients,
            "signal": given.signal,
            "epochs": given.epochs,
            "select_on": given.select_on,
        }
        run = partial(run_seed, root=root, segmenter_path=weights, **options)
        rows = parallel(run, range(given.seeds), n_jobs=given.n_jobs, desc="data sets")
    table = pd.DataFrame(rows)
    mean, error = table["mean"].mean(), table["mean"].std(ddof=1) / np.sqrt(len(table))
    print(table.round(3).to_string(index=False))
    print(f"\nsegmenter: mean Dice of the patients that tune {score:.3f}")
    print(
        f"label_signal {given.signal:g}, select_on {given.select_on}, {given.seeds} data sets "
        f"of {given.patients} patients, {given.epochs} epochs"
    )
    print(
        f"mean out-of-fold AUC {mean:.4f}, standard error {error:.4f}, distance from 0.5: "
        f"{(mean - 0.5) / error:+.2f} standard errors"
    )
    print(
        f"{platform.machine()}, {', '.join(f'{k} {v}' for k, v in versions().items())}; "
        f"{time.perf_counter() - start:.0f} s"
    )


if __name__ == "__main__":
    main()
