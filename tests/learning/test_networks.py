import copy
import json
from pathlib import Path

import huggingface_hub.constants
import pytest
import safetensors.torch
import timm
import torch
from torch import nn

from t4e_utils.learning.networks import (
    SequenceClassifier,
    build_classifier,
    build_segmenter,
    freeze,
    load_model,
    normalise,
    unfreeze,
)
from t4e_utils.learning.weights import (
    ModelError,
    load_weights,
    read_card,
    resolve_weights,
    save_weights,
)

PUBLISHED = json.loads(
    (Path(__file__).parents[1] / "data" / "t4e_checkpoint_keys.json").read_text()
)


def n_parameters(module):
    return sum(weight.numel() for weight in module.parameters())


def shapes(state):
    return {name: list(value.shape) for name, value in state.items()}


def same(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


def published_file(part, path):
    """A file like those of the T4E team, with every value 0.5, a few kilobytes small as all
    values share their memory.
    """
    whole = {
        k: torch.tensor(0 if k.endswith("num_batches_tracked") else 0.5) for k in PUBLISHED[part]
    }
    torch.save({k: whole[k].expand(shape) for k, shape in PUBLISHED[part].items()}, path)
    return path


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return build_classifier("test_nfnet", lstm_hidden=4, sequence_length=3)


def test_full_segmenter_has_the_published_keys_shapes_and_size():
    with torch.device("meta"):
        model = build_segmenter()
    assert shapes(model.state_dict()) == PUBLISHED["segmentation"]
    assert n_parameters(model) == 30_072_418


def test_full_classifier_has_the_published_keys_and_shapes():
    with torch.device("meta"):
        model = build_classifier(lstm_hidden=128)
    assert shapes(model.state_dict()) == PUBLISHED["classification"]
    assert model.backbone.num_features == 2304


@pytest.mark.parametrize(("hidden", "expected"), [(64, 1_213_440), (128, 2_492_416)])
def test_lstm_has_the_specified_number_of_parameters(hidden, expected):
    with torch.device("meta"):
        assert n_parameters(build_classifier(lstm_hidden=hidden).lstm) == expected


def test_published_files_load_strictly(tmp_path):
    segmenter = load_weights(build_segmenter(), published_file("segmentation", tmp_path / "s.pth"))
    assert all((weight == 0.5).all() for weight in segmenter.parameters())
    classifier = build_classifier(
        lstm_hidden=128, weights=published_file("classification", tmp_path / "c.pth")
    )
    assert all((weight == 0.5).all() for weight in classifier.parameters())


def test_published_classifier_does_not_fit_another_hidden_size(tmp_path):
    path = published_file("classification", tmp_path / "c.pth")
    with torch.device("meta"):
        model = build_classifier(lstm_hidden=64)
    with pytest.raises(ModelError, match=r"it has clf_head.weight \(1, 8960\), not \(1, 4480\)"):
        load_weights(model, path)


def test_normalise_matches_the_table():
    image = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 2)
    expected = [
        [-0.485 / 0.229, 0.515 / 0.229],
        [-0.456 / 0.224, 0.544 / 0.224],
        [-0.406 / 0.225, 0.594 / 0.225],
    ]
    torch.testing.assert_close(normalise(image)[:, 0], torch.tensor(expected))


def test_a_grey_image_is_one_with_three_equal_channels():
    grey = torch.randint(0, 256, (2, 5, 1, 4, 4), dtype=torch.uint8)
    assert torch.equal(normalise(grey), normalise(grey.expand(2, 5, 3, 4, 4)))


def test_normalise_refuses_other_images():
    with pytest.raises(ModelError, match=r"these are torch.float32"):
        normalise(torch.zeros(1, 4, 4))
    with pytest.raises(ModelError, match=r"these have the shape \(2, 4, 4\)"):
        normalise(torch.zeros(2, 4, 4, dtype=torch.uint8))


