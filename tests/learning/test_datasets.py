import os
import pickle

import numpy as np
import pandas as pd
import pytest
import torch

from t4e_utils.learning.augmentation import augmentation, draw_seed, seed_draw
from t4e_utils.learning.datasets import ChunkDataset, DatasetError, SliceCache, SliceDataset
from t4e_utils.learning.loaders import EpochSampler, default_workers, make_loader, set_epoch
from t4e_utils.sampling.pictures import SliceError, read_slice, write_slice
from t4e_utils.sampling.squares import to_square

SIZE = 32
# Python 3.12 warns of every fork beside threads, and torch's loaders fork: nothing that this
# package could change.
forks = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def picture(seed, height=30, width=24):
    """Noise with a bright tumour off the centre, its masks beside it."""
    image = np.random.default_rng(seed).integers(1, 90, (height, width)).astype(np.uint8)
    masks = np.zeros((2, height, width), bool)
    masks[0, 5:14, 4 : 16 + seed % 3] = True
    masks[1, 7:11, 6:11] = True
    image[masks[0]] += 100
    image[masks[1]] += 60
    return image, masks


def write_patients(root, n_slices=12, patients=("00001", "00002")):
    rows = []
    for number, patient in enumerate(patients):
        for position in range(n_slices):
            path = f"{patient}/FLAIR_{position}.png"
            write_slice(root / path, *picture(100 * number + position))
            rows.append(
                {"patient_id": patient, "series": "FLAIR", "position": position, "path": path}
            )
    return pd.DataFrame(rows)


@pytest.fixture
def slices(tmp_path):
    return write_patients(tmp_path)


def chunk_table(*bounds, patient="00002"):
    rows = [
        {"patient_id": patient, "series": "FLAIR", "start": a, "stop": b, "label": k % 2}
        for k, (a, b) in enumerate(bounds)
    ]
    return pd.DataFrame(rows)


def equal(first, second):
    return all(
        torch.equal(torch.as_tensor(first[key]), torch.as_tensor(second[key])) for key in first
    )


def test_a_slice_is_its_file_padded_and_resized(slices, tmp_path):
    item = SliceDataset(slices, tmp_path, image_size=SIZE)[3]
    expected = to_square(read_slice(tmp_path / slices["path"][3])[None], SIZE)[0]
    assert np.array_equal(item["image"][0], expected[..., 0])
    assert np.array_equal(item["masks"], (expected[..., 1:] >= 128).transpose(2, 0, 1))
    assert item["index"] == 3


def test_items_are_small_integers(slices, tmp_path):
    item = SliceDataset(slices, tmp_path, image_size=SIZE, augment=True)[0]
    assert (item["image"].dtype, item["image"].shape) == (torch.uint8, (1, SIZE, SIZE))
    assert (item["masks"].dtype, item["masks"].shape) == (torch.uint8, (2, SIZE, SIZE))
    assert set(item["masks"].unique().tolist()) == {0, 1}


def test_masks_move_with_the_image(slices, tmp_path):
    dataset = SliceDataset(slices, tmp_path, image_size=SIZE, augment=True)
    for index in range(len(dataset)):
        item = dataset[index]
        is_bright = item["image"][0] > 100
        agreement = (is_bright == item["masks"][0].bool()).float().mean()
        assert agreement > 0.97


def test_stretched_slices_fill_the_square(slices, tmp_path):
    padded, stretched = (
        SliceDataset(slices, tmp_path, image_size=SIZE, stretch=s)[0]["image"]
        for s in (False, True)
    )
    assert (padded[..., 0] == 0).all()
    assert (stretched > 0).all()


def test_augmentation_repeats_with_seed_epoch_and_index_whatever_came_before(slices, tmp_path):
    first, second = (
        SliceDataset(slices, tmp_path, image_size=SIZE, augment=True, seed=4) for _ in range(2)
    )
    forward = [first[index] for index in range(len(first))]
    backward = [second[index] for index in reversed(range(len(second)))][::-1]
    assert all(equal(a, b) for a, b in zip(forward, backward, strict=True))


def test_augmentation_differs_between_epochs_and_seeds(slices, tmp_path):
    dataset = SliceDataset(slices, tmp_path, image_size=SIZE, augment=True)
    epochs = []
    for epoch in (1, 2):
        dataset.set_epoch(epoch)
        epochs.append([dataset[index] for index in range(len(dataset))])
    assert np.mean([equal(a, b) for a, b in zip(*epochs, strict=True)]) < 0.3
    other = SliceDataset(slices, tmp_path, image_size=SIZE, augment=True, seed=1)
    other.set_epoch(1)
    assert np.mean([equal(other[i], item) for i, item in enumerate(epochs[0])]) < 0.3


