"""Weights on disk: complete, of the network that loads them, and never executed."""

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.training_runs import CLASSIFIER, damaged_at_random, same_weights
from torch import nn

from t4e_utils.learning import ModelError
from t4e_utils.learning.networks import Recipe, blueprint, build
from t4e_utils.learning.weights import (
    load_weights,
    read_card,
    read_weights,
    require_entries_of,
    resolve_weights,
    save_state,
    save_weights,
)

PUBLISHED = json.loads(
    (Path(__file__).parents[1] / "data" / "t4e_checkpoint_keys.json").read_text()
)


def published_file(part, path):
    """A file like those of the T4E team, every value 0.5; small, as all share their memory."""
    whole = {
        k: torch.tensor(0 if k.endswith("num_batches_tracked") else 0.5) for k in PUBLISHED[part]
    }
    torch.save({k: whole[k].expand(shape) for k, shape in PUBLISHED[part].items()}, path)
    return path


def full_classifier(hidden):
    return Recipe(
        "sequence", "eca_nfnet_l0", options={"lstm_hidden": hidden, "sequence_length": 35}
    )


def test_published_files_load_strictly(tmp_path):
    segmenter = build(Recipe("unet++", "densenet121", n_outputs=2))
    load_weights(segmenter, published_file("segmentation", tmp_path / "s.pth"))
    assert all((weight == 0.5).all() for weight in segmenter.parameters())
    path = published_file("classification", tmp_path / "c.pth")
    classifier = build(full_classifier(128), weights=path)
    assert all((weight == 0.5).all() for weight in classifier.parameters())


def test_published_classifier_does_not_fit_another_hidden_size(tmp_path):
    path = published_file("classification", tmp_path / "c.pth")
    model = blueprint(full_classifier(64))
    with pytest.raises(ModelError, match=r"it has clf_head.weight \(1, 8960\), not \(1, 4480\)"):
        load_weights(model, path)


def test_weights_survive_the_round_trip_with_their_card(tmp_path):
    model, path = build(CLASSIFIER), tmp_path / "new" / "tiny.safetensors"
    save_weights(model, path, {"epoch": 3})
    assert same_weights(load_weights(build(CLASSIFIER), path), model)
    card = read_card(path)
    assert (card["epoch"], card["model"]["backbone"]) == (3, "test_nfnet")
    assert sorted(file.name for file in path.parent.iterdir()) == ["tiny.json", "tiny.safetensors"]


def test_a_network_without_a_recipe_has_only_its_own_card(tmp_path):
    save_weights(nn.Linear(2, 1), tmp_path / "m.safetensors", {"epoch": 3})
    assert read_card(tmp_path / "m.safetensors") == {"epoch": 3}


def test_a_state_is_written_like_that_of_a_network(tmp_path):
    state = {"a": torch.arange(6.0).view(2, 3).T, "b": torch.tensor(3)}
    save_state(state, tmp_path / "m.safetensors", {"epoch": 3})
    found = read_weights(tmp_path / "m.safetensors")
    assert all(torch.equal(found[name], state[name]) for name in state)
    assert read_card(tmp_path / "m.safetensors") == {"epoch": 3}


def test_a_missing_or_damaged_card_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"m.json is missing"):
        read_card(tmp_path / "m.safetensors")
    (tmp_path / "m.json").write_text('{"epoch": ')
    with pytest.raises(ModelError, match=r"m.json is damaged"):
        read_card(tmp_path / "m.safetensors")


def test_missing_weights_are_refused():
    with pytest.raises(ModelError, match=r"nowhere.pth does not exist: train first"):
        load_weights(nn.Linear(2, 1), "nowhere.pth")


