"""The two networks: a 2D segmenter (UNet++) and a classifier of slice sequences (CNN, bidirectional LSTM, linear).

Images enter as `normalise` makes them: float, `(..., 3, H, W)`, ImageNet mean and deviation, on the device of the
input. Logits leave. The networks are those of segmentation_models_pytorch and timm; this module puts them together,
freezes parts of them, and saves and loads their weights strictly: safetensors with a JSON card beside them, or the
`.pth` state dicts that others published.
"""

from __future__ import annotations

import functools
import json
import os
import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import segmentation_models_pytorch as smp
import timm
import torch
from huggingface_hub import hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from t4e_utils import T4EError
from t4e_utils.runs import write_json

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of images in 0..1, red green blue
IMAGENET_STD = (0.229, 0.224, 0.225)
UNETPLUSPLUS_CHANNELS = (256, 128, 64, 32, 16)
OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")  # norm.1 of torchvision 0.2 is norm1 today
WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")


class ModelError(T4EError):
    """A network or its weights are not what was asked for."""


def normalise(images: Tensor) -> Tensor:
    """Bring 8-bit images to what ImageNet networks expect.

    Args:
        images: uint8 `(..., 1, H, W)` grey or `(..., 3, H, W)`, on any device.

    Returns:
        float32 `(..., 3, H, W)` on the same device; a grey channel is repeated.

    Raises:
        ModelError: if the images are not uint8 or have another number of channels.
    """
    if images.dtype != torch.uint8:
        raise ModelError(f"Images are uint8 in 0..255, these are {images.dtype}: use intensity.to_uint8 first.")
    if images.ndim < 3 or images.shape[-3] not in (1, 3):
        raise ModelError(f"Images are (..., 1 or 3, H, W), these have the shape {tuple(images.shape)}.")
    mean = torch.tensor(IMAGENET_MEAN, device=images.device).view(3, 1, 1) * 255
    std = torch.tensor(IMAGENET_STD, device=images.device).view(3, 1, 1) * 255
    return (images.float() - mean) / std


BLACK = normalise(torch.zeros(1, 3, 1, 1, dtype=torch.uint8))