def test_segmenter_gives_a_logit_for_each_pixel_and_region():
    model = build_segmenter(
        "tu-test_efficientnet", decoder_channels=(8, 8, 8, 8, 4), classes=2
    ).eval()
    with torch.no_grad():
        assert model(torch.zeros(3, 3, 32, 64)).shape == (3, 2, 32, 64)


def test_classifier_is_the_loop_over_slices_written_out(tiny):
    images = torch.rand(2, 3, 3, 32, 32)
    tiny.eval()
    with torch.no_grad():
        embeddings = torch.stack(
            [torch.cat([tiny.embed(image[None]) for image in chunk]) for chunk in images]
        )
        states = tiny.lstm(embeddings)[0].reshape(2, -1)
        expected = states @ tiny.clf_head.weight[0] + tiny.clf_head.bias
        torch.testing.assert_close(tiny(images), expected)


def test_prediction_of_a_chunk_does_not_depend_on_its_batch(tiny):
    images = torch.rand(4, 3, 3, 32, 32)
    tiny.eval()
    with torch.no_grad():
        torch.testing.assert_close(tiny(images), torch.cat([tiny(chunk[None]) for chunk in images]))


def test_embeddings_do_not_depend_on_the_chunk_even_while_training(tiny):
    images = torch.rand(6, 3, 32, 32)
    tiny.train()
    with torch.no_grad():
        torch.testing.assert_close(tiny.embed(images)[:2], tiny.embed(images[:2]))


def test_classifier_refuses_another_sequence_length(tiny):
    with pytest.raises(ModelError, match="sequences of 3 slices, this one has 2"):
        tiny.classify(torch.zeros(1, 2, tiny.backbone.num_features))


def network_with_an_encoder():
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    return nn.ModuleDict({"encoder": encoder, "head": nn.Linear(4, 1)})


def take_a_step(model):
    model.train()
    optimiser = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], lr=0.1)
    model["head"](model["encoder"](torch.randn(8, 4))).square().mean().backward()
    optimiser.step()