@pytest.mark.parametrize("name", ["m.safetensors", "m.pth"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_truncated_weights_are_refused(tmp_path, name, share):
    path, model = tmp_path / name, nn.Linear(50, 50)
    if path.suffix == ".pth":
        torch.save(model.state_dict(), path)
    else:
        save_weights(model, path, {})
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ModelError, match="cannot be read as weights, it is truncated"):
        load_weights(model, path)


@pytest.mark.parametrize(
    "content", [[1, 2], {"epoch": 3}, torch.zeros(2), nn.Linear(2, 1), Path("here")]
)
def test_what_is_no_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "m.pth")
    with pytest.raises(ModelError, match=r"is no state dict|cannot be read as weights"):
        load_weights(nn.Linear(2, 1), tmp_path / "m.pth")


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (nn.Linear(2, 1, bias=False), r"it lacks bias \(1 of 2"),
        (nn.Bilinear(2, 2, 1), r"it has weight \(1, 2, 2\), not \(1, 2\)"),
        (nn.PReLU(), "it lacks bias"),
        (nn.BatchNorm1d(1), "it should not have num_batches_tracked"),
    ],
)
def test_weights_of_another_network_are_refused(tmp_path, other, sentence):
    torch.save(other.state_dict(), tmp_path / "m.pth")
    with pytest.raises(ModelError, match=f"holds another network's weights: {sentence}"):
        load_weights(nn.Linear(2, 1), tmp_path / "m.pth")


def test_a_blueprint_is_enough_to_check_a_state():
    state = nn.Linear(2, 1).state_dict()
    require_entries_of(nn.Linear(2, 1, device="meta"), state, Path("m.pth"))
    with pytest.raises(ModelError, match=r"m\.pth holds another network's weights"):
        require_entries_of(nn.Linear(2, 2, device="meta"), state, Path("m.pth"))


def test_a_folder_stands_for_the_file_named_like_the_network(tmp_path):
    (tmp_path / "test_nfnet.pth").write_bytes(b"")
    assert resolve_weights(tmp_path, model="tu-test_nfnet") == tmp_path / "test_nfnet.pth"
    assert resolve_weights("", model="test_nfnet") is None
    with pytest.raises(ModelError, match=r"There are no weights at .*test_resnet.safetensors"):
        resolve_weights(tmp_path, model="test_resnet")


def linear_state(**changes):
    return {"weight": torch.ones(1, 2), "bias": torch.ones(1), **changes}


@pytest.mark.parametrize("name", ["m.safetensors", "m.pth"])
@pytest.mark.parametrize(
    ("bias", "sentence"),
    [
        (torch.tensor([float("nan")]), "bias has 1 values that are not finite"),
        (torch.tensor([float("inf")]), "bias has 1 values that are not finite"),
        (torch.tensor([float("-inf")]).half(), "bias has 1 values that are not finite"),
        (torch.tensor([1e39], dtype=torch.float64), "bias has 1 values that are not finite"),
        (torch.tensor([1], dtype=torch.int8), r"bias has values of the type torch\.int8"),
        (torch.tensor([1]), r"bias has values of the type torch\.int64, which are no weights"),
        (torch.tensor([True]), r"bias has values of the type torch\.bool"),
        (torch.tensor([1 + 1j]), r"bias has values of the type torch\.complex64"),
        (
            torch.ones(1).to(torch.float8_e4m3fn),
            r"bias has values of the type torch\.float8_e4m3fn",
        ),
    ],
)
def test_values_that_are_no_weights_are_refused(tmp_path, name, bias, sentence):
    state = linear_state(bias=bias)
    if name.endswith("pth"):
        torch.save(state, tmp_path / name)
    else:
        save_state(state, tmp_path / name, {})
    with pytest.raises(ModelError, match=rf"{name} cannot be used: {sentence}"):
        load_weights(nn.Linear(2, 1), tmp_path / name)


@pytest.mark.parametrize(
    "bias", [torch.ones(1, device="meta"), torch.ones(1).to_sparse()], ids=["meta", "sparse"]
)
def test_tensors_that_hold_no_values_are_refused(tmp_path, bias):
    torch.save(linear_state(bias=bias), tmp_path / "m.pth")
    with pytest.raises(ModelError, match="bias has no values in rows and columns"):
        load_weights(nn.Linear(2, 1), tmp_path / "m.pth")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_weights_of_every_precision_become_those_of_the_network(tmp_path, dtype):
    state = linear_state(weight=torch.tensor([[0.5, -3]], dtype=dtype))
    save_state(state, tmp_path / "m.safetensors", {})
    model = load_weights(nn.Linear(2, 1), tmp_path / "m.safetensors")
    assert (model.weight.tolist(), model.weight.dtype) == ([[0.5, -3]], torch.float32)


