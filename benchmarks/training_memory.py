"""Does the memory of a training grow with the number of epochs or of slices?

    python -m benchmarks.training_memory

Each case trains a small segmenter in a process of its own, on slices from files, through a cache of
16 MB; its peak resident memory is printed. The second case has ten times the epochs of the first,
the third ten times the slices.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pandas as pd

from benchmarks.training import write_slices
from t4e_utils.competitions.brain_tumor.segmenter import AUGMENTATION
from t4e_utils.learning.datasets import PictureDataset, PictureInput
from t4e_utils.learning.fit import fit
from t4e_utils.learning.losses import make_loss
from t4e_utils.learning.networks import Recipe, build
from t4e_utils.learning.plan import TrainConfig
from t4e_utils.learning.scores import RegionDice
from t4e_utils.tables.run import versions

CASES = {"first": (300, 2), "ten times the epochs": (300, 20), "ten times the slices": (3000, 2)}
SIDE, CACHE_MB, N_VALIDATION = 48, 16, 100
OPTIONS = {"decoder_channels": [16, 16, 8, 8, 8]}
RECIPE = Recipe("unet++", "tu-test_efficientnet", n_outputs=2, options=OPTIONS, size=64)


def peak_megabytes(n_slices: int, epochs: int) -> float:
    """Train, and return the peak resident memory of this process."""
    with tempfile.TemporaryDirectory() as folder:
        pictures, _ = write_slices(Path(folder), n_slices + N_VALIDATION, SIDE)
        table = pd.DataFrame({"path": [path.name for path in pictures]})
        source = PictureInput(Path(folder), RECIPE.square, cache_mb=CACHE_MB)
        fit(
            build(RECIPE),
            PictureDataset(table[:n_slices], replace(source, augmentation=AUGMENTATION)),
            PictureDataset(table[n_slices:], source),
            loss=make_loss("dice"),
            score=RegionDice(("WT", "ET")),
            config=TrainConfig(epochs=epochs, batch_size=16, schedule="constant", num_workers=0),
            folder=Path(folder) / "run",
        )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    argparse.ArgumentParser(description=__doc__.split("\n")[0]).parse_args()
    rows = []
    for name, (n_slices, epochs) in CASES.items():
        with get_context("spawn").Pool(1) as pool:
            rows.append(
                {
                    "case": name,
                    "slices": n_slices,
                    "epochs": epochs,
                    "peak MB": pool.apply(peak_megabytes, (n_slices, epochs)),
                }
            )
    table = pd.DataFrame(rows)
    print(
        table.assign(ratio=table["peak MB"] / table["peak MB"].iloc[0])
        .round(2)
        .to_string(index=False)
    )
    print(", ".join(f"{name} {version}" for name, version in versions().items()))


if __name__ == "__main__":
    main()
