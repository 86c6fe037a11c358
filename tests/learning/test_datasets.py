"""Items are what the files hold, moved by draws that depend on seed, epoch and index alone."""

import os
import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.training_runs import AUGMENTATION

from t4e_utils.learning import TrainingError
from t4e_utils.learning.augmentation import draw_seed, seed_draw
from t4e_utils.learning.datasets import PictureCache, PictureDataset, PictureInput, SequenceDataset
from t4e_utils.sampling import SamplingError
from t4e_utils.sampling.pictures import read_picture, stack_channels, write_picture
from t4e_utils.sampling.squares import Square, to_square

SIZE = 32
SQUARE = Square(SIZE)


def picture(seed, height=30, width=24):
    """Noise with a bright lesion off the centre, its masks beside it."""
    image = np.random.default_rng(seed).integers(1, 90, (height, width)).astype(np.uint8)
    masks = np.zeros((2, height, width), bool)
    masks[0, 5:14, 4 : 16 + seed % 3] = True
    masks[1, 7:11, 6:11] = True
    image[masks[0]] += 100
    image[masks[1]] += 60
    return stack_channels(image, masks)


def write_patients(root, n_slices=12, patients=("00001", "00002")):
    rows = []
    for number, patient in enumerate(patients):
        for position in range(n_slices):
            path = f"{patient}/first_{position}.png"
            write_picture(root / path, picture(100 * number + position))
            rows.append(
                {"patient_id": patient, "series": "first", "position": position, "path": path}
            )
    return pd.DataFrame(rows)


@pytest.fixture
def slices(tmp_path):
    return write_patients(tmp_path)


@pytest.fixture
def plain(tmp_path):
    return PictureInput(tmp_path, SQUARE)


@pytest.fixture
def augmented(plain):
    return replace(plain, augmentation=AUGMENTATION)


def chunk_table(*bounds, patient="00002"):
    rows = [
        {"patient_id": patient, "series": "first", "start": a, "stop": b, "label": k % 2}
        for k, (a, b) in enumerate(bounds)
    ]
    return pd.DataFrame(rows)


def equal(first, second):
    return all(
        torch.equal(torch.as_tensor(first[key]), torch.as_tensor(second[key])) for key in first
    )


# --- pictures


def test_a_picture_is_its_file_padded_and_resized(slices, plain):
    item = PictureDataset(slices, plain)[3]
    expected = to_square(read_picture(plain.root / slices["path"][3])[None], SQUARE)[0]
    assert np.array_equal(item["inputs"][0], expected[..., 0])
    assert np.array_equal(item["targets"], (expected[..., 1:] >= 128).transpose(2, 0, 1))
    assert item["index"] == 3


def test_items_are_small_integers(slices, augmented):
    item = PictureDataset(slices, augmented)[0]
    assert (item["inputs"].dtype, item["inputs"].shape) == (torch.uint8, (1, SIZE, SIZE))
    assert (item["targets"].dtype, item["targets"].shape) == (torch.uint8, (2, SIZE, SIZE))
    assert set(item["targets"].unique().tolist()) == {0, 1}


def test_masks_move_with_the_image(slices, augmented):
    dataset = PictureDataset(slices, augmented)
    for index in range(len(dataset)):
        item = dataset[index]
        is_bright = item["inputs"][0] > 100
        agreement = (is_bright == item["targets"][0].bool()).float().mean()
        assert agreement > 0.97


def test_label_columns_are_the_targets_and_all_channels_the_input(slices, plain):
    table = slices.assign(any=slices["position"] % 2, large=slices["position"] / 8)
    dataset = PictureDataset(table, plain, targets=("large", "any"))
    item = dataset[5]
    expected = to_square(read_picture(plain.root / table["path"][5])[None], SQUARE)[0]
    assert np.array_equal(item["inputs"], expected.transpose(2, 0, 1))
    assert (item["inputs"].dtype, item["targets"].dtype) == (torch.uint8, torch.float32)
    assert item["targets"].tolist() == [5 / 8, 1.0]
    assert len(dataset) == len(table)