def test_the_batches_that_a_norm_has_seen_are_whole_numbers(tmp_path):
    norm, path = nn.BatchNorm1d(2), tmp_path / "m.safetensors"
    counted = {**norm.state_dict(), "num_batches_tracked": torch.tensor(7, dtype=torch.int32)}
    save_state(counted, path, {})
    assert load_weights(norm, path).num_batches_tracked == 7
    save_state({**counted, "num_batches_tracked": torch.tensor(7.0)}, path, {})
    with pytest.raises(
        ModelError, match=r"num_batches_tracked has values of the type torch\.float"
    ):
        load_weights(norm, path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[1, 2]", "it is no object"),
        (b'"text"', "it is no object"),
        (b"\xff\xfe{}", "can't decode byte"),
        (b'{"a": ' * 100_000, "recursion|depth"),
        (b'{"a": 1' + b"0" * 5000 + b"}", "integer string conversion"),
    ],
)
def test_a_card_that_is_no_object_of_json_is_refused(tmp_path, content, reason):
    (tmp_path / "m.json").write_bytes(content)
    with pytest.raises(ModelError, match=rf"m\.json is damaged \(.*({reason})"):
        read_card(tmp_path / "m.safetensors")


def test_a_folder_in_the_place_of_a_card_is_refused(tmp_path):
    (tmp_path / "m.json").mkdir()
    os.mkfifo(tmp_path / "pipe.json")
    for name in ("m", "pipe"):
        with pytest.raises(ModelError, match=rf"{name}\.json is missing"):
            read_card(tmp_path / f"{name}.safetensors")


@pytest.mark.parametrize("name", ["a" * 5000, "a\0b", "folder/"])
def test_names_that_no_file_can_have_are_refused(tmp_path, name):
    (tmp_path / "folder").mkdir()
    for read in (read_weights, read_card, lambda path: resolve_weights(path, model="net")):
        with pytest.raises(ModelError, match=r"does not exist|is missing|There are no weights"):
            read(tmp_path / name)


def test_numbers_for_names_are_no_state_dict(tmp_path):
    torch.save({1: torch.ones(1)}, tmp_path / "m.pth")
    with pytest.raises(ModelError, match="is no state dict"):
        read_weights(tmp_path / "m.pth")


def test_members_that_unpack_to_more_than_the_file_are_not_unpacked(tmp_path):
    torch.save({"weight": torch.zeros(1_000_000)}, tmp_path / "whole.pth")
    with (
        zipfile.ZipFile(tmp_path / "whole.pth") as whole,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in whole.namelist():
            bomb.writestr(name, whole.read(name))
    assert (tmp_path / "bomb.pth").stat().st_size < 20_000
    with pytest.raises(ModelError, match=r"its members claim 4\d{6} bytes, more than the file has"):
        read_weights(tmp_path / "bomb.pth")


@pytest.mark.parametrize("kind", ["safetensors", "zip", "old"])
def test_whatever_the_damage_weights_are_read_or_refused_in_a_sentence(tmp_path, kind):
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    path = tmp_path / ("m.safetensors" if kind == "safetensors" else "m.pth")
    if kind == "safetensors":
        save_weights(model, path, {})
    else:
        torch.save(model.state_dict(), path, _use_new_zipfile_serialization=kind == "zip")
    content, generator, n_refused = path.read_bytes(), np.random.default_rng(1), 0
    for _ in range(200):
        path.write_bytes(damaged_at_random(content, generator))
        try:
            load_weights(model, path)
        except ModelError as error:
            n_refused += str(path) in str(error)
        assert all(value.isfinite().all() for value in model.state_dict().values())
    assert n_refused > 100


class _Runs:
    """An object whose pickle makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("is_new", [True, False])
def test_nothing_in_a_file_is_executed(tmp_path, is_new):
    content = {"weight": _Runs(str(tmp_path / "made"))}
    torch.save(content, tmp_path / "m.pth", _use_new_zipfile_serialization=is_new)
    with pytest.raises(ModelError, match="cannot be read as weights"):
        read_weights(tmp_path / "m.pth")
    assert not (tmp_path / "made").exists()
