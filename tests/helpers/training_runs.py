"""Small runs that tests start, break off and start again.

As a script, `python training_runs.py STAGE ROOT FOLDER` is one of them.

Everything is drawn from fixed seeds, so that two processes that call the same function train the
same network on the same data.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.data import Dataset, Subset

from t4e_utils.learning.augmentation import Augmentation
from t4e_utils.learning.checkpoints import random_states
from t4e_utils.learning.datasets import PictureDataset, PictureInput, SequenceDataset
from t4e_utils.learning.fit import fit
from t4e_utils.learning.losses import make_loss
from t4e_utils.learning.networks import Recipe, build
from t4e_utils.learning.plan import Progress, TrainConfig
from t4e_utils.learning.scores import RegionDice
from t4e_utils.learning.training_run import TrainingRun
from t4e_utils.sampling.pictures import stack_channels, write_picture
from t4e_utils.sampling.squares import Square

SIZE = 32
N_SCORED = 7  # no multiple of the batch: padding rows would be counted
MASKS = ("whole", "core")
AUGMENTATION = Augmentation(0.5, 0.5, 0.5, shift=0.0625, scale=0.1, rotate_degrees=45)
SEGMENTER = Recipe(
    "unet++",
    "tu-mobilenetv3_small_050",
    n_outputs=2,
    options={"decoder_channels": [16, 16, 8, 8, 8]},
    size=SIZE,
)
CLASSIFIER = Recipe(
    "sequence", "test_nfnet", options={"lstm_hidden": 4, "sequence_length": 3}, size=SIZE
)


class Points(Dataset):
    """Points in the plane that a line separates; the last ones can be made unusable."""

    def __init__(self, n=20, seed=0, n_broken=0):
        self.x = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))
        self.y = (self.x[:, 0] > self.x[:, 1]).float()
        self.x[n - n_broken :] = float("nan")

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return {"inputs": self.x[index], "targets": self.y[index], "index": index}


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


class Slope(nn.Module):
    """No bias: on points at the origin its loss stays as it is."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(2, 2, bias=False)
        self.head = nn.Linear(2, 1, bias=False)

    def forward(self, points):
        return self.head(self.encoder(points)).squeeze(1)


def at_the_origin():
    points = Points(5)
    points.x.zero_()
    return points


@dataclass(frozen=True)
class ScoreOf:
    """A score that keeps everything and calls a function."""

    function: Callable

    def keep(self, logits, targets):
        return logits, targets

    def __call__(self, logits, targets, indices):
        return self.function(logits, targets, indices)


def share_right(logits, targets, indices):
    return {"score": float(((logits > 0) == (targets > 0.5)).mean())}


class Interrupted(Exception):
    """Stands for whatever ends a run."""


class LossThatBreaks(nn.BCEWithLogitsLoss):
    """Ends the run at its n-th call."""

    def __init__(self, n):
        super().__init__()
        self.n_left = n

    def forward(self, logits, targets):
        self.n_left -= 1
        if self.n_left < 0:
            raise Interrupted
        return super().forward(logits, targets)


def damaged_at_random(content, generator):
    """Bytes cut, changed, exchanged or repeated."""
    place, end = sorted(generator.integers(0, len(content), 2))
    what = generator.integers(4)
    if what == 0:
        return content[:place]
    if what == 1:
        changed = bytearray(content)
        for at in generator.integers(0, len(content), 1 + place % 20):
            changed[at] ^= 1 << generator.integers(8)
        return bytes(changed)
    if what == 2:
        return content[:place] + generator.bytes(end - place) + content[end:]
    return content[:end] + content[place:]


def state_of(epoch, **parts):
    """The state of a run after so many epochs, with nothing in it but the parts that are given."""
    history = [{"epoch": k + 1, "valid_loss": 1.0} for k in range(epoch)]
    progress = Progress(epoch=epoch, best_epoch=1, history=history)
    empty = {name: {} for name in ("about", "model", "optimiser")}
    rest = {"phase": "all", "schedule": None, "scaler": None, "random": random_states()}
    return {"progress": asdict(progress), **empty, **rest, **parts}


def same_weights(first, second):
    first, second = first.state_dict(), second.state_dict()
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


CONFIG = TrainConfig(
    epochs=6, learning_rate=0.02, batch_size=6, schedule="onecycle", select="score", num_workers=0
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
        Points() if train is None else train,
        None if valid is False else valid or Points(15, seed=1),
        loss=loss or nn.BCEWithLogitsLoss(),
        score=score and ScoreOf(score),
        config=replace(CONFIG, **changes),
        folder=folder,
        encoder=getattr(model, "encoder", None),
        num_processes=num_processes,
        overwrite=overwrite,
    )


def write_cases(root, n_patients=4, n_slices=5):
    """Tables of slices and chunks; the lesion is smooth (label 0) or speckled (label 1)."""
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
            write_picture(Path(root) / path, stack_channels(image.astype(np.uint8), masks))
            rows.append(
                {"patient_id": str(number), "series": "first", "position": position, "path": path}
            )
    chunks = [
        (str(k), "first", start, start + 3, k % 2) for k in range(n_patients) for start in (0, 2)
    ]
    return pd.DataFrame(rows), pd.DataFrame(
        chunks, columns=["patient_id", "series", "start", "stop", "label"]
    )


def train_stage(stage, root, folder, *, augment=True, valid=True, num_processes=1, **changes):
    """A tiny segmenter or classifier on the cases of `write_cases`, which must be in `root`."""
    model, data, loss = stage_parts(stage, root, augment=augment)
    config = replace(
        TrainConfig(epochs=8, learning_rate=4e-3, batch_size=4, schedule="cosine", num_workers=0),
        **changes,
    )
    return model, fit(
        model,
        data[0],
        data[1] if valid else None,
        loss=loss,
        config=config,
        folder=folder,
        num_processes=num_processes,
    )


def stage_parts(stage, root, *, augment=True):
    """Network, both data sets and the loss."""
    slices, chunks = (pd.read_pickle(Path(root) / f"{name}.pkl") for name in ("slices", "chunks"))
    torch.manual_seed(0)
    plain = PictureInput(Path(root), Square(SIZE), seed=3)
    sources = [replace(plain, augmentation=AUGMENTATION) if augment else plain, plain]
    if stage == "segmentation":
        data = [PictureDataset(slices, source) for source in sources]
        return build(SEGMENTER), data, make_loss("dice")
    data = [SequenceDataset(chunks, slices, source, length=3) for source in sources]
    return build(CLASSIFIER), data, make_loss("bce")


def write_validation_scores(root, path):
    """What one pass over the validation slices gives, with a score of all of them, as JSON.

    Run by each process of a group.
    """
    model, (train, valid), loss = stage_parts("segmentation", root)
    valid = Subset(valid, range(N_SCORED))
    config = TrainConfig(epochs=1, batch_size=4, num_workers=0)
    run = TrainingRun(model, train, valid, loss, RegionDice(MASKS), None, config, Path(root))
    run.enter_phase()
    scores = run.evaluate()
    if run.is_main:
        Path(path).write_text(json.dumps(scores), encoding="utf-8")
    run.end()


if __name__ == "__main__":
    torch.set_num_threads(1)
    time.sleep(0.01)
    train_stage(*sys.argv[1:])
