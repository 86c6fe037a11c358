"""Torch datasets over the tables of slices and chunks, their augmentation, and loaders.

Items are uint8 tensors, channels first: normalising happens later, on the device
(`models.normalise`). A stored slice is one picture of three channels (R image, G whole tumour, B
enhancing tumour), so that one geometric draw moves image and masks alike. Every draw depends on
(seed, epoch, index) alone: not on workers, batches or what was drawn before.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from t4e_utils import T4EError
from t4e_utils.learning.augmentation import augmentation, draw_seed, seed_draw
from t4e_utils.sampling.pictures import read_slice
from t4e_utils.sampling.squares import to_square

# it would look for updates on the net when imported
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")


CHANNELS = ("image+masks", "image", "masks")
MASK_THRESHOLD = 128  # of 255, after resizing and turning have blurred the borders


class DatasetError(T4EError):
    """A table does not describe a data set."""


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
