"""Networks from recipes: what goes in, what comes out, and that a card is enough to have them."""

import json
import pickle
from dataclasses import asdict, replace
from pathlib import Path

import huggingface_hub.constants
import pytest
import safetensors.torch
import timm
import torch
from helpers.training_runs import CLASSIFIER, same_weights
from torch import nn

from t4e_utils.learning import ModelError
from t4e_utils.learning.networks import (
    KINDS,
    Recipe,
    blueprint,
    build,
    load_network,
    with_precision,
)
from t4e_utils.learning.parts import NORMALISATIONS, Normalise, SequenceClassifier
from t4e_utils.learning.weights import load_strictly, save_weights
from t4e_utils.sampling.squares import Square

PUBLISHED = json.loads(
    (Path(__file__).parents[1] / "data" / "t4e_checkpoint_keys.json").read_text()
)
NARROW = {"decoder_channels": [8, 8, 8, 8, 4]}
FULL_SEGMENTER = Recipe("unet++", "densenet121", n_outputs=2)
FULL_CLASSIFIER = Recipe(
    "sequence", "eca_nfnet_l0", options={"lstm_hidden": 128, "sequence_length": 35}
)
# of each kind a small one, the shape of its input and that of its output
SMALL = {
    "unet": (
        Recipe("unet", "tu-test_resnet", 4, 3, options=NARROW, normalisation="unit"),
        (2, 4, 32, 64),
        (2, 3, 32, 64),
    ),
    "unet++": (
        Recipe("unet++", "tu-test_efficientnet", n_outputs=2, options=NARROW),
        (3, 1, 32, 64),
        (3, 2, 32, 64),
    ),
    "image": (Recipe("image", "test_resnet", n_outputs=6), (2, 3, 32, 32), (2, 6)),
    "sequence": (CLASSIFIER, (2, 3, 3, 32, 32), (2,)),
}
every_kind = pytest.mark.parametrize(("recipe", "shape", "expected"), SMALL.values(), ids=SMALL)


def n_parameters(module):
    return sum(weight.numel() for weight in module.parameters())


def shapes(state):
    return {name: list(value.shape) for name, value in state.items()}


def pictures(*shape):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def seeded(recipe):
    torch.manual_seed(0)
    return build(recipe).eval()


@pytest.fixture(scope="module")
def tiny():
    return seeded(CLASSIFIER)


# --- every kind


def test_every_kind_is_tested():
    assert set(SMALL) == set(KINDS)


@every_kind
@torch.no_grad()
def test_a_network_gives_logits_of_the_specified_shape(recipe, shape, expected):
    logits = seeded(recipe)(pictures(*shape))
    assert (tuple(logits.shape), logits.dtype) == (expected, torch.float32)
    assert logits.isfinite().all()


@every_kind
@torch.no_grad()
def test_weights_load_strictly_into_a_twin_and_hold_no_normalisation(recipe, shape, expected):
    torch.manual_seed(0)
    model, twin = build(recipe).eval(), build(recipe).eval()
    assert not [name for name in model.state_dict() if "normalise" in name]
    assert not same_weights(model, twin)
    load_strictly(twin, model.state_dict(), Path("twin"))
    assert torch.equal(twin(pictures(*shape)), model(pictures(*shape)))


@every_kind
@torch.no_grad()
def test_a_copy_for_another_process_is_the_same_network(recipe, shape, expected):
    model = seeded(recipe)
    copy = pickle.loads(pickle.dumps(model))
    assert same_weights(copy, model)
    assert torch.equal(copy(pictures(*shape)), model(pictures(*shape)))
    assert (copy.recipe, copy.frozen_part, copy.starts_from) == (
        recipe,
        model.frozen_part,
        "random weights",
    )


@every_kind
@torch.no_grad()
def test_the_card_is_enough_to_have_the_same_network_again(recipe, shape, expected, tmp_path):
    recipe = replace(recipe, size=64, is_stretched=True, percentiles=(1, 99), precision="bf16")
    model, path = seeded(recipe), tmp_path / "m.safetensors"
    save_weights(model, path, {"epoch": 3})
    loaded = load_network(path)
    assert loaded.recipe == recipe
    assert same_weights(loaded, model)
    assert not loaded.training
    assert loaded.starts_from == str(path)
    model = model.to(memory_format=torch.channels_last)
    assert torch.equal(loaded(pictures(*shape)), model(pictures(*shape)))