def test_frozen_means_parameters_and_buffers_unchanged():
    model = network_with_an_encoder()
    freeze(model["encoder"])
    before = copy.deepcopy(model.state_dict())
    take_a_step(model)
    changed = {
        name for name, value in model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == {"head.weight", "head.bias"}
    assert all(weight.grad is None for weight in model["encoder"].parameters())


def test_unfrozen_means_everything_learns_again():
    model = network_with_an_encoder()
    freeze(model["encoder"])
    unfreeze(model["encoder"])
    before = copy.deepcopy(model.state_dict())
    take_a_step(model)
    assert all(not torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_copy_of_a_frozen_network_is_frozen_by_itself():
    model = network_with_an_encoder()
    freeze(model["encoder"])
    other = copy.deepcopy(model)
    unfreeze(model["encoder"])
    other.train()
    model.train()
    assert not other["encoder"][1].training
    assert model["encoder"][1].training


def test_weights_survive_the_round_trip_with_their_card(tiny, tmp_path):
    path = tmp_path / "new" / "tiny.safetensors"
    save_weights(tiny, path, {"epoch": 3})
    other = load_weights(build_classifier("test_nfnet", lstm_hidden=4, sequence_length=3), path)
    assert same(other.state_dict(), tiny.state_dict())
    assert read_card(path)["epoch"] == 3
    assert sorted(file.name for file in path.parent.iterdir()) == ["tiny.json", "tiny.safetensors"]


def test_the_card_is_enough_to_build_the_network_again(tiny, tmp_path):
    segmenter = build_segmenter("tu-test_efficientnet", decoder_channels=(8, 8, 8, 8, 4), classes=3)
    for model in (tiny, segmenter):
        save_weights(model, tmp_path / "m.safetensors", {})
        other = load_model(tmp_path / "m.safetensors")
        assert same(other.state_dict(), model.state_dict())
        assert other.recipe == model.recipe


def test_a_card_without_a_network_is_refused(tmp_path):
    save_weights(nn.Linear(2, 1), tmp_path / "m.safetensors", {"epoch": 1})
    with pytest.raises(ModelError, match="does not say which network it is"):
        load_model(tmp_path / "m.safetensors")


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


def build_tiny(weights):
    return build_classifier("test_nfnet", lstm_hidden=4, sequence_length=3, weights=weights)


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_training_starts_from_the_backbone_alone(tmp_path, prefix):
    backbone = timm.create_model("test_nfnet")
    torch.save(
        {prefix + name: value for name, value in backbone.state_dict().items()}, tmp_path / "b.pth"
    )
    model = build_tiny(tmp_path / "b.pth")
    assert torch.equal(model.backbone.stem.conv1.weight, backbone.stem.conv1.weight)
    assert model.starts_from == str(tmp_path / "b.pth")


def test_training_starts_from_a_whole_network(tiny, tmp_path):
    save_weights(tiny, tmp_path / "whole.safetensors", {})
    assert same(build_tiny(tmp_path / "whole.safetensors").state_dict(), tiny.state_dict())


def test_training_does_not_start_from_another_backbone(tmp_path):
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "b.pth")
    with pytest.raises(ModelError, match="holds another network's weights"):
        build_tiny(tmp_path / "b.pth")


def test_old_densenet_files_start_the_encoder(tmp_path):
    encoder = build_segmenter().encoder
    old = {"classifier.weight": torch.zeros(1000, 1024), "classifier.bias": torch.zeros(1000)}
    for name, value in encoder.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            spelling = (
                name.replace("norm1", "norm.1")
                .replace("norm2", "norm.2")
                .replace("conv1", "conv.1")
                .replace("conv2", "conv.2")
            )
            old[spelling] = value
    torch.save(old, tmp_path / "densenet121.pth")
    assert same(build_segmenter(weights=tmp_path).encoder.state_dict(), encoder.state_dict())


def test_a_folder_stands_for_the_file_named_like_the_network(tmp_path):
    (tmp_path / "test_nfnet.pth").write_bytes(b"")
    assert resolve_weights(tmp_path, model="tu-test_nfnet") == tmp_path / "test_nfnet.pth"
    with pytest.raises(ModelError, match=r"There are no weights at .*test_resnet.safetensors"):
        resolve_weights(tmp_path, model="test_resnet")


def test_no_weights_are_random_weights():
    assert resolve_weights(None, model="test_nfnet") is None
    assert build_tiny(None).starts_from == "random weights"


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("densenet121", r"smp-hub/densenet121.imagenet/resolve/\w{40}/model.safetensors elsewhere"),
        (
            "eca_nfnet_l0",
            r"timm/eca_nfnet_l0.ra2_in1k/resolve/main/model.safetensors .* as "
            r"eca_nfnet_l0.safetensors",
        ),
    ],
)
def test_without_network_the_error_says_which_file_to_put_where(monkeypatch, tmp_path, name, file):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        ModelError,
        match=f"hub cannot be reached for the ImageNet weights of {name}: fetch .*{file}",
    ):
        resolve_weights("imagenet", model=name)


@pytest.mark.parametrize("name", ["no_such_network", "resnet10t_of_mine"])
def test_networks_without_imagenet_weights_are_refused(name):
    with pytest.raises(ModelError, match=f"no ImageNet weights for '{name}'"):
        resolve_weights("imagenet", model=name)


def test_imagenet_weights_fetched_before_serve_without_network(monkeypatch, tmp_path):
    repository = tmp_path / "models--timm--test_nfnet.r160_in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "snapshots" / ("0" * 40)).mkdir(parents=True)
    weights = timm.create_model("test_nfnet").state_dict()
    safetensors.torch.save_file(
        weights, repository / "snapshots" / ("0" * 40) / "model.safetensors"
    )
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    model = build_tiny("imagenet")
    assert torch.equal(model.backbone.stem.conv1.weight, weights["stem.conv1.weight"])
    assert model.starts_from == "imagenet"


def test_the_sequence_classifier_takes_any_backbone_that_tells_its_features():
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    backbone.num_features = 5
    model = SequenceClassifier(backbone, lstm_hidden=2, sequence_length=4)
    assert model(torch.zeros(6, 4, 3, 2, 2)).shape == (6,)