@pytest.mark.parametrize("n_channels", [1, 2, 3, 4])
def test_pictures_of_one_to_four_channels_are_read_and_drawn(tmp_path, n_channels):
    rng = np.random.default_rng(0)
    for k in range(6):
        channels = rng.integers(0, 256, (30, 24, n_channels), dtype=np.uint8)
        write_picture(tmp_path / f"{k}.png", channels)
    table = pd.DataFrame({"path": [f"{k}.png" for k in range(6)], "label": range(6)})
    source = PictureInput(
        tmp_path, SQUARE, n_channels=n_channels, augmentation=AUGMENTATION, seed=2
    )
    dataset, transform = PictureDataset(table, source, targets=("label",)), AUGMENTATION.compose()
    dataset.set_epoch(4)
    for k in range(6):
        stored = read_picture(tmp_path / f"{k}.png", n_channels=n_channels)
        seed_draw(transform, draw_seed(2, 4, k))
        expected = transform(image=to_square(stored[None], SQUARE)[0])["image"]
        assert dataset[k]["inputs"].shape == (n_channels, SIZE, SIZE)
        assert np.array_equal(
            dataset[k]["inputs"], expected.reshape(SIZE, SIZE, n_channels).transpose(2, 0, 1)
        )


def test_stretched_pictures_fill_the_square(slices, plain):
    padded, stretched = (
        PictureDataset(slices, replace(plain, square=Square(SIZE, s)))[0]["inputs"]
        for s in (False, True)
    )
    assert (padded[..., 0] == 0).all()
    assert (stretched > 0).all()


def test_a_picture_of_16_bits_is_refused(tmp_path, plain):
    write_picture(tmp_path / "1.png", picture(0).astype(np.uint16) * 257)
    dataset = PictureDataset(pd.DataFrame({"path": ["1.png"]}), plain)
    with pytest.raises(TrainingError, match=r"1\.png has 16 bits, but networks take 8: window it"):
        dataset[0]


# --- draws


def test_augmentation_repeats_with_seed_epoch_and_index_whatever_came_before(slices, augmented):
    first, second = (PictureDataset(slices, replace(augmented, seed=4)) for _ in range(2))
    forward = [first[index] for index in range(len(first))]
    backward = [second[index] for index in reversed(range(len(second)))][::-1]
    assert all(equal(a, b) for a, b in zip(forward, backward, strict=True))


def test_augmentation_differs_between_epochs_and_seeds(slices, augmented):
    dataset = PictureDataset(slices, augmented)
    epochs = []
    for epoch in (1, 2):
        dataset.set_epoch(epoch)
        assert dataset.epoch == epoch
        epochs.append([dataset[index] for index in range(len(dataset))])
    assert np.mean([equal(a, b) for a, b in zip(*epochs, strict=True)]) < 0.3
    other = PictureDataset(slices, replace(augmented, seed=1))
    other.set_epoch(1)
    assert np.mean([equal(other[i], item) for i, item in enumerate(epochs[0])]) < 0.3


# --- what is kept in memory


def test_decoded_pictures_are_kept_only_within_the_bound(slices, plain):
    paths = [plain.root / path for path in slices["path"]]
    cache = PictureCache(paths, replace(plain, cache_mb=5.5 * SIZE * SIZE * 3 / 1e6))
    before = [cache[row].copy() for row in range(len(paths))]
    for path in paths:
        path.unlink()
    assert all(np.array_equal(cache[row], before[row]) for row in range(5))
    for row in range(5, len(paths)):
        with pytest.raises(SamplingError, match="is not there"):
            cache[row]


def test_without_a_cache_the_items_are_the_same(slices, plain):
    with_cache, without = (PictureDataset(slices, replace(plain, cache_mb=mb)) for mb in (100, 0))
    assert all(
        equal(with_cache[i], without[i]) and equal(with_cache[i], without[i])
        for i in range(len(slices))
    )


def test_a_pickled_data_set_leaves_its_cache_behind(slices, augmented):
    dataset = PictureDataset(slices, replace(augmented, cache_mb=500))
    expected = dataset[2]
    data = pickle.dumps(dataset)
    assert len(data) < 50_000
    assert equal(pickle.loads(data)[2], expected)


def test_augmenting_leaves_the_cache_untouched(slices, augmented):
    dataset = PictureDataset(slices, augmented)
    before = dataset.cache[0].copy()
    for epoch in range(10):
        dataset.set_epoch(epoch)
        dataset[0]["inputs"].zero_()
    assert np.array_equal(dataset.cache[0], before)


