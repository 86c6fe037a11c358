"""How much of what the networks could do does a training do? Images per second of both full models.

    python -m benchmarks.training --batches 4 --batch-size 4  # on a CPU: minutes
    python -m benchmarks.training --batches 60 --batch-size 128 --workers 14  # on a GPU

(a) the step alone, on tensors that lie on the device; (b) the loader alone; (c) `fit` from files;
(t) the same training the way the team's scripts do it, written here for comparison: tensors of the
usual layout, a .npy file a slice, every chunk decoded on its own, eight workers, the GPU's cache
emptied after each batch. Precision is the same in all. The variants take turns, and the median over
the turns counts.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import albumentations as A
import cv2
import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from t4e_utils.competitions.brain_tumor.classifier import ClassifierSettings, dataset_of
from t4e_utils.competitions.brain_tumor.rules import SeriesRule
from t4e_utils.competitions.brain_tumor.segmenter import (
    AUGMENTATION,
    SegmenterSettings,
    picture_input,
)
from t4e_utils.learning.datasets import PictureDataset
from t4e_utils.learning.devices import pick_device, resolve_precision, seed_everything
from t4e_utils.learning.fit import fit
from t4e_utils.learning.loaders import default_workers, make_loader, set_epoch
from t4e_utils.learning.losses import make_loss
from t4e_utils.learning.networks import Recipe, build
from t4e_utils.learning.plan import TrainConfig
from t4e_utils.sampling.chunks import chunk_bounds
from t4e_utils.sampling.pictures import stack_channels, write_picture
from t4e_utils.tables.run import versions

SEGMENTER, CLASSIFIER = SegmenterSettings(), ClassifierSettings()
RECIPES = [own.recipe((0.5, 99.5), "auto") for own in (SEGMENTER, CLASSIFIER)]
SLICE_SIDES = (240, 512)  # pixels of a BraTS slice and of a usual DICOM slice
SLICES_A_SERIES = 70  # kept ones: eight chunks, most slices in seven of them
TEAM_WORKERS = 8


@dataclass(frozen=True)
class Stage:
    """One of the two trainings, in this project's form and in the team's."""

    name: str
    recipe: Recipe
    ours: Callable[[], Dataset]  # a new one has nothing in its cache
    team: Dataset
    loss: nn.Module
    images_an_item: int
    batch_size: int
    workers: int


class TimedLoss(nn.Module):
    """A loss that remembers when it was called, after the device has done its work so far."""

    def __init__(self, loss: nn.Module, *, waits_at: tuple[int, int]):
        super().__init__()
        self.loss, self.waits_at, self.moments = loss, waits_at, []

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss."""
        if len(self.moments) in self.waits_at:
            wait()
        self.moments.append(time.perf_counter())
        return self.loss(logits, targets)


class TeamSlices(Dataset):
    """Slices as float tensors from .npy files, augmented and normalised in the worker."""

    def __init__(self, paths: list[Path], size: int):
        self.paths, self.size = paths, size
        self.draw, self.normalise = AUGMENTATION.compose(), A.Normalize()

    def read(self, path: Path) -> np.ndarray:
        """Return a slice, resized."""
        return cv2.resize(np.load(path), (self.size, self.size))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        drawn = self.draw(image=self.read(self.paths[index]))["image"]
        image = self.normalise(image=np.repeat(drawn[..., :1], 3, axis=-1))["image"]
        masks = (drawn[..., 1:] > 127).astype(np.float32)
        return torch.from_numpy(image.transpose(2, 0, 1).copy()), torch.from_numpy(
            masks.transpose(2, 0, 1).copy()
        )


class TeamChunks(TeamSlices):
    """Chunks, each of whose slices is read again whatever other chunk has read it."""

    def __init__(self, chunks: list[tuple[list[Path], float]], size: int, length: int):
        super().__init__([], size)
        self.chunks, self.length = chunks, length

    def __len__(self) -> int:
        return len(self.chunks)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        paths, label = self.chunks[index]
        drawn = self.draw(images=np.stack([self.read(path) for path in paths]))["images"]
        images = np.zeros((self.length, 3, self.size, self.size), np.float32)
        images[: len(paths)] = np.stack(
            [self.normalise(image=image)["image"] for image in drawn]
        ).transpose(0, 3, 1, 2)
        return torch.from_numpy(images), torch.tensor(label, dtype=torch.float32)


def wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def write_slices(folder: Path, n: int, side: int) -> tuple[list[Path], list[Path]]:
    """Heads of smooth noise with a tumour, as PNG files and as .npy files."""
    generator, (rows, columns) = (
        np.random.default_rng(0),
        np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j],
    )
    pictures, arrays = (
        [folder / f"{k:05d}.png" for k in range(n)],
        [folder / f"{k:05d}.npy" for k in range(n)],
    )
    for picture, array in zip(pictures, arrays, strict=True):
        noise = cv2.resize(
            generator.integers(40, 200, (side // 4, side // 4), dtype=np.uint8), (side, side)
        )
        image = noise * (rows**2 + columns**2 < 0.6)
        y, x = generator.uniform(-0.3, 0.3, 2)
        distance = np.hypot(rows - y, columns - x)
        channels = stack_channels(image, np.stack([distance < 0.3, distance < 0.15]))
        write_picture(picture, channels)
        np.save(array, channels)
    return pictures, arrays


def stage_1(folder: Path, n_batches: int, batch_size: int, workers: int) -> Stage:
    folder.mkdir()
    pictures, arrays = write_slices(folder, n_batches * batch_size, SLICE_SIDES[0])
    table = pd.DataFrame({"path": [path.name for path in pictures]})
    recipe = RECIPES[0]
    source = picture_input(recipe, folder, augmentation=AUGMENTATION)
    return Stage(
        "UNet++ DenseNet-121",
        recipe,
        partial(PictureDataset, table, source),
        TeamSlices(arrays, recipe.size),
        make_loss(SEGMENTER.loss),
        1,
        batch_size,
        workers,
    )


def stage_2(folder: Path, n_batches: int, batch_size: int, workers: int) -> Stage:
    folder.mkdir()
    recipe, length = RECIPES[1], CLASSIFIER.sequence_length
    bounds = chunk_bounds(SLICES_A_SERIES, length=length, stride=SeriesRule().chunk_stride)
    n_series = -(-n_batches * batch_size // len(bounds))
    pictures, arrays = write_slices(folder, n_series * SLICES_A_SERIES, SLICE_SIDES[1])
    places = [
        (series, position) for series in range(n_series) for position in range(SLICES_A_SERIES)
    ]
    slices = pd.DataFrame(
        [
            (str(series), "FLAIR", position, path.name)
            for (series, position), path in zip(places, pictures, strict=True)
        ],
        columns=["patient_id", "series", "position", "path"],
    )
    rows = [
        (str(series), "FLAIR", *bound, series % 2) for series in range(n_series) for bound in bounds
    ][: n_batches * batch_size]
    chunks = pd.DataFrame(rows, columns=["patient_id", "series", "start", "stop", "label"])
    per_chunk = [
        (arrays[int(row.patient_id) * SLICES_A_SERIES :][row.start : row.stop], float(row.label))
        for row in chunks.itertuples()
    ]
    return Stage(
        "ECA-NFNet-L0 BiLSTM",
        recipe,
        partial(dataset_of, chunks, slices, CLASSIFIER, recipe, folder),
        TeamChunks(per_chunk, recipe.size, length),
        make_loss("bce"),
        length,
        batch_size,
        workers,
    )


def step(
    model: nn.Module,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    loss: nn.Module,
    optimiser,
    scaler,
    precision: str,
) -> None:
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    with torch.autocast(inputs.device.type, dtype=dtype, enabled=dtype is not None):
        logits = model(inputs)
    scaler.scale(loss(logits.float(), targets)).backward()
    scaler.step(optimiser)
    scaler.update()
    optimiser.zero_grad()


def seconds_of_steps(
    stage: Stage, batches: Iterator, *, precision: str, is_team: bool = False
) -> float:
    """Images per second of plain steps over batches of inputs and targets.

    The first is not counted. What the team's loader gives is normalised already.
    """
    device, model = pick_device(), build(stage.recipe)
    layout = torch.contiguous_format if is_team else torch.channels_last
    model.normalise = nn.Identity() if is_team else model.normalise
    model = model.to(device, memory_format=layout).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    n = -1
    for inputs, targets in batches:
        if n == 0:
            wait()
            start = time.perf_counter()
        step(
            model,
            inputs.to(device, non_blocking=True),
            targets.to(device, non_blocking=True),
            stage.loss,
            optimiser,
            scaler,
            precision,
        )
        if is_team and device.type == "cuda":
            torch.cuda.empty_cache()
        n += 1
    wait()
    return n * stage.batch_size * stage.images_an_item / (time.perf_counter() - start)


def model_only(stage: Stage, n_batches: int, precision: str) -> float:
    batch = next(iter(make_loader(stage.ours(), batch_size=stage.batch_size, num_workers=0)))
    pair = batch["inputs"].to(pick_device()), batch["targets"].to(pick_device()).float()
    return seconds_of_steps(stage, iter([pair] * n_batches), precision=precision)


def loader_only(stage: Stage, n_batches: int, precision: str) -> float:
    loader = make_loader(
        stage.ours(), batch_size=stage.batch_size, shuffle=True, num_workers=stage.workers
    )
    set_epoch(loader, 1)
    batches = iter(loader)
    next(batches)
    start = time.perf_counter()
    n = sum(1 for _ in batches)
    return n * stage.batch_size * stage.images_an_item / (time.perf_counter() - start)


def training(stage: Stage, n_batches: int, precision: str) -> float:
    loss = TimedLoss(stage.loss, waits_at=(1, n_batches - 1))
    config = TrainConfig(
        epochs=1,
        batch_size=stage.batch_size,
        schedule="constant",
        precision=precision,
        channels_last=True,
        num_workers=stage.workers,
    )
    with tempfile.TemporaryDirectory() as folder:
        fit(build(stage.recipe), stage.ours(), None, loss=loss, config=config, folder=folder)
    return (
        (n_batches - 2)
        * stage.batch_size
        * stage.images_an_item
        / (loss.moments[n_batches - 1] - loss.moments[1])
    )


def team(stage: Stage, n_batches: int, precision: str) -> float:
    loader = DataLoader(
        stage.team,
        stage.batch_size,
        shuffle=True,
        num_workers=min(TEAM_WORKERS, os.cpu_count() or 1),
        pin_memory=torch.cuda.is_available(),
    )
    return seconds_of_steps(stage, iter(loader), precision=precision, is_team=True)


VARIANTS = {
    "a model only": model_only,
    "b loader only": loader_only,
    "c training": training,
    "t team's way": team,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batches", type=int, default=6, help="of a turn")
    parser.add_argument("--batch-size", type=int, default=4, help="slices of stage 1")
    parser.add_argument("--chunks", type=int, default=1, help="of a batch of stage 2")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--workers", type=int, default=default_workers())
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--stages", nargs="+", type=int, default=[1, 2])
    options = parser.parse_args()
    device, precision = pick_device(), resolve_precision(options.precision, pick_device())
    seed_everything(0)
    rows = []
    with tempfile.TemporaryDirectory() as root:
        makers = {1: (stage_1, options.batch_size), 2: (stage_2, options.chunks)}
        for number in options.stages:
            make, batch_size = makers[number]
            stage = make(Path(root) / str(number), options.batches, batch_size, options.workers)
            rates = [
                {name: run(stage, options.batches, precision) for name, run in VARIANTS.items()}
                for _ in range(options.turns)
            ]
            median = pd.DataFrame(rates).median()
            ratios = pd.DataFrame(
                [
                    {
                        "c/a": r["c training"] / r["a model only"],
                        "c/t": r["c training"] / r["t team's way"],
                    }
                    for r in rates
                ]
            )
            rows.append(
                {
                    "model": stage.name,
                    **median.round(2),
                    **ratios.median().round(3),
                    "c/a of each turn": ratios["c/a"].round(3).tolist(),
                }
            )
    name = (
        torch.cuda.get_device_name()
        if device.type == "cuda"
        else platform.processor() or platform.machine()
    )
    print(pd.DataFrame(rows).to_string(index=False))
    print(
        f"\nimages a second, median of {options.turns} turns of {options.batches} batches "
        f"({options.batch_size} slices, {options.chunks} chunks of"
    )
    print(
        f"{CLASSIFIER.sequence_length} slices), 224 pixels, {precision}, {options.workers} "
        f"workers, {torch.get_num_threads()} threads; {name}, {os.cpu_count()} cores"
    )
    print(", ".join(f"{name} {version}" for name, version in versions().items()))


if __name__ == "__main__":
    main()
