"""Loaders whose order depends on (seed, epoch) alone."""

from __future__ import annotations

import os
from collections.abc import Iterator

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

WORKERS_PAY_FROM = 2000  # items; starting worker processes costs more than it saves on fewer


class EpochSampler(Sampler):
    """Order of a data set: as it is, or a permutation that depends on (seed, epoch) alone.

    Args:
        dataset: anything with a length.
        shuffle: a new order each epoch.
        seed: of the order.
        n_items: of an epoch, from as many permutations as it takes; 0: each item once.
    """

    def __init__(self, dataset: Dataset, *, shuffle: bool, seed: int, n_items: int = 0):
        self.dataset, self.shuffle, self.seed, self.epoch = dataset, shuffle, seed, 0
        self.n_items = n_items or len(dataset)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, of the order and of the data set's draws."""
        self.epoch = epoch
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)

    def __len__(self) -> int:
        return self.n_items

    def __iter__(self) -> Iterator[int]:
        generator, orders = np.random.default_rng([self.seed, self.epoch]), []
        for _ in range(-(-self.n_items // max(len(self.dataset), 1))):
            orders.append(np.arange(len(self.dataset)))
            if self.shuffle:
                generator.shuffle(orders[-1])
        return iter(np.concatenate([*orders, []])[: self.n_items].astype(int).tolist())


def default_workers() -> int:
    """Return worker processes for a loader: a share of the cores, one left, at most 16."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return min(max(cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) - 1, 0), 16)


def make_loader(
    dataset: Dataset,
    *,
    batch_size: int,
    shuffle: bool = False,
    num_workers: int = -1,
    seed: int = 0,
    n_items: int = 0,
    drop_single: bool = False,
) -> DataLoader:
    """Return a loader whose order depends on (seed, epoch) alone.

    Call `set_epoch(loader, epoch)` before each epoch.

    Args:
        dataset: anything with a length; items are dictionaries.
        batch_size: items of a batch; the last one may be smaller.
        shuffle: a new order each epoch.
        num_workers: processes that decode and augment; -1: none for small data, else
            `default_workers`.
        seed: of the order.
        n_items: of an epoch, see `EpochSampler`.
        drop_single: leave a last batch of one item out of the epoch, see `n_batches`.
    """
    if num_workers < 0:
        num_workers = default_workers() if len(dataset) >= WORKERS_PAY_FROM else 0
    sampler = EpochSampler(dataset, shuffle=shuffle, seed=seed, n_items=n_items)
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        drop_last=drop_single and _is_single(len(sampler), batch_size),
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        worker_init_fn=_use_one_thread,
        # of the workers' seeds, which would else be drawn from the network's dropout
        generator=torch.Generator(),
        pin_memory=torch.cuda.is_available(),
    )


def n_batches(n_items: int, batch_size: int, *, drop_single: bool) -> int:
    """Return how many batches an epoch has.

    A last batch of one item can be left out: batch norm learns from the differences within a
    batch, and torch refuses it where a feature map has one pixel. In the next epoch it is another
    item.
    """
    return -(-n_items // batch_size) - (drop_single and _is_single(n_items, batch_size))


def _is_single(n_items: int, batch_size: int) -> bool:
    """Return whether the last batch, and not every one, has one item."""
    return n_items > batch_size > 1 and n_items % batch_size == 1


def _use_one_thread(worker: int) -> None:
    cv2.setNumThreads(0)  # the workers are the threads


def sentence_from_worker(error: Exception) -> str:
    """Return what an error of a worker process says; "" if it was raised in this process.

    Such an error comes with all lines of the worker's traceback; its own sentence is the last.
    """
    lines = str(error).strip().splitlines()
    is_from_worker = len(lines) > 1 and lines[0].startswith("Caught ")
    return lines[-1].partition(": ")[2] if is_from_worker else ""


def set_epoch(loader: DataLoader, epoch: int) -> None:
    """Tell a loader, its order and its data set which epoch comes next."""
    if hasattr(loader, "set_epoch"):  # Accelerate's loaders, which pass it on to the sampler
        loader.set_epoch(epoch)
    else:
        loader.sampler.set_epoch(epoch)