class SequenceClassifier(nn.Module):
    """One logit for a sequence of slices: backbone for each slice, LSTM along them, linear layer over all steps.

    After the T4E team's second stage; the names of the parts are those of its published checkpoints.

    Args:
        backbone: maps `(N, 3, H, W)` to `(N, E)`; its `num_features` is E.
        lstm_hidden: size of the LSTM's hidden state in each direction.
        sequence_length: number of steps T; the last layer sees all of them.
    """

    def __init__(self, backbone: nn.Module, *, lstm_hidden: int = 64, sequence_length: int = 35):
        super().__init__()
        self.backbone = backbone
        self.lstm = nn.LSTM(backbone.num_features, lstm_hidden, batch_first=True, bidirectional=True)
        self.clf_head = nn.Linear(sequence_length * 2 * lstm_hidden, 1)
        self.sequence_length = sequence_length

    def embed(self, images: Tensor) -> Tensor:
        """Embeddings `(N, E)` of normalised images `(N, 3, H, W)`."""
        return self.backbone(images)

    def classify(self, embeddings: Tensor) -> Tensor:
        """Logits `(B,)` of sequences of embeddings `(B, T, E)`."""
        if embeddings.shape[1] != self.sequence_length:
            raise ModelError(
                f"The classifier takes sequences of {self.sequence_length} slices, this one has {embeddings.shape[1]}: "
                "fill the end with zero images or cut chunks of that length."
            )
        states, _ = self.lstm(embeddings)
        return self.clf_head(states.flatten(1)).squeeze(1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(B,)` of normalised sequences `(B, T, 3, H, W)`; of the black images that fill short ones, one is embedded."""
        frames = images.flatten(0, 1)
        is_filled = (frames != BLACK.to(frames)).flatten(1).any(1)
        if is_filled.all():
            embeddings = self.embed(frames)
        else:
            place = torch.where(is_filled, is_filled.cumsum(0) - 1, -1)
            embeddings = self.embed(torch.cat([frames[is_filled], frames[~is_filled][:1]]))[place]
        return self.classify(embeddings.unflatten(0, images.shape[:2]))


def build_segmenter(
    encoder: str = "densenet121",
    *,
    weights: str | os.PathLike | None = None,
    classes: int = 2,
    decoder_channels: Sequence[int] = UNETPLUSPLUS_CHANNELS,
) -> smp.UnetPlusPlus:
    """UNet++ for 3-channel images whose sides are multiples of 32; logits `(B, classes, H, W)`.

    Args:
        encoder: a name of segmentation_models_pytorch, or `tu-` and a name of timm.
        weights: None (random), `"imagenet"` (encoder only), or a file or folder with weights of the whole network
            or of its encoder.
        classes: number of output channels.
        decoder_channels: of the five decoder stages; small numbers make a small network.
    """
    recipe = {"encoder": encoder, "classes": classes, "decoder_channels": list(decoder_channels)}
    path = resolve_weights(weights, model=encoder)
    pretrained = None if weights != "imagenet" else (True if encoder.startswith("tu-") else "imagenet")
    model = smp.UnetPlusPlus(
        encoder,
        encoder_weights=pretrained,
        decoder_channels=list(decoder_channels),
        in_channels=3,
        classes=classes,
    )
    return _finish(model, "segmenter", recipe, "encoder", weights, path)


def build_classifier(
    backbone: str = "eca_nfnet_l0",
    *,
    lstm_hidden: int = 64,
    sequence_length: int = 35,
    weights: str | os.PathLike | None = None,
) -> SequenceClassifier:
    """Sequence classifier over a timm backbone.

    Args:
        backbone: a name of timm; one without batch statistics keeps a slice's embedding independent of its chunk.
        lstm_hidden: the text of the T4E team says 64, its published checkpoints have 128.
        sequence_length: slices of a chunk.
        weights: None (random), `"imagenet"` (backbone only), or a file or folder with weights of the whole network
            or of its backbone.
    """
    recipe = {"backbone": backbone, "lstm_hidden": lstm_hidden, "sequence_length": sequence_length}
    path = resolve_weights(weights, model=backbone)
    network = timm.create_model(backbone, pretrained=weights == "imagenet", num_classes=0)
    model = SequenceClassifier(network, lstm_hidden=lstm_hidden, sequence_length=sequence_length)
    return _finish(model, "classifier", recipe, "backbone", weights, path)


def _finish(
    model: nn.Module, kind: str, recipe: dict, part: str, weights: str | os.PathLike | None, path: Path | None
) -> nn.Module:
    if weights is not None and weights != "imagenet":
        _load_start(model, part, path)
    model.recipe = {"kind": kind, **recipe}
    model.starts_from = "random weights" if weights is None else str(weights)
    return model


def _load_start(model: nn.Module, part: str, path: Path) -> None:
    """Weights of the whole network if the names say so, else of its encoder or backbone alone."""
    state = read_weights(path)
    parts = {key.split(".")[0] for key in state}
    if part in parts and len(parts) > 1:
        _load_strictly(model, state, path)
    else:
        _load_strictly(getattr(model, part), _headless(state, getattr(model, part), part), path)


def _headless(state: dict[str, Tensor], module: nn.Module, part: str) -> dict[str, Tensor]:
    """Entries for `module` from a file of the part alone: prefix, ImageNet classifier and old spellings put right."""
    head = getattr(module, "pretrained_cfg", {}).get("classifier", "classifier")
    heads = tuple(f"{name}." for name in ([head] if isinstance(head, str) else head))
    state = {key.removeprefix(f"{part}."): value for key, value in state.items()}
    state = {OLD_DENSENET.sub(r"\1\2", key): value for key, value in state.items() if not key.startswith(heads)}
    counters = {key: value for key, value in module.state_dict().items() if key.endswith("num_batches_tracked")}
    return {**counters, **state}


def freeze(module: nn.Module) -> None:
    """Stop gradients of `module` and keep it in evaluation mode, also when its parent's `.train()` is called.

    Batch norm then uses, and does not change, its running statistics; dropout is off. `unfreeze` undoes it.
    """
    module.requires_grad_(False)
    module.train = functools.partial(_stay_in_evaluation, module)
    module.train()


def _stay_in_evaluation(module: nn.Module, mode: bool = True) -> nn.Module:
    return type(module).train(module, False)


def unfreeze(module: nn.Module) -> None:
    """Undo `freeze`: gradients on, training mode follows the parent again (call the parent's `.train()`)."""
    module.requires_grad_(True)
    module.__dict__.pop("train", None)


def save_weights(model: nn.Module, path: str | os.PathLike, card: Mapping) -> None:
    """Write weights as safetensors and `card` as JSON beside them; each file appears complete or not at all.

    Args:
        model: its state dict is written; its `recipe`, if it has one, goes into the card under `"model"`.
        path: ends in `.safetensors`.
        card: what a reader needs to know: data, settings, figures; anything JSON can hold.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    save_file(state, _temporary(path))
    os.replace(_temporary(path), path)
    recipe = {"model": model.recipe} if hasattr(model, "recipe") else {}
    write_json({**recipe, **card}, path.with_suffix(".json"))


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def load_weights(model: nn.Module, path: str | os.PathLike) -> nn.Module:
    """Load a whole network's weights into `model`, in place; names and shapes must agree exactly.

    Raises:
        ModelError: if the file is missing, damaged, no state dict, or of another network.
    """
    _load_strictly(model, read_weights(path), Path(path))
    model.starts_from = str(path)
    return model


def _load_strictly(model: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    own = model.state_dict()
    missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    shapes = [
        f"{name} {tuple(state[name].shape)}, not {tuple(own[name].shape)}"
        for name in sorted(own.keys() & state.keys())
        if own[name].shape != state[name].shape
    ]
    for what, names in (("it lacks", missing), ("it should not have", extra), ("it has", shapes)):
        if names:
            raise ModelError(
                f"{path} holds another network's weights: {what} {names[0]} ({len(names)} of {len(own)} entries "
                "are wrong in this way). Build the network with the settings that the file was saved with."
            )
    model.load_state_dict(state)


def load_model(path: str | os.PathLike) -> nn.Module:
    """Build the network that the card beside `path` describes and load its weights."""
    card = read_card(path)
    recipe = dict(card.get("model", {}))
    build = {"segmenter": build_segmenter, "classifier": build_classifier}.get(recipe.pop("kind", None))
    if build is None:
        card = Path(path).with_suffix(".json")
        raise ModelError(f"{card} does not say which network it is: build it and use load_weights.")
    return load_weights(build(**recipe), path)


def read_card(path: str | os.PathLike) -> dict:
    """The JSON card beside the weights at `path`."""
    card = Path(path).with_suffix(".json")
    try:
        return json.loads(card.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{card} is missing: the card belongs beside {Path(path).name}.") from None
    except json.JSONDecodeError as error:
        raise ModelError(f"{card} is damaged ({error}): write the weights again.") from None


def read_weights(path: str | os.PathLike) -> dict[str, Tensor]:
    """State dict in a `.safetensors` file, or in a file of torch (read with `weights_only=True`), on the CPU.

    Raises:
        ModelError: if the file is missing, damaged, or no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path} does not exist: train first, or put the weights there.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"{path} cannot be read as weights, it is truncated or no such file ({reason}): fetch it again."
        ) from None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError(f"{path} is no state dict (names to tensors): save model.state_dict().")
    return dict(state)


def resolve_weights(weights: str | os.PathLike | None, *, model: str) -> Path | None:
    """File that `weights` stands for.

    Args:
        weights: None; `"imagenet"` (fetched from the hub); a file; or a folder with `<model>.safetensors` (or .pth,
            .pt, .bin).
        model: name of the encoder or backbone.

    Raises:
        ModelError: if there is no such file, or the hub cannot be reached.
    """
    if weights is None:
        return None
    if weights == "imagenet":
        return _fetch_imagenet(model)
    path = Path(weights)
    if path.is_dir():
        files = [path / f"{model.removeprefix('tu-')}{suffix}" for suffix in WEIGHT_SUFFIXES]
        path = next((file for file in files if file.is_file()), files[0])
    if not path.is_file():
        raise ModelError(f"There are no weights at {path}: put the file there, or start from random ones (None).")
    return path


def _fetch_imagenet(model: str) -> Path:
    repo, revision = _hub_place(model)
    cached = try_to_load_from_cache(repo, "model.safetensors", revision=revision)
    if isinstance(cached, str):
        return Path(cached)
    try:
        return Path(hf_hub_download(repo, "model.safetensors", revision=revision))
    except LocalEntryNotFoundError:
        name = f"{model.removeprefix('tu-')}.safetensors"
        raise ModelError(
            f"The hub cannot be reached for the ImageNet weights of {model}: fetch "
            f"https://huggingface.co/{repo}/resolve/{revision or 'main'}/model.safetensors elsewhere, put it "
            f"into a folder as {name} and give that folder as weights, or start from random ones (None)."
        ) from None


def _hub_place(model: str) -> tuple[str, str | None]:
    """Repository and revision of ImageNet weights on the Hugging Face hub."""
    settings = smp.encoders.encoders.get(model, {}).get("pretrained_settings", {})
    if "imagenet" in settings:
        return settings["imagenet"]["repo_id"], settings["imagenet"]["revision"]
    name = model.removeprefix("tu-")
    config = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    if config is None or not config.has_weights:
        raise ModelError(f"There are no ImageNet weights for {model!r}: give None or the path of a file.")
    return f"timm/{config.architecture}.{config.tag}", None