# --- chunks


def test_a_chunk_holds_its_slices_in_order_and_black_ones_at_the_end(slices, plain):
    shuffled = slices.sample(frac=1, random_state=0)
    item = SequenceDataset(chunk_table((0, 5), (3, 8)), shuffled, plain, length=7)[1]
    paths = [plain.root / f"00002/first_{position}.png" for position in range(3, 8)]
    expected = np.concatenate(
        [to_square(read_picture(path)[None], SQUARE) for path in paths]
    ).transpose(0, 3, 1, 2)
    assert np.array_equal(item["inputs"][:5], expected)
    assert (item["inputs"].shape, item["inputs"].dtype) == ((7, 3, SIZE, SIZE), torch.uint8)
    assert not item["inputs"][5:].any()
    assert (item["targets"].item(), item["targets"].dtype) == (1.0, torch.float32)
    assert item["index"] == 1


def test_one_draw_moves_all_slices_of_a_chunk(tmp_path, augmented):
    rows = []
    for position in range(6):
        write_picture(tmp_path / f"{position}.png", picture(7))
        row = {"patient_id": "00002", "series": "first", "position": position}
        rows.append({**row, "path": f"{position}.png"})
    dataset = SequenceDataset(chunk_table(*[(0, 6)] * 8), pd.DataFrame(rows), augmented, length=6)
    chunks = [dataset[index]["inputs"] for index in range(8)]
    assert all(torch.equal(chunk, chunk[:1].expand_as(chunk)) for chunk in chunks)
    assert not all(torch.equal(chunk, chunks[0]) for chunk in chunks)


def test_overlapping_chunks_decode_a_slice_once(slices, plain):
    dataset = SequenceDataset(chunk_table((0, 6), (3, 9), (6, 12)), slices, plain, length=6)
    first = dataset[0], dataset[2]
    for position in range(12):
        os.unlink(plain.root / f"00002/first_{position}.png")
    assert torch.equal(
        dataset[1]["inputs"], torch.cat([first[0]["inputs"][3:], first[1]["inputs"][:3]])
    )
    assert len(dataset.cache.paths) == 12


@pytest.mark.parametrize("channels", [(0, 1, 2), (0, 0, 0), (-1, 1, 2), (0,)])
def test_controls_show_only_some_channels(slices, plain, channels):
    chunks = chunk_table((0, 4))
    whole = SequenceDataset(chunks, slices, plain, length=5)[0]["inputs"]
    shown = SequenceDataset(chunks, slices, plain, length=5, channels=channels)[0]["inputs"]
    assert shown.shape == (5, len(channels), SIZE, SIZE)
    for place, source in enumerate(channels):
        expected = torch.zeros_like(whole[:, 0]) if source < 0 else whole[:, source]
        assert torch.equal(shown[:, place], expected)


def test_chunks_without_labels_can_be_predicted(slices, plain):
    chunks = chunk_table((0, 4)).drop(columns="label")
    assert SequenceDataset(chunks, slices, plain, length=4)[0]["targets"].isnan()


@pytest.mark.parametrize("bounds", [(8, 13), (0, 8), (4, 4)])
def test_a_chunk_that_does_not_fit_its_slices_is_refused(slices, plain, bounds):
    with pytest.raises(
        TrainingError,
        match=f"chunk {bounds[0]} to {bounds[1]} of first of patient 00002 does not fit",
    ):
        SequenceDataset(chunk_table(bounds), slices, plain, length=7)


def test_tables_without_rows_or_columns_are_refused(slices, plain):
    with pytest.raises(TrainingError, match="table of pictures has no rows"):
        PictureDataset(slices[:0], plain)
    with pytest.raises(TrainingError, match="table of pictures lacks the columns any, large"):
        PictureDataset(slices, plain, targets=("any", "large"))
    with pytest.raises(TrainingError, match="table of chunks lacks the columns stop"):
        SequenceDataset(chunk_table((0, 4)).drop(columns="stop"), slices, plain, length=4)
    with pytest.raises(TrainingError, match="table of slices lacks the columns position"):
        SequenceDataset(chunk_table((0, 4)), slices.drop(columns="position"), plain, length=4)