@every_kind
def test_the_input_of_every_kind_is_uint8(recipe, shape, expected):
    with pytest.raises(ModelError, match=r"Images are uint8 in 0..255, these are torch.float32"):
        seeded(recipe)(torch.zeros(shape))


@every_kind
def test_the_part_that_a_warm_up_freezes_is_there(recipe, shape, expected):
    model = blueprint(recipe)
    assert {weight.device.type for weight in model.parameters()} == {"meta"}
    assert model.frozen_part == {"image": "", "sequence": "backbone"}.get(recipe.kind, "encoder")
    assert not model.frozen_part or n_parameters(getattr(model, model.frozen_part))


@torch.no_grad()
def test_a_network_of_a_library_sees_what_normalise_makes_of_a_picture():
    model, seen = seeded(SMALL["unet++"][0]), []
    model.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    images = pictures(2, 1, 32, 32)
    model(images)
    assert torch.equal(seen[0], Normalise("imagenet", 3)(images))


# --- the published networks


def test_full_segmenter_has_the_published_keys_shapes_and_size():
    model = blueprint(FULL_SEGMENTER)
    assert shapes(model.state_dict()) == PUBLISHED["segmentation"]
    assert n_parameters(model) == 30_072_418


def test_full_classifier_has_the_published_keys_and_shapes():
    model = blueprint(FULL_CLASSIFIER)
    assert shapes(model.state_dict()) == PUBLISHED["classification"]
    assert model.backbone.num_features == 2304


@pytest.mark.parametrize(("hidden", "expected"), [(64, 1_213_440), (128, 2_492_416)])
def test_lstm_has_the_specified_number_of_parameters(hidden, expected):
    options = {"lstm_hidden": hidden, "sequence_length": 35}
    assert n_parameters(blueprint(replace(FULL_CLASSIFIER, options=options)).lstm) == expected


# --- normalisation


def test_normalise_matches_the_table():
    image = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 2)
    expected = [
        [-0.485 / 0.229, 0.515 / 0.229],
        [-0.456 / 0.224, 0.544 / 0.224],
        [-0.406 / 0.225, 0.594 / 0.225],
    ]
    torch.testing.assert_close(Normalise("imagenet", 3)(image)[:, 0], torch.tensor(expected))
    assert Normalise("unit", 2)(image).tolist() == [[[0, 1]], [[0, 1]]]


@pytest.mark.parametrize("kind", NORMALISATIONS)
def test_a_grey_image_is_one_with_three_equal_channels(kind):
    grey, normalise = pictures(2, 5, 1, 4, 4), Normalise(kind, 3)
    assert torch.equal(normalise(grey), normalise(grey.expand(2, 5, 3, 4, 4)))
    assert normalise(grey).shape == (2, 5, 3, 4, 4)


def test_normalise_has_no_weights_and_nothing_to_save():
    normalise = Normalise("imagenet", 3)
    assert not normalise.state_dict()
    assert not list(normalise.parameters())


def test_normalise_refuses_other_images():
    normalise = Normalise("imagenet", 3)
    with pytest.raises(ModelError, match=r"these are torch.float32: use intensity.to_uint8"):
        normalise(torch.zeros(1, 4, 4))
    for shape in [(2, 4, 4), (4, 4)]:
        with pytest.raises(ModelError, match=r"Images are \(..., 1 or 3, H, W\), these have"):
            normalise(torch.zeros(shape, dtype=torch.uint8))


def test_normalisations_that_do_not_exist_or_fit_are_refused():
    with pytest.raises(ModelError, match="normalisation 'z' is not known: choose one of imagenet"):
        Normalise("z", 3)
    with pytest.raises(ModelError, match="'imagenet' is for 3 channels, and the network has 4"):
        build(replace(SMALL["unet"][0], normalisation="imagenet"))


# --- sequences


@torch.no_grad()
def test_classifier_is_the_loop_over_slices_written_out(tiny):
    images = pictures(2, 3, 3, 32, 32)
    embeddings = torch.stack(
        [torch.cat([tiny.embed(image[None]) for image in chunk]) for chunk in images]
    )
    states = tiny.lstm(embeddings)[0].reshape(2, -1)
    expected = states @ tiny.clf_head.weight[0] + tiny.clf_head.bias
    torch.testing.assert_close(tiny(images), expected)


@pytest.mark.parametrize("n_shown", [0, 1, 2])
@torch.no_grad()
def test_black_images_at_the_end_are_embedded_like_any_other(tiny, n_shown):
    images = pictures(2, 3, 3, 32, 32)
    images[1, n_shown:] = 0
    embeddings = torch.stack([tiny.embed(chunk) for chunk in images])
    torch.testing.assert_close(tiny(images), tiny.classify(embeddings))
    torch.testing.assert_close(tiny(images[1:]), tiny.classify(embeddings[1:]))


