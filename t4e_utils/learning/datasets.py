"""Torch data sets over tables of stored pictures.

Items are `{"inputs", "targets", "index"}`: inputs are uint8 tensors, channels first (the network
normalises them), targets are masks or columns of labels. All channels of a picture are moved by one
geometric draw, so that image and masks stay together. Every draw depends on (seed, epoch, index)
alone: not on workers, batches or what was drawn before.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from t4e_utils.learning import TrainingError
from t4e_utils.learning.augmentation import Augmentation, draw_seed, seed_draw
from t4e_utils.sampling.pictures import MAKER, MASK_THRESHOLD, choose_channels, read_picture
from t4e_utils.sampling.squares import Square, to_square

KEYS = ["patient_id", "series"]


@dataclass(frozen=True)
class PictureInput:
    """How stored pictures become inputs."""

    root: Path  # that the paths are relative to
    square: Square
    n_channels: int = 3  # of a stored picture
    augmentation: Augmentation = field(default_factory=Augmentation)
    seed: int = 0  # of the draws
    cache_mb: float = 1024  # bound on the memory for decoded pictures, in megabytes
    made_by: str = MAKER  # the notebook that wrote them, for messages


class PictureCache:
    """Pictures read from files, resized to squares, and kept in memory as far as a bound allows.

    The memory is shared with worker processes that are forked later: what one has decoded, all
    have. Only the first pictures that fit are kept, the others are read each time; memory never
    grows beyond the bound. A copy sent to another process by pickling starts empty.
    """

    def __init__(self, paths: Sequence[Path], source: PictureInput):
        self.paths, self.source = list(paths), source
        self._allocate()

    def _allocate(self) -> None:
        shape = (self.source.square.size, self.source.square.size, self.source.n_channels)
        size = int(np.prod(shape))
        n_kept = min(len(self.paths), int(self.source.cache_mb * 1e6 / size))
        memory = mmap.mmap(-1, max(n_kept * (1 + size), 1))
        self._is_filled = np.frombuffer(memory, np.uint8, n_kept)
        self._kept = np.frombuffer(memory, np.uint8, n_kept * size, offset=n_kept)
        self._kept = self._kept.reshape(-1, *shape)

    def __getstate__(self) -> dict:
        return {"paths": self.paths, "source": self.source}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._allocate()

    def __getitem__(self, row: int) -> np.ndarray:
        """Picture of a row, (S, S, C) uint8; not to be written to."""
        if row < len(self._kept):
            if not self._is_filled[row]:
                self._kept[row] = self._read(row)
                self._is_filled[row] = 1
            return self._kept[row]
        return self._read(row)

    def _read(self, row: int) -> np.ndarray:
        source = self.source
        picture = read_picture(
            self.paths[row], n_channels=source.n_channels, made_by=source.made_by
        )
        if picture.dtype != np.uint8:
            raise TrainingError(
                f"{self.paths[row]} has {picture.dtype.itemsize * 8} bits, but networks "
                "take 8: window it with intensity.to_uint8 before it is stored."
            )
        return to_square(picture[None], self.source.square)[0].reshape(*self._kept.shape[1:])


class _Drawn(Dataset):
    """What the data sets share: cached pictures, an epoch that reaches running workers, draws."""

    def __init__(self, paths: Sequence[str], source: PictureInput):
        self.source = source
        self.cache = PictureCache([source.root / path for path in paths], source)
        self.is_augmented = source.augmentation != Augmentation()
        self.transform = source.augmentation.compose()
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._epoch.share_memory_()  # a copy in another process has workers of its own

    @property
    def epoch(self) -> int:
        """Epoch that the draws are for."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch to draw for, also in workers that run; call it before iterating."""
        self._epoch.fill_(epoch)

    def _augment(self, images: np.ndarray, index: int) -> np.ndarray:
        """One draw for all of `images`, (N, S, S, C)."""
        if not self.is_augmented:
            return images
        seed_draw(self.transform, draw_seed(self.source.seed, self.epoch, index))
        return self.transform(images=images)["images"]


