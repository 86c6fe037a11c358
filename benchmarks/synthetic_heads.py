"""Do synthetic heads help a segmenter that has one annotated patient to learn from?

Dice on the patients that it did not see.

    python -m benchmarks.synthetic_heads data/brats21

A segmenter of the demo's size learns from each patient of the folder in turn, with and without
synthetic heads beside them, for equally many steps, and segments the whole volumes of the others in
three planes. Give a folder of two or three patients: each costs two trainings.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from pathlib import Path

import pandas as pd
from joblib import Parallel, delayed

from t4e_utils.competitions.brain_tumor import data as brain_tumor
from t4e_utils.competitions.brain_tumor.rules import SliceRule
from t4e_utils.competitions.brain_tumor.segmenter import (
    SegmenterSettings,
    mix_slices,
    train_segmenter,
)
from t4e_utils.learning.networks import load_network
from t4e_utils.learning.plan import TrainConfig
from t4e_utils.learning.train_fold import FoldJob
from t4e_utils.phantoms.head_randomisation import make_synthetic_patient
from t4e_utils.prediction.evaluation import evaluate_patients, patient_dice
from t4e_utils.prediction.masks import MaskReading
from t4e_utils.sampling.cutting import cut_drawn_patients, cut_patients
from t4e_utils.scans.geometry import PLANES
from t4e_utils.tables.folds import FoldSplit
from t4e_utils.tables.run import versions

SEGMENTER = SegmenterSettings("tu-test_efficientnet", (32, 24, 16, 12, 8), 64, loss="dice+bce")
RULE, READING = SliceRule(), MaskReading()


def learn_from(patient, others, slices, synthetic, root, *, is_helped, config):
    """Train on one patient and score the others.

    Without help the patient's slices stand where synthetic ones would.
    """
    own = slices[slices["patient_id"] == patient]
    n = len(mix_slices(own, synthetic, synthetic_share=SEGMENTER.synthetic_share))
    own = own if is_helped else pd.concat([own] * max(1, round(n / len(own))), ignore_index=True)
    steps = config.epochs * -(-(n if is_helped else len(own)) // config.batch_size)
    split = FoldSplit(0, [patient], [], others["patient_id"].tolist(), "last epoch")
    job = FoldJob(
        split, root / f"{patient}-{is_helped}.json", root, {"percentiles": RULE.percentiles}
    )
    given = synthetic if is_helped else None
    card = train_segmenter(own, job, SEGMENTER, config, synthetic=given)
    scored, _ = evaluate_patients(
        load_network(root / card["weights"]),
        others,
        series=brain_tumor.CONTRASTS,
        regions=brain_tumor.REGIONS,
        planes=PLANES,
        reading=READING,
    )
    return scored[scored["region"] == "WT"].assign(
        learnt_from=patient, synthetic_heads=is_helped, steps=steps
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("brats_dir", type=Path)
    parser.add_argument("--heads", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n-jobs", type=int, default=2)
    given = parser.parse_args()
    start = time.perf_counter()
    files = brain_tumor.brats_files(given.brats_dir)
    patients = files.pivot(index="patient_id", columns="series", values="path").reset_index()
    config = TrainConfig(
        epochs=given.epochs,
        learning_rate=5e-3,
        batch_size=8,
        schedule="onecycle",
        precision="bf16",
        channels_last=True,
        num_workers=0,
        seed=given.seed,
    )
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        slices, _ = cut_patients(files, root / "slices", root=root, rule=RULE, n_jobs=given.n_jobs)
        synthetic = cut_drawn_patients(
            make_synthetic_patient,
            given.heads,
            root / "synthetic",
            root=root,
            rule=RULE.for_synthetic(),
            seed=given.seed,
            n_jobs=given.n_jobs,
        )
        jobs = [
            (patient, is_helped)
            for patient in patients["patient_id"]
            for is_helped in (False, True)
        ]
        tables = Parallel(n_jobs=given.n_jobs)(
            delayed(learn_from)(
                patient,
                patients[patients["patient_id"] != patient],
                slices[slices["is_kept"]],
                synthetic,
                root,
                is_helped=is_helped,
                config=config,
            )
            for patient, is_helped in jobs
        )
    table = pd.concat(tables)
    print("Whole-tumour Dice on unseen patients, mean of three planes")
    print(
        table.groupby(["learnt_from", "patient_id", "synthetic_heads", "series"])["dice"]
        .mean()
        .unstack()
        .round(2)
        .to_string()
    )
    print(
        f"\n{given.heads} heads, {len(synthetic)} slices of them; steps of each training: "
        f"{sorted(table['steps'].unique().tolist())}; seed {given.seed}"
    )
    without, with_heads = (
        patient_dice(table[table["synthetic_heads"] == is_helped])["dice"].mean()
        for is_helped in (False, True)
    )
    print(
        f"mean over {table['patient_id'].nunique()} patients, contrasts and planes: "
        f"{without:.2f} without, {with_heads:.2f} with synthetic heads"
    )
    print(
        f"{platform.machine()}, {', '.join(f'{k} {v}' for k, v in versions().items())}; "
        f"{time.perf_counter() - start:.0f} s"
    )


if __name__ == "__main__":
    main()