@torch.no_grad()
def test_prediction_of_a_chunk_does_not_depend_on_its_batch(tiny):
    images = pictures(4, 3, 3, 32, 32)
    torch.testing.assert_close(tiny(images), torch.cat([tiny(chunk[None]) for chunk in images]))


@torch.no_grad()
def test_embeddings_do_not_depend_on_the_chunk_even_while_training(tiny):
    images = pictures(6, 3, 32, 32)
    tiny.train()
    torch.testing.assert_close(tiny.embed(images)[:2], tiny.embed(images[:2]))
    tiny.eval()


def test_classifier_refuses_another_sequence_length(tiny):
    with pytest.raises(ModelError, match="sequences of 3 slices, this one has 2"):
        tiny.classify(torch.zeros(1, 2, tiny.backbone.num_features))


def test_the_sequence_classifier_takes_any_backbone_that_tells_its_features():
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    backbone.num_features = 5
    normalise = Normalise("unit", 3)
    model = SequenceClassifier(backbone, normalise, lstm_hidden=2, sequence_length=4)
    assert model(pictures(6, 4, 3, 2, 2)).shape == (6,)


# --- recipes and cards


@every_kind
def test_a_recipe_comes_back_from_its_card(recipe, shape, expected):
    assert Recipe.from_card(json.loads(json.dumps(asdict(recipe)))) == recipe


def test_a_card_states_only_what_differs():
    recipe = Recipe.from_card({"kind": "image", "backbone": "test_resnet", "size": 64})
    assert recipe == Recipe("image", "test_resnet", size=64)
    assert recipe.square == Square(64)


@pytest.mark.parametrize(
    "stated",
    [
        {},
        {"backbone": "test_resnet"},
        {"kind": "image"},
        {"kind": "segmenter", "backbone": "test_resnet"},
        {"kind": "image", "backbone": "test_resnet", "encoder": "test_resnet"},
    ],
)
def test_a_card_with_unknown_or_missing_keys_is_no_recipe(stated):
    with pytest.raises(ModelError, match=r"which is no recipe: it needs a kind \(unet, unet\+\+"):
        Recipe.from_card(stated)


@pytest.mark.parametrize("card", [{"epoch": 1}, {"model": None}, {"model": "unet"}])
def test_a_card_without_a_network_is_refused(tmp_path, card):
    save_weights(nn.Linear(2, 1), tmp_path / "m.safetensors", card)
    with pytest.raises(ModelError, match=r"m\.json does not say which network it is: train it"):
        load_network(tmp_path / "m.safetensors")


def test_a_network_predicts_in_another_precision_if_wanted():
    model = blueprint(CLASSIFIER)
    assert with_precision(model, "").recipe.precision == "fp32"
    assert with_precision(model, "bf16") is model
    assert model.recipe == replace(CLASSIFIER, precision="bf16")


def test_an_unknown_kind_is_refused():
    with pytest.raises(ModelError, match="kind 'resnet' is not known: choose one of unet, unet"):
        build(Recipe("resnet", "test_resnet"))


@pytest.mark.parametrize(
    ("recipe", "sentence"),
    [
        (Recipe("image", "no_such"), r"'image' on 'no_such' cannot be built \(Unknown model"),
        (Recipe("unet", "no_such"), "'unet' on 'no_such' cannot be built .*Wrong encoder name"),
        (Recipe("sequence", "test_nfnet"), "lstm_hidden is missing.*: correct the backbone, or"),
        (
            Recipe("image", "test_resnet", options={"depth": 3}),
            r"depth is not known.* the options \{'depth'",
        ),
    ],
)
def test_backbones_and_options_that_do_not_exist_are_refused(recipe, sentence):
    with pytest.raises(ModelError, match=sentence):
        build(recipe)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"kind": ["unet"]}, "kind is "),
        ({"backbone": None}, "backbone is None"),
        ({"n_inputs": 10**9}, "n_inputs is 1000000000, and should be less than"),
        ({"n_outputs": 0}, "n_outputs is 0"),
        ({"size": 10**9}, "size is 1000000000"),
        ({"size": 64.0}, r"size is 64\.0"),
        ({"is_stretched": "no"}, "is_stretched is 'no'"),
        ({"percentiles": [99, 1]}, r"percentiles are \(99\.0, 1\.0\), and should ascend"),
        ({"percentiles": [0.5, float("nan")]}, r"percentiles\.1 is nan"),
        ({"percentiles": 3}, "percentiles is 3"),
        ({"precision": "int4"}, "precision is 'int4'"),
        ({"options": [1]}, r"options is \[1\]"),
    ],
)
def test_a_card_with_a_value_that_makes_no_sense_is_no_recipe(tmp_path, changes, sentence):
    stated = {"kind": "image", "backbone": "test_resnet", **changes}
    save_weights(nn.Linear(2, 1), tmp_path / "m.safetensors", {"model": stated})
    if "nan" in sentence:  # which is written as null
        with pytest.raises(ModelError, match=sentence):
            Recipe.from_card(stated)
        return
    with pytest.raises(ModelError, match=rf"m\.json describes the network as .*{sentence}"):
        load_network(tmp_path / "m.safetensors")