def test_seeds_of_draws_do_not_repeat():
    seeds = [draw_seed(s, e, i) for s in range(5) for e in range(10) for i in range(50)]
    assert len(set(seeds)) > 0.999 * len(seeds)


def test_flips_and_turns_are_drawn_independently():
    image, transform = picture(0)[0], augmentation()
    flips = {
        "none": image,
        "horizontal": image[:, ::-1],
        "vertical": image[::-1],
        "both": image[::-1, ::-1],
    }
    counts = dict.fromkeys([*flips, "turned"], 0)
    for seed in range(800):
        seed_draw(transform, seed)
        drawn = transform(image=image)["image"]
        counts[
            next((name for name, flip in flips.items() if np.array_equal(drawn, flip)), "turned")
        ] += 1
    assert counts.pop("turned") == pytest.approx(400, abs=50)
    assert list(counts.values()) == pytest.approx([100] * 4, abs=32)


@forks
def test_workers_give_what_one_process_gives_in_every_epoch(slices, tmp_path):
    epochs = {}
    for n_workers in (0, 2):
        dataset = SliceDataset(slices, tmp_path, image_size=SIZE, augment=True)
        loader = make_loader(dataset, batch_size=5, shuffle=True, num_workers=n_workers)
        for epoch in (1, 2, 3):
            set_epoch(loader, epoch)
            epochs[n_workers, epoch] = list(loader)
    for epoch in (1, 2, 3):
        pairs = zip(epochs[0, epoch], epochs[2, epoch], strict=True)
        assert all(equal(a, b) for a, b in pairs)
    assert not equal(epochs[2, 1][0], epochs[2, 2][0])


def test_decoded_slices_are_kept_only_within_the_bound(slices, tmp_path):
    paths = [tmp_path / path for path in slices["path"]]
    cache = SliceCache(paths, SIZE, cache_mb=5.5 * SIZE * SIZE * 3 / 1e6)
    before = [cache[row].copy() for row in range(len(paths))]
    for path in paths:
        path.unlink()
    assert all(np.array_equal(cache[row], before[row]) for row in range(5))
    for row in range(5, len(paths)):
        with pytest.raises(SliceError, match="cannot be read"):
            cache[row]


def test_without_a_cache_the_items_are_the_same(slices, tmp_path):
    with_cache, without = (
        SliceDataset(slices, tmp_path, image_size=SIZE, cache_mb=mb) for mb in (100, 0)
    )
    assert all(
        equal(with_cache[i], without[i]) and equal(with_cache[i], without[i])
        for i in range(len(slices))
    )


@forks
def test_what_a_worker_has_decoded_is_known_to_all(slices, tmp_path):
    dataset = SliceDataset(slices, tmp_path, image_size=SIZE)
    first = list(make_loader(dataset, batch_size=5, num_workers=2))
    for path in slices["path"]:
        os.unlink(tmp_path / path)
    again = list(make_loader(dataset, batch_size=5, num_workers=0))
    assert all(equal(a, b) for a, b in zip(first, again, strict=True))


def test_a_pickled_data_set_leaves_its_cache_behind(slices, tmp_path):
    dataset = SliceDataset(slices, tmp_path, image_size=SIZE, augment=True, cache_mb=500)
    expected = dataset[2]
    data = pickle.dumps(dataset)
    assert len(data) < 50_000
    assert equal(pickle.loads(data)[2], expected)


def test_augmenting_leaves_the_cache_untouched(slices, tmp_path):
    dataset = SliceDataset(slices, tmp_path, image_size=SIZE, augment=True)
    before = dataset.cache[0].copy()
    for epoch in range(10):
        dataset.set_epoch(epoch)
        dataset[0]["image"].zero_()
    assert np.array_equal(dataset.cache[0], before)


def test_a_chunk_holds_its_slices_in_order_and_black_ones_at_the_end(slices, tmp_path):
    dataset = ChunkDataset(
        chunk_table((0, 5), (3, 8)),
        slices.sample(frac=1, random_state=0),
        tmp_path,
        image_size=SIZE,
        length=7,
    )
    item = dataset[1]
    paths = [tmp_path / f"00002/FLAIR_{position}.png" for position in range(3, 8)]
    expected = np.concatenate(
        [to_square(read_slice(path)[None], SIZE) for path in paths]
    ).transpose(0, 3, 1, 2)
    assert np.array_equal(item["images"][:5], expected)
    assert (item["images"].shape, item["images"].dtype) == ((7, 3, SIZE, SIZE), torch.uint8)
    assert not item["images"][5:].any()
    assert (item["label"].item(), item["label"].dtype, item["index"]) == (1.0, torch.float32, 1)


