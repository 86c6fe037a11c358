"""Torch datasets over the tables of slices and chunks, their augmentation, and loaders.

Items are uint8 tensors, channels first: normalising happens later, on the device
(`models.normalise`). A stored slice is one picture of three channels (R image, G whole tumour, B
enhancing tumour), so that one geometric draw moves image and masks alike. Every draw depends on
(seed, epoch, index) alone: not on workers, batches or what was drawn before.
"""

from __future__ import annotations

import mmap
import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

# it would look for updates on the net when imported
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import cv2
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from t4e_utils import T4EError
from t4e_utils.sampling import read_slice, to_square

CHANNELS = ("image+masks", "image", "masks")
MASK_THRESHOLD = 128  # of 255, after resizing and turning have blurred the borders
WORKERS_PAY_FROM = 2000  # items; starting worker processes costs more than it saves on fewer


class DatasetError(T4EError):
    """A table does not describe a data set."""


def augmentation() -> A.Compose:
    """Flips and an affine draw, each with probability 0.5.

    Shift 6.25%, scale 10%, rotation 45 degrees (T4E).

    What comes in from outside is black: mirrored tissue could hold a second tumour.
    """
    affine = A.Affine(
        translate_percent=(-0.0625, 0.0625), scale=(0.9, 1.1), rotate=(-45, 45), p=0.5
    )
    return A.Compose([A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5), affine])


def draw_seed(seed: int, epoch: int, index: int) -> int:
    """Seed of one item's draw, a 32-bit number."""
    return int(np.random.SeedSequence([seed, epoch, index]).generate_state(1)[0])


def seed_draw(transform: A.Compose, seed: int) -> None:
    """Make the next call of `transform` depend on `seed` alone.

    Not `set_random_seed`: that gives each part the same seed, and then a slice is flipped both ways
    and turned, or nothing.
    """
    transform.set_random_state(np.random.default_rng(seed), random.Random(seed))


class SliceCache:
    """Slices read from files, resized to squares, and kept in memory as far as a bound allows.

    The memory is shared with worker processes that are forked later: what one has decoded, all
    have. Only the first slices that fit are kept, the others are read each time; memory never grows
    beyond the bound. A copy sent to another process by pickling starts empty.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        image_size: int,
        *,
        stretch: bool = False,
        cache_mb: float = 1024,
    ):
        self.paths, self.image_size, self.stretch, self.cache_mb = (
            list(paths),
            image_size,
            stretch,
            cache_mb,
        )
        self._allocate()

    def _allocate(self) -> None:
        shape = (self.image_size, self.image_size, 3)
        n_kept = min(len(self.paths), int(self.cache_mb * 1e6 / np.prod(shape)))
        memory = mmap.mmap(-1, max(n_kept * (1 + int(np.prod(shape))), 1))
        self._is_filled = np.frombuffer(memory, np.uint8, n_kept)
        self._slices = np.frombuffer(
            memory, np.uint8, n_kept * int(np.prod(shape)), offset=n_kept
        ).reshape(-1, *shape)

    def __getstate__(self) -> dict:
        return {key: value for key, value in self.__dict__.items() if not key.startswith("_")}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._allocate()

    def __getitem__(self, row: int) -> np.ndarray:
        """Slice of a row, (S, S, 3) uint8; not to be written to."""
        if row < len(self._slices):
            if not self._is_filled[row]:
                self._slices[row] = self._read(row)
                self._is_filled[row] = 1
            return self._slices[row]
        return self._read(row)

    def _read(self, row: int) -> np.ndarray:
        return to_square(read_slice(self.paths[row])[None], self.image_size, stretch=self.stretch)[
            0
        ]


class _Drawn(Dataset):
    """What both data sets share.

    Cached slices, an epoch that reaches running workers, one augmentation.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        image_size: int,
        stretch: bool,
        augment: bool,
        seed: int,
        cache_mb: float,
    ):
        self.cache = SliceCache(paths, image_size, stretch=stretch, cache_mb=cache_mb)
        self.seed = seed
        self.augmentation = augmentation() if augment else None
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._epoch.share_memory_()  # a copy in another process has workers of its own

    @property
    def epoch(self) -> int:
        """Epoch that the draws are for."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch to draw for, also in workers that run already.

        Call it before iterating.
        """
        self._epoch.fill_(epoch)

    def _augment(self, images: np.ndarray, index: int) -> np.ndarray:
        """One draw for all of `images`, (N, S, S, 3)."""
        if self.augmentation is None:
            return images
        seed_draw(self.augmentation, draw_seed(self.seed, self.epoch, index))
        return self.augmentation(images=images)["images"]


