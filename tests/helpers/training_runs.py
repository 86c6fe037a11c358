"""Small runs that tests start, break off and start again.

As a script, `python training_runs.py STAGE ROOT FOLDER` is one of them.

Everything is drawn from fixed seeds, so that two processes that call the same function train the
same network on the same data.
"""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.data import Dataset, Subset

from t4e_utils.learning.batches import prepare_chunks, prepare_slices
from t4e_utils.learning.datasets import ChunkDataset, SliceDataset
from t4e_utils.learning.fit import _Run, fit
from t4e_utils.learning.losses import segmentation_loss
from t4e_utils.learning.networks import build_classifier, build_segmenter
from t4e_utils.learning.plan import TrainConfig
from t4e_utils.learning.scores import count_overlap, segmentation_score
from t4e_utils.sampling.pictures import write_slice

SIZE = 32
N_SCORED = 7  # no multiple of the batch: padding rows would be counted


class Points(Dataset):
    """Points in the plane that a line separates; the last ones can be made unusable."""

    def __init__(self, n=20, seed=0, n_broken=0):
        self.x = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))
        self.y = (self.x[:, 0] > self.x[:, 1]).float()
        self.x[n - n_broken :] = float("nan")

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return {"x": self.x[index], "y": self.y[index], "index": index}


class TwoLayers(nn.Module):
    """With batch norm and dropout, so that forgotten buffers and random states are seen."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(7)
        self.encoder = nn.Sequential(
            nn.Linear(2, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2)
        )
        self.head = nn.Linear(8, 1)

    def forward(self, points):
        return self.head(self.encoder(points)).squeeze(1)


def prepare_points(batch):
    return batch["x"], batch["y"]


def share_right(logits, targets, indices):
    return {"score": float(((logits > 0) == (targets > 0.5)).mean())}


CONFIG = TrainConfig(
    epochs=6, lr=0.02, batch_size=6, schedule="onecycle", select="score", num_workers=0
)


def train_points(
    folder,
    *,
    model=None,
    train=None,
    valid=None,
    loss=None,
    score=share_right,
    num_processes=1,
    overwrite=False,
    **changes,
):
    """`fit` on points, with the changes to `CONFIG` that are given.

    `valid=False` leaves the validation data out.
    """
    model = model or TwoLayers()
    return fit(
        model,
        train or Points(),
        None if valid is False else valid or Points(15, seed=1),
        loss=loss or nn.BCEWithLogitsLoss(),
        score=score,
        prepare=prepare_points,
        config=replace(CONFIG, **changes),
        folder=folder,
        encoder=getattr(model, "encoder", None),
        num_processes=num_processes,
        overwrite=overwrite,
    )


def write_cases(root, n_patients=4, n_slices=5):
    """Slices of patients whose tumour is smooth (label 0) or speckled (label 1), and the tables
    of slices and chunks.
    """
    rows, generator = [], np.random.default_rng(0)
    for number in range(n_patients):
        for position in range(n_slices):
            masks = np.zeros((2, SIZE, SIZE), bool)
            row, column = generator.integers(4, 14, 2)
            masks[0, row : row + 12, column : column + 14] = True
            masks[1, row + 4 : row + 8, column + 4 : column + 8] = True
            image = generator.integers(40, 60, (SIZE, SIZE))
            image[masks[0]] = 150 + (number % 2) * generator.integers(-70, 70, masks[0].sum())
            image[masks[1]] = 230
            path = f"{number}_{position}.png"
            write_slice(Path(root) / path, image.astype(np.uint8), masks)
            rows.append(
                {"patient_id": str(number), "series": "FLAIR", "position": position, "path": path}
            )
    chunks = [
        (str(k), "FLAIR", start, start + 3, k % 2) for k in range(n_patients) for start in (0, 2)
    ]
    return pd.DataFrame(rows), pd.DataFrame(
        chunks, columns=["patient_id", "series", "start", "stop", "label"]
    )


def train_stage(stage, root, folder, *, augment=True, valid=True, num_processes=1, **changes):
    """A tiny segmenter or classifier on the cases of `write_cases`, which must be in `root`."""
    model, data, options = stage_parts(stage, root, augment=augment)
    config = replace(
        TrainConfig(epochs=8, lr=4e-3, batch_size=4, schedule="cosine", num_workers=0), **changes
    )
    return model, fit(
        model,
        data[0],
        data[1] if valid else None,
        config=config,
        folder=folder,
        num_processes=num_processes,
        **options,
    )


def stage_parts(stage, root, *, augment=True):
    """Network, both data sets, and the options of `fit` that belong to them."""
    slices, chunks = (
        pd.read_pickle(Path(root) / "slices.pkl"),
        pd.read_pickle(Path(root) / "chunks.pkl"),
    )
    torch.manual_seed(0)
    options = {"image_size": SIZE, "seed": 3}
    if stage == "segmentation":
        model = build_segmenter("tu-mobilenetv3_small_050", decoder_channels=(16, 16, 8, 8, 8))
        data = [SliceDataset(slices, root, augment=a, **options) for a in (augment, False)]
        loss, prepare = segmentation_loss("dice"), prepare_slices
    else:
        model = build_classifier("test_nfnet", lstm_hidden=4, sequence_length=3)
        data = [
            ChunkDataset(chunks, slices, root, length=3, augment=a, **options)
            for a in (augment, False)
        ]
        loss, prepare = nn.BCEWithLogitsLoss(), prepare_chunks
    return model, data, {"loss": loss, "prepare": prepare}


def write_validation_figures(root, path):
    """What one pass over the validation slices gives, with a score of all of them, as JSON.

    Run by each process of a group.
    """
    model, (train, valid), options = stage_parts("segmentation", root)
    valid = Subset(valid, range(N_SCORED))
    config = TrainConfig(epochs=1, batch_size=4, num_workers=0)
    parts = {**options, "score": segmentation_score, "summarise": count_overlap}
    run = _Run(model, train, valid, encoder=None, config=config, folder=Path(root), **parts)
    run.enter_phase()
    figures = run.evaluate()
    if run.is_main:
        Path(path).write_text(json.dumps(figures), encoding="utf-8")
    run.end()


if __name__ == "__main__":
    torch.set_num_threads(1)
    time.sleep(0.01)
    train_stage(*sys.argv[1:])