class PictureDataset(_Drawn):
    """Pictures with their masks, or with labels.

    Items are inputs uint8 (C, S, S), targets (masks uint8 (R, S, S) of 0 and 1, or labels float32
    (n,)), and the row of the table as index.

    Args:
        table: one row per picture, with the column path and those of the labels.
        source: where pictures are and how they become inputs.
        targets: names of label columns; (): the channels after the first are masks, and the input
            is the first.
    """

    def __init__(self, table: pd.DataFrame, source: PictureInput, *, targets: Sequence[str] = ()):
        require(table, ("path", *targets), "pictures")
        super().__init__(list(table["path"]), source)
        self.labels = table[list(targets)].to_numpy(np.float32) if targets else None

    def __len__(self) -> int:
        return len(self.cache.paths)

    def __getitem__(self, index: int) -> dict[str, Tensor | int]:
        picture = self._augment(self.cache[index][None], index)[0].transpose(2, 0, 1)
        if self.labels is None:
            inputs, targets = picture[:1], (picture[1:] >= MASK_THRESHOLD).astype(np.uint8)
        else:
            inputs, targets = picture, self.labels[index]
        inputs, targets = (torch.from_numpy(each.copy()) for each in (inputs, targets))
        return {"inputs": inputs, "targets": targets, "index": index}


class SequenceDataset(_Drawn):
    """Chunks of a patient's pictures with a label.

    Items are inputs uint8 (T, C, S, S), targets float32 and the row of the chunks as index. Zero
    images fill the end of a short chunk. One draw moves all pictures of a chunk. Chunks overlap:
    the cache decodes a picture once.

    Args:
        chunks: patient_id, series, start, stop (positions, half-open) and, unless there are no
            labels, label.
        slices: patient_id, series, position, path.
        source: where pictures are and how they become inputs.
        length: steps T.
        channels: of the stored pictures that are inputs, see `choose_channels`.
    """

    def __init__(
        self,
        chunks: pd.DataFrame,
        slices: pd.DataFrame,
        source: PictureInput,
        *,
        length: int,
        channels: Sequence[int] = (0, 1, 2),
    ):
        require(chunks, (*KEYS, "start", "stop"), "chunks")
        require(slices, (*KEYS, "position", "path"), "slices")
        self.length, self.channels = length, tuple(channels)
        paths, self.rows = _rows_of_chunks(chunks, slices, length)
        labels = chunks["label"] if "label" in chunks else np.full(len(chunks), np.nan)
        self.labels = np.asarray(labels, np.float32)
        super().__init__(paths, source)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Tensor | int]:
        rows = self.rows[index]
        pictures = self._augment(np.stack([self.cache[row] for row in rows]), index)
        images = np.zeros((self.length, len(self.channels), *pictures.shape[1:3]), np.uint8)
        chosen = choose_channels(pictures, self.channels)
        images[: len(rows)] = chosen.transpose(0, 3, 1, 2)
        targets = torch.tensor(self.labels[index])
        return {"inputs": torch.from_numpy(images), "targets": targets, "index": index}


def _rows_of_chunks(
    chunks: pd.DataFrame, slices: pd.DataFrame, length: int
) -> tuple[list[str], list[np.ndarray]]:
    """Paths of the pictures that the chunks use, and of each chunk the numbers of its paths."""
    used = slices.merge(chunks[KEYS].drop_duplicates(), on=KEYS).sort_values([*KEYS, "position"])
    keys = zip(*(used[c] for c in (*KEYS, "position")), strict=True)
    number = {key: i for i, key in enumerate(keys)}
    rows = []
    columns = (chunks[c] for c in (*KEYS, "start", "stop"))
    for patient_id, series, start, stop in zip(*columns, strict=True):
        places = [(patient_id, series, position) for position in range(start, stop)]
        missing = [place for place in places if place not in number]
        if missing or not 0 < len(places) <= length:
            raise TrainingError(
                f"The chunk {start} to {stop} of {series} of patient {patient_id} does not fit: it "
                f"needs 1 to {length} positions and lacks {len(missing)} in the table of slices. "
                "Make both tables again, together."
            )
        rows.append(np.array([number[place] for place in places]))
    return list(used["path"]), rows


def require(table: pd.DataFrame, columns: Sequence[str], name: str) -> None:
    """Refuse a table without rows, or without a column.

    Raises:
        TrainingError: naming what is missing.
    """
    missing = [column for column in columns if column not in table]
    if missing or not len(table):
        what = f"lacks the columns {', '.join(missing)}" if missing else "has no rows"
        raise TrainingError(
            f"The table of {name} {what}: run the notebook that writes it, or loosen the filter "
            "there."
        )