class SliceDataset(_Drawn):
    """Slices with their masks, for the segmenter.

    Items are `{"image": uint8 (1, S, S), "masks": uint8 (2, S, S) of 0 and 1, "index": row of the
    table}`.

    Args:
        table: a row a slice, with the column path.
        root: folder that the paths are relative to.
        image_size: side S in pixels.
        stretch: resize to the square instead of padding first.
        augment: see `augmentation`.
        seed: of the draws.
        cache_mb: bound on the memory for decoded slices, in megabytes.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        root: str | Path,
        *,
        image_size: int,
        stretch: bool = False,
        augment: bool = False,
        seed: int = 0,
        cache_mb: float = 1024,
    ):
        _require(table, ("path",), "slices")
        paths = [Path(root) / path for path in table["path"]]
        super().__init__(
            paths,
            image_size=image_size,
            stretch=stretch,
            augment=augment,
            seed=seed,
            cache_mb=cache_mb,
        )

    def __len__(self) -> int:
        return len(self.cache.paths)

    def __getitem__(self, index: int) -> dict[str, Tensor | int]:
        picture = self._augment(self.cache[index][None], index)[0].transpose(2, 0, 1)
        masks = (picture[1:] >= MASK_THRESHOLD).astype(np.uint8)
        return {
            "image": torch.from_numpy(picture[:1].copy()),
            "masks": torch.from_numpy(masks),
            "index": index,
        }


class ChunkDataset(_Drawn):
    """Chunks of a patient's slices with the patient's label, for the sequence classifier.

    Items are `{"images": uint8 (T, 3, S, S), "label": float32, "index": row of the chunks}`; zero
    images fill the end of a short chunk. One draw moves all slices of a chunk. Chunks overlap: the
    cache decodes a slice once.

    Args:
        chunks: columns patient_id, series, start, stop (positions, half-open) and, unless there are
            no labels, label.
        slices: columns patient_id, series, position, path.
        root: folder that the paths are relative to.
        image_size: side S in pixels.
        length: steps T.
        stretch: resize to the square instead of padding first.
        augment: see `augmentation`.
        seed: of the draws.
        channels: `"image+masks"`; or, as a control, `"image"` (repeated three times) or `"masks"`
            (no image).
        cache_mb: bound on the memory for decoded slices, in megabytes.
    """

    def __init__(
        self,
        chunks: pd.DataFrame,
        slices: pd.DataFrame,
        root: str | Path,
        *,
        image_size: int,
        length: int = 35,
        stretch: bool = False,
        augment: bool = False,
        seed: int = 0,
        channels: str = "image+masks",
        cache_mb: float = 1024,
    ):
        _require(chunks, ("patient_id", "series", "start", "stop"), "chunks")
        _require(slices, ("patient_id", "series", "position", "path"), "slices")
        if channels not in CHANNELS:
            raise DatasetError(f"channels is {channels!r}: choose one of {', '.join(CHANNELS)}.")
        self.length, self.channels = length, channels
        paths, self.rows = _rows_of_chunks(chunks, slices, length)
        labels = chunks["label"] if "label" in chunks else np.full(len(chunks), np.nan)
        self.labels = np.asarray(labels, np.float32)
        super().__init__(
            [Path(root) / path for path in paths],
            image_size=image_size,
            stretch=stretch,
            augment=augment,
            seed=seed,
            cache_mb=cache_mb,
        )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Tensor | int]:
        rows = self.rows[index]
        pictures = self._augment(np.stack([self.cache[row] for row in rows]), index)
        images = np.zeros((self.length, 3, *pictures.shape[1:3]), np.uint8)
        images[: len(rows)] = _choose_channels(pictures, self.channels).transpose(0, 3, 1, 2)
        return {
            "images": torch.from_numpy(images),
            "label": torch.tensor(self.labels[index]),
            "index": index,
        }


def _choose_channels(pictures: np.ndarray, channels: str) -> np.ndarray:
    if channels == "image":
        return pictures[..., :1].repeat(3, axis=-1)
    if channels == "masks":
        return pictures * np.array([0, 1, 1], np.uint8)
    return pictures


def _rows_of_chunks(
    chunks: pd.DataFrame, slices: pd.DataFrame, length: int
) -> tuple[list[str], list[np.ndarray]]:
    """Paths of the slices that the chunks use, patient by patient, and of each chunk the numbers
    of its paths.
    """
    keys = ["patient_id", "series"]
    used = slices.merge(chunks[keys].drop_duplicates(), on=keys).sort_values([*keys, "position"])
    number = {
        key: i for i, key in enumerate(zip(*(used[c] for c in (*keys, "position")), strict=True))
    }
    rows = []
    for patient_id, series, start, stop in zip(
        *(chunks[c] for c in (*keys, "start", "stop")), strict=True
    ):
        places = [(patient_id, series, position) for position in range(start, stop)]
        missing = [place for place in places if place not in number]
        if missing or not 0 < len(places) <= length:
            raise DatasetError(
                f"The chunk {start} to {stop} of {series} of patient {patient_id} does not "
                f"fit: it needs 1 to {length} "
                f"positions and lacks {len(missing)} in the table of slices. Make both tables "
                "again, together."
            )
        rows.append(np.array([number[place] for place in places]))
    return list(used["path"]), rows


def _require(table: pd.DataFrame, columns: Sequence[str], name: str) -> None:
    missing = [column for column in columns if column not in table]
    if missing or not len(table):
        what = f"lacks the columns {', '.join(missing)}" if missing else "has no rows"
        raise DatasetError(
            f"The table of {name} {what}: run the notebook that writes it, or loosen the "
            "filter there."
        )


class EpochSampler(Sampler):
    """Order of a data set: as it is, or a permutation that depends on (seed, epoch) alone."""

    def __init__(self, dataset: Dataset, *, shuffle: bool, seed: int = 0):
        self.dataset, self.shuffle, self.seed, self.epoch = dataset, shuffle, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, of the order and of the data set's draws."""
        self.epoch = epoch
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[int]:
        order = np.arange(len(self.dataset))
        if self.shuffle:
            np.random.default_rng([self.seed, self.epoch]).shuffle(order)
        return iter(order.tolist())