def test_one_draw_moves_all_slices_of_a_chunk(tmp_path):
    rows = []
    for position in range(6):
        write_slice(tmp_path / f"{position}.png", *picture(7))
        rows.append(
            {
                "patient_id": "00002",
                "series": "FLAIR",
                "position": position,
                "path": f"{position}.png",
            }
        )
    dataset = ChunkDataset(
        chunk_table(*[(0, 6)] * 8),
        pd.DataFrame(rows),
        tmp_path,
        image_size=SIZE,
        length=6,
        augment=True,
    )
    chunks = [dataset[index]["images"] for index in range(8)]
    assert all(torch.equal(chunk, chunk[:1].expand_as(chunk)) for chunk in chunks)
    assert not all(torch.equal(chunk, chunks[0]) for chunk in chunks)


def test_overlapping_chunks_decode_a_slice_once(slices, tmp_path):
    dataset = ChunkDataset(
        chunk_table((0, 6), (3, 9), (6, 12)), slices, tmp_path, image_size=SIZE, length=6
    )
    first = dataset[0], dataset[2]
    for position in range(12):
        os.unlink(tmp_path / f"00002/FLAIR_{position}.png")
    assert torch.equal(
        dataset[1]["images"], torch.cat([first[0]["images"][3:], first[1]["images"][:3]])
    )
    assert len(dataset.cache.paths) == 12


@pytest.mark.parametrize(
    ("channels", "keeps"),
    [("image+masks", (0, 1, 2)), ("image", (0, 0, 0)), ("masks", (None, 1, 2))],
)
def test_controls_show_only_some_channels(slices, tmp_path, channels, keeps):
    whole, shown = (
        ChunkDataset(chunk_table((0, 4)), slices, tmp_path, image_size=SIZE, length=4, channels=c)[
            0
        ]["images"]
        for c in ("image+masks", channels)
    )
    for place, source in enumerate(keeps):
        expected = torch.zeros_like(whole[:, 0]) if source is None else whole[:, source]
        assert torch.equal(shown[:, place], expected)


def test_chunks_without_labels_can_be_predicted(slices, tmp_path):
    chunks = chunk_table((0, 4)).drop(columns="label")
    assert ChunkDataset(chunks, slices, tmp_path, image_size=SIZE, length=4)[0]["label"].isnan()


@pytest.mark.parametrize("bounds", [(8, 13), (0, 8), (4, 4)])
def test_a_chunk_that_does_not_fit_its_slices_is_refused(slices, tmp_path, bounds):
    with pytest.raises(
        DatasetError,
        match=f"chunk {bounds[0]} to {bounds[1]} of FLAIR of patient 00002 does not fit",
    ):
        ChunkDataset(chunk_table(bounds), slices, tmp_path, image_size=SIZE, length=7)


def test_unknown_channels_are_refused(slices, tmp_path):
    with pytest.raises(DatasetError, match="channels is 'both': choose one of image\\+masks"):
        ChunkDataset(chunk_table((0, 4)), slices, tmp_path, image_size=SIZE, channels="both")


def test_tables_without_rows_or_columns_are_refused(slices, tmp_path):
    with pytest.raises(DatasetError, match="table of slices has no rows"):
        SliceDataset(slices[:0], tmp_path, image_size=SIZE)
    with pytest.raises(DatasetError, match="table of chunks lacks the columns stop"):
        ChunkDataset(chunk_table((0, 4)).drop(columns="stop"), slices, tmp_path, image_size=SIZE)


def test_orders_are_permutations_that_repeat_with_seed_and_epoch():
    def order(seed, epoch):
        sampler = EpochSampler(range(20), shuffle=True, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert sorted(order(0, 1)) == list(range(20))
    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2) != order(1, 1)
    assert list(EpochSampler(range(4), shuffle=False)) == [0, 1, 2, 3]


def test_small_data_need_no_workers_and_the_default_leaves_a_core(slices, tmp_path):
    dataset = SliceDataset(slices, tmp_path, image_size=SIZE)
    assert make_loader(dataset, batch_size=4).num_workers == 0
    assert (
        make_loader([{"index": k} for k in range(2000)], batch_size=4).num_workers
        == default_workers()
    )
    assert 0 <= default_workers() < max(os.cpu_count(), 2)