@pytest.fixture
def nothing_fetched(monkeypatch):
    """Neither the network nor a folder is looked at for a network's description."""

    def refuse(*_, **__):
        raise AssertionError("looked for it")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("timm.models._factory.load_model_config_from_hf", refuse)
    monkeypatch.setattr("timm.models._factory.load_model_config_from_path", refuse)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name",
    [
        "hf-hub:timm/resnet18",
        "hf_hub:timm/resnet18",
        "local-dir:/tmp",
        "https://example.org/resnet18",
        "/tmp/resnet18",
        "../resnet18",
        "timm/resnet18",
        "",
    ],
)
@pytest.mark.parametrize("weights", ["", "imagenet"])
@pytest.mark.usefixtures("nothing_fetched")
def test_only_networks_that_the_libraries_hold_are_built(kind, name, weights):
    sizes = {"lstm_hidden": 2, "sequence_length": 2} if kind == "sequence" else {}
    for spelling in (name, f"tu-{name}", f"timm-regnet{name}"):
        with pytest.raises(ModelError, match=r"Unknown model|Wrong encoder name"):
            build(Recipe(kind, spelling, options=sizes), weights=weights)


@pytest.mark.parametrize(
    ("recipe", "sentence"),
    [
        (
            Recipe("image", "test_resnet", options={"checkpoint_path": "a.pth"}),
            "checkpoint_path is",
        ),
        (Recipe("image", "test_resnet", options={"pretrained_cfg": {}}), "pretrained_cfg is not"),
        (Recipe("image", "test_resnet", options={"drop_rate": 2}), "drop_rate is 2"),
        (replace(SMALL["unet"][0], size=100), "size is 100, and should be a multiple of 32"),
        (Recipe("unet", "resnet18", options={"decoder_channels": [10**9] * 5}), "channels.0 is 10"),
        (Recipe("unet", "resnet18", options={"decoder_channels": [8, 8]}), "cannot be built"),
        (
            replace(CLASSIFIER, options={"lstm_hidden": 10**9, "sequence_length": 3}),
            "lstm_hidden is 1000000000",
        ),
    ],
)
def test_options_outside_the_known_ones_are_refused(recipe, sentence):
    with pytest.raises(ModelError, match=sentence):
        build(recipe)


def test_options_of_an_image_classifier_reach_it():
    model = build(replace(SMALL["image"][0], options={"drop_rate": 0.25}))
    assert model.drop_rate == 0.25


def test_a_card_with_a_network_that_nobody_knows_is_named(tmp_path):
    path = tmp_path / "m.safetensors"
    save_weights(seeded(SMALL["image"][0]), path, {})
    odd = {**asdict(SMALL["image"][0]), "backbone": "test_byobnTt"}
    (tmp_path / "m.json").write_text(json.dumps({"model": odd}))
    with pytest.raises(ModelError, match=r"/m\.json describes .*Unknown model 'test_byobnTt'"):
        load_network(path)


