"""Orders and batches that depend on seed and epoch alone, whoever reads them."""

import os
from collections import Counter

import numpy as np
import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from helpers.training_runs import AUGMENTATION, MASKS, write_cases

from t4e_utils.learning.datasets import PictureDataset, PictureInput
from t4e_utils.learning.loaders import (
    EpochSampler,
    default_workers,
    make_loader,
    n_batches,
    set_epoch,
)
from t4e_utils.sampling.squares import Square

# Python 3.12 warns of every fork beside threads, and torch's loaders fork: nothing that this
# package could change.
forks = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.fixture
def slices(tmp_path):
    return write_cases(tmp_path)[0]


def pictures(slices, root, *, is_augmented=False):
    options = {"augmentation": AUGMENTATION} if is_augmented else {}
    return PictureDataset(slices, PictureInput(root, Square(32), **options))


def equal(first, second):
    return all(torch.equal(first[key], second[key]) for key in first)


def order(n, *, epoch=1, seed=0, n_items=0):
    sampler = EpochSampler(range(n), shuffle=True, seed=seed, n_items=n_items)
    sampler.set_epoch(epoch)
    found = list(sampler)
    assert len(found) == len(sampler)
    return found


def test_orders_are_permutations_that_repeat_with_seed_and_epoch():
    assert sorted(order(20)) == list(range(20))
    assert order(20) == order(20)
    assert order(20) != order(20, epoch=2) != order(20, seed=1)
    assert list(EpochSampler(range(4), shuffle=False, seed=0)) == [0, 1, 2, 3]


def test_an_order_is_that_of_the_permutation_of_its_seed_and_epoch():
    assert order(20, seed=5, epoch=3) == np.random.default_rng([5, 3]).permutation(20).tolist()


@pytest.mark.parametrize("n_items", [7, 20, 47])
def test_so_many_items_are_taken_and_each_permutation_used_up_before_the_next(n_items):
    found = order(20, n_items=n_items)
    assert len(found) == n_items
    assert found[:20] == order(20)[:n_items]
    for start in range(0, n_items, 20):
        part = found[start : start + 20]
        assert len(set(part)) == len(part)
    assert set(Counter(found).values()) <= {n_items // 20, n_items // 20 + 1}
    assert n_items < 40 or found[:20] != found[20:40]


def test_without_shuffling_the_order_begins_again():
    sampler = EpochSampler(range(3), shuffle=False, seed=0, n_items=7)
    assert list(sampler) == [0, 1, 2, 0, 1, 2, 0]


def test_an_empty_data_set_has_no_order():
    assert list(EpochSampler([], shuffle=True, seed=0)) == []


@forks
def test_workers_give_what_one_process_gives_in_every_epoch(slices, tmp_path):
    epochs = {}
    for n_workers in (0, 2):
        dataset = pictures(slices, tmp_path, is_augmented=True)
        loader = make_loader(dataset, batch_size=5, shuffle=True, num_workers=n_workers)
        for epoch in (1, 2, 3):
            set_epoch(loader, epoch)
            epochs[n_workers, epoch] = list(loader)
    for epoch in (1, 2, 3):
        pairs = zip(epochs[0, epoch], epochs[2, epoch], strict=True)
        assert all(equal(a, b) for a, b in pairs)
    assert not equal(epochs[2, 1][0], epochs[2, 2][0])
    assert epochs[0, 1][0]["targets"].shape == (5, len(MASKS), 32, 32)


@forks
def test_what_a_worker_has_decoded_is_known_to_all(slices, tmp_path):
    dataset = pictures(slices, tmp_path)
    first = list(make_loader(dataset, batch_size=5, num_workers=2))
    for path in slices["path"]:
        os.unlink(tmp_path / path)
    again = list(make_loader(dataset, batch_size=5, num_workers=0))
    assert all(equal(a, b) for a, b in zip(first, again, strict=True))


def test_a_loader_has_as_many_batches_as_its_items_make(slices, tmp_path):
    dataset = pictures(slices, tmp_path)
    sizes = [len(batch["index"]) for batch in make_loader(dataset, batch_size=8)]
    assert sizes == [8, 8, 4]
    loader = make_loader(dataset, batch_size=8, shuffle=True, n_items=32)
    assert [len(batch["index"]) for batch in loader] == [8] * 4


def sizes_of(n_items, batch_size, **options):
    data = [{"index": k} for k in range(n_items)]
    loader = make_loader(data, batch_size=batch_size, shuffle=True, num_workers=0, **options)
    return [len(batch["index"]) for batch in loader]


@pytest.mark.parametrize(
    ("n_items", "batch_size", "expected"),
    [
        (13, 6, [6, 6]),
        (14, 6, [6, 6, 2]),
        (12, 6, [6, 6]),
        (7, 2, [2, 2, 2]),
        (3, 1, [1, 1, 1]),
        (1, 1, [1]),
        (1, 4, [1]),
        (2, 4, [2]),
        (5, 4, [4]),
    ],
)
def test_a_last_batch_of_one_is_left_out_if_asked_and_no_other(n_items, batch_size, expected):
    assert sizes_of(n_items, batch_size, drop_single=True) == expected
    assert n_batches(n_items, batch_size, drop_single=True) == len(expected)
    everything = sizes_of(n_items, batch_size)
    assert sum(everything) == n_items
    assert n_batches(n_items, batch_size, drop_single=False) == len(everything)


def test_the_item_that_is_left_out_is_another_in_the_next_epoch():
    data = [{"index": k} for k in range(13)]
    loader = make_loader(data, batch_size=4, shuffle=True, num_workers=0, drop_single=True)
    left = []
    for epoch in (1, 2, 3):
        set_epoch(loader, epoch)
        seen = torch.cat([batch["index"] for batch in loader]).tolist()
        left += set(range(13)) - set(seen)
    assert len(left) == 3
    assert len(set(left)) > 1


def test_several_processes_have_full_batches_whatever_the_number_of_items():
    for n_items in range(2, 40):
        data = [{"index": k} for k in range(n_items)]
        loader = make_loader(data, batch_size=3, shuffle=True, num_workers=0)
        shares = [
            list(BatchSamplerShard(loader.batch_sampler, num_processes=2, process_index=k))
            for k in (0, 1)
        ]
        assert {len(batch) for share in shares for batch in share} == {3}
        n_steps = n_batches(n_items, 6, drop_single=False)
        assert [len(share) for share in shares] == [n_steps] * 2


def test_small_data_need_no_workers_and_the_default_leaves_a_core(slices, tmp_path):
    dataset = pictures(slices, tmp_path)
    assert make_loader(dataset, batch_size=4).num_workers == 0
    assert (
        make_loader([{"index": k} for k in range(2000)], batch_size=4).num_workers
        == default_workers()
    )
    assert 0 <= default_workers() < max(os.cpu_count(), 2)
