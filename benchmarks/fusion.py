"""What do the series of a patient gain when they vote on the masks, and what does it cost?

Dice of predicted masks on phantom series.

    python -m benchmarks.fusion runs/demo
    python -m benchmarks.fusion runs/demo --full

The segmenter of a run draws whole and enhancing tumour on the four series of phantoms that it has
not seen, once each series for itself and once with the weights of notebook 04; every series has a
plane, a matrix and a spacing of its own, and the truth is painted on its grid. The cost is the
seconds of both, turn by turn; `--full` takes it with the full network, random weights and series of
256 pixels a side, and nothing else.
"""

from __future__ import annotations

import argparse
import platform
import time
from pathlib import Path

import numpy as np
import pandas as pd

from t4e_utils.competitions.brain_tumor.data import REGIONS
from t4e_utils.competitions.brain_tumor.rules import SeriesRule
from t4e_utils.competitions.brain_tumor.segmenter import SegmenterSettings
from t4e_utils.competitions.brain_tumor.sequences import Preparer
from t4e_utils.learning.networks import build, load_network
from t4e_utils.metrics.overlap import dice
from t4e_utils.phantoms.head import make_head
from t4e_utils.phantoms.head_painting import paint
from t4e_utils.phantoms.head_scans import draw_phenotype, make_series
from t4e_utils.scans.intensity import window_to_uint8
from t4e_utils.tables.run import versions
from t4e_utils.tables.store import read_json

WEIGHTS = {"WT": {"FLAIR": 3, "T1wCE": 1, "T2w": 1}, "ET": {"T1wCE": 1}}  # as in notebook 04
FIRST_SEED = 50_000  # far from those of the phantom data set


def preparers(segmenter):
    """Return both ways to masks, by what they are called in the tables."""
    rules = {"each for itself": SeriesRule(), "votes": SeriesRule(series_weights=WEIGHTS)}
    return {name: Preparer(segmenter, rule) for name, rule in rules.items()}


def prepare(series, preparer):
    """Return the prepared series of a patient and the seconds, without those of the windows."""
    percentiles = preparer.segmenter.recipe.percentiles
    read = {name: (own, window_to_uint8(own.array, percentiles)) for name, own in series.items()}
    begin = time.perf_counter()
    prepared = preparer.prepare_patient(read)
    return prepared, time.perf_counter() - begin


def score(seed, label, series, preparer):
    """Dice of all regions and series of a phantom on the slices that were kept, and the seconds."""
    head = make_head(seed, draw_phenotype(seed, label, 1.0))
    prepared, seconds = prepare(series, preparer)
    rows = []
    for name, found in prepared.items():
        labels = paint(head, found.volume.affine, found.volume.array.shape, ["FLAIR"])[1][
            found.kept
        ]
        for k, (region, true) in enumerate(
            zip(REGIONS, (labels > 0, labels == 4), strict=True), start=1
        ):
            rows.append(
                {
                    "seed": seed,
                    "series": name,
                    "region": region,
                    "dice": dice(found.pictures[..., k] > 0, true),
                    "fallback": bool(found.fallback),
                }
            )
    return pd.DataFrame(rows), seconds


def time_full(series):
    """Seconds of both with UNet++ on DenseNet-121 at 224, turn by turn."""
    ways = preparers(build(SegmenterSettings().recipe((0.5, 99.5), "fp32")).eval())
    seconds = {name: [] for name in ways}
    for turn in range(3):
        for name, preparer in list(ways.items())[:: 1 if turn % 2 else -1]:
            seconds[name].append(prepare(series, preparer)[1])
    return seconds, sum(len(volume.array) for volume in series.values())


def tell_ratio(seconds):
    ratios = np.array(seconds["votes"]) / seconds["each for itself"]
    print(
        f"seconds of votes / of each for itself: median {np.median(ratios):.2f} (quartiles "
        f"{np.quantile(ratios, 0.25):.2f} to {np.quantile(ratios, 0.75):.2f})"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--patients", type=int, default=40)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--full", action="store_true")
    given = parser.parse_args()
    if given.full:
        seconds, n = time_full(make_series(FIRST_SEED, 0, size=256))
        print(
            {name: [round(each, 1) for each in took] for name, took in seconds.items()},
            f"seconds for four series of {n} slices together",
        )
        return tell_ratio(seconds)
    card = read_json(given.run_dir / "seg" / "models" / "fold0.json", made_by="03_train_seg")
    ways = preparers(load_network(given.run_dir / card["weights"]))
    tables, seconds = [], {name: [] for name in ways}
    for seed in range(FIRST_SEED, FIRST_SEED + given.patients):
        series = make_series(seed, seed % 2, size=given.size)
        for name, preparer in list(ways.items())[:: 1 if seed % 2 else -1]:
            table, took = score(seed, seed % 2, series, preparer)
            tables.append(table.assign(masks=name))
            seconds[name].append(took)
    table = pd.concat(tables)
    print(f"Dice on the kept slices, mean over {given.patients} phantoms")
    print(
        table.pivot_table(index=["region", "masks"], columns="series", values="dice")
        .round(3)
        .to_string()
    )
    by_patient = table.groupby(["region", "masks", "seed"])["dice"].mean().unstack("masks")
    for region, own in by_patient.groupby("region"):
        gain = own["votes"] - own["each for itself"]
        drawn = np.random.default_rng(0).choice(gain, (5000, len(gain))).mean(axis=1)
        low, high = np.quantile(drawn, (0.025, 0.975))
        print(
            f"{region}: gain per phantom {gain.mean():+.3f} (95% interval {low:+.3f} to "
            f"{high:+.3f}), worst {gain.min():+.3f}"
        )
    print(
        "series that needed a fallback:",
        table[table["region"] == "WT"].groupby("masks")["fallback"].sum().to_dict(),
        "of",
        4 * given.patients,
    )
    tell_ratio(seconds)
    print(f"{platform.machine()}, {', '.join(f'{k} {v}' for k, v in versions().items())}")


if __name__ == "__main__":
    main()