def test_sizes_that_a_card_only_claims_take_no_memory(tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    save_weights(seeded(SMALL["image"][0]), path, {})
    large = {**asdict(SMALL["image"][0]), "n_outputs": 8192}
    (tmp_path / "m.json").write_text(json.dumps({"model": large}))
    made = []
    monkeypatch.setattr(nn.init, "kaiming_uniform_", lambda weight, **_: made.append(weight))
    with pytest.raises(ModelError, match=r"it has fc\.bias \(6,\), not \(8192,\)"):
        load_network(path)
    assert {weight.device.type for weight in made} == {"meta"}


# --- weights to start from


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """Nothing can be fetched, and this folder is the memory of what was fetched before."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("recipe", "file"),
    [
        (FULL_SEGMENTER, "densenet121.safetensors"),
        (SMALL["unet"][0], "test_resnet.safetensors"),
        (SMALL["image"][0], "test_resnet.safetensors"),
        (FULL_CLASSIFIER, "eca_nfnet_l0.safetensors"),
    ],
)
@pytest.mark.usefixtures("no_network")
def test_without_network_one_sentence_says_where_to_put_imagenet_weights(recipe, file):
    with pytest.raises(ModelError) as caught:
        build(recipe, weights="imagenet")
    sentence = str(caught.value)
    assert sentence.startswith(f"The ImageNet weights of '{recipe.backbone}' cannot be had (")
    assert f"put them into a folder as {file} and give that folder as weights" in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize("name", ["no_such_network", "cs3darknet_s"])
@pytest.mark.usefixtures("no_network")
def test_networks_without_imagenet_weights_are_refused(name):
    with pytest.raises(ModelError, match=f"ImageNet weights of '{name}' cannot be had"):
        build(Recipe("image", name), weights="imagenet")


def test_imagenet_weights_fetched_before_serve_without_network(no_network):
    repository = no_network / "models--timm--test_nfnet.r160_in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "snapshots" / ("0" * 40)).mkdir(parents=True)
    weights = timm.create_model("test_nfnet").state_dict()
    safetensors.torch.save_file(
        weights, repository / "snapshots" / ("0" * 40) / "model.safetensors"
    )
    model = build(CLASSIFIER, weights="imagenet")
    assert torch.equal(model.backbone.stem.conv1.weight, weights["stem.conv1.weight"])
    assert model.starts_from == "imagenet"


def test_no_weights_are_random_weights():
    assert build(CLASSIFIER).starts_from == "random weights"


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_training_starts_from_the_backbone_alone(tmp_path, prefix):
    backbone, path = timm.create_model("test_nfnet"), tmp_path / "b.pth"
    torch.save({prefix + name: value for name, value in backbone.state_dict().items()}, path)
    model = build(CLASSIFIER, weights=path)
    assert torch.equal(model.backbone.stem.conv1.weight, backbone.stem.conv1.weight)
    assert model.starts_from == str(path)


@every_kind
def test_training_starts_from_a_whole_network(recipe, shape, expected, tmp_path):
    model = seeded(recipe)
    save_weights(model, tmp_path / "whole.safetensors", {})
    assert same_weights(build(recipe, weights=tmp_path / "whole.safetensors"), model)


def test_a_classifier_of_images_starts_from_imagenet_weights_but_its_own_last_layer(tmp_path):
    imagenet = timm.create_model("test_resnet").state_dict()
    torch.save(imagenet, tmp_path / "test_resnet.pth")
    state = build(SMALL["image"][0], weights=tmp_path).state_dict()
    assert state["fc.weight"].shape[0] == 6
    assert all(
        torch.equal(state[name], imagenet[name]) for name in state if not name.startswith("fc.")
    )


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet"])
def test_an_encoder_of_timm_starts_from_the_file_that_timm_gives(tmp_path, name):
    imagenet = timm.create_model(name).state_dict()
    torch.save(imagenet, tmp_path / f"{name}.pth")
    recipe = Recipe("unet", f"tu-{name}", options={"decoder_channels": (16, 12, 8, 8, 8)})
    state = build(recipe, weights=tmp_path).encoder.state_dict()
    assert len(state) >= 80
    assert all(torch.equal(own, imagenet[key.removeprefix("model.")]) for key, own in state.items())
    other = {"test_efficientnet": "test_resnet", "test_resnet": "test_efficientnet"}[name]
    torch.save(timm.create_model(other).state_dict(), tmp_path / f"{name}.pth")
    with pytest.raises(ModelError, match="holds another network's weights"):
        build(recipe, weights=tmp_path)


@pytest.mark.parametrize("kind", ["image", "sequence"])
def test_training_does_not_start_from_another_backbone(tmp_path, kind):
    torch.save(timm.create_model("test_efficientnet").state_dict(), tmp_path / "b.pth")
    with pytest.raises(ModelError, match="holds another network's weights"):
        build(SMALL[kind][0], weights=tmp_path / "b.pth")


def test_old_densenet_files_start_the_encoder(tmp_path):
    encoder = build(FULL_SEGMENTER).encoder
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
    assert same_weights(build(FULL_SEGMENTER, weights=tmp_path).encoder, encoder)