def default_workers() -> int:
    """Worker processes for a loader.

    This process's share of the cores it may use, one left for itself, at most 16.
    """
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return min(max(cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) - 1, 0), 16)


def make_loader(
    dataset: Dataset,
    *,
    batch_size: int,
    shuffle: bool = False,
    num_workers: int | None = None,
    seed: int = 0,
) -> DataLoader:
    """Loader whose order depends on (seed, epoch) alone.

    Call `set_epoch(loader, epoch)` before each epoch.

    Args:
        dataset: anything with a length; items are dictionaries.
        batch_size: items of a batch; the last one may be smaller.
        shuffle: a new order each epoch.
        num_workers: processes that decode and augment; None: none for small data, else
            `default_workers`.
        seed: of the order.
    """
    if num_workers is None:
        num_workers = default_workers() if len(dataset) >= WORKERS_PAY_FROM else 0
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=EpochSampler(dataset, shuffle=shuffle, seed=seed),
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        worker_init_fn=_use_one_thread,
        # of the workers' seeds, which would else be drawn from the network's dropout
        generator=torch.Generator(),
        pin_memory=torch.cuda.is_available(),
    )


def _use_one_thread(worker: int) -> None:
    cv2.setNumThreads(0)  # the workers are the threads


def set_epoch(loader: DataLoader, epoch: int) -> None:
    """Tell a loader, its order and its data set which epoch comes next."""
    if hasattr(loader, "set_epoch"):  # Accelerate's loaders, which pass it on to the sampler
        loader.set_epoch(epoch)
    else:
        loader.sampler.set_epoch(epoch)
