"""The two networks.

A 2D segmenter (UNet++) and a classifier of slice sequences (CNN, bidirectional LSTM, linear).

Images enter as `normalise` makes them: float, `(..., 3, H, W)`, ImageNet mean and deviation, on the
device of the input. Logits leave. The networks are those of segmentation_models_pytorch and timm;
this module puts them together and freezes parts of them; `weights` saves and loads what they have
learnt.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn

from t4e_utils.learning.weights import (
    ModelError,
    load_strictly,
    load_weights,
    read_card,
    read_weights,
    resolve_weights,
)


def load_network(weights: Path, *, device: str | torch.device = "cpu") -> nn.Module:
    """Build the network that the card beside the weights describes, and load it for inference.

    Its convolutions get the channels-last layout, in which they run about 1.5 times as fast on a
    CPU.
    """
    return load_model(weights).to(device, memory_format=torch.channels_last).eval()


IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of images in 0..1, red green blue
IMAGENET_STD = (0.229, 0.224, 0.225)
UNETPLUSPLUS_CHANNELS = (256, 128, 64, 32, 16)
# norm.1 of torchvision 0.2 is norm1 today
OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")


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
        raise ModelError(
            f"Images are uint8 in 0..255, these are {images.dtype}: use intensity.to_uint8 first."
        )
    if images.ndim < 3 or images.shape[-3] not in (1, 3):
        raise ModelError(
            f"Images are (..., 1 or 3, H, W), these have the shape {tuple(images.shape)}."
        )
    mean = torch.tensor(IMAGENET_MEAN, device=images.device).view(3, 1, 1) * 255
    std = torch.tensor(IMAGENET_STD, device=images.device).view(3, 1, 1) * 255
    return (images.float() - mean) / std


BLACK = normalise(torch.zeros(1, 3, 1, 1, dtype=torch.uint8))


class SequenceClassifier(nn.Module):
    """One logit for a sequence of slices.

    Backbone for each slice, LSTM along them, linear layer over all steps.

    After the T4E team's second stage; the names of the parts are those of its published
    checkpoints.

    Args:
        backbone: maps `(N, 3, H, W)` to `(N, E)`; its `num_features` is E.
        lstm_hidden: size of the LSTM's hidden state in each direction.
        sequence_length: number of steps T; the last layer sees all of them.
    """

    def __init__(self, backbone: nn.Module, *, lstm_hidden: int = 64, sequence_length: int = 35):
        super().__init__()
        self.backbone = backbone
        self.lstm = nn.LSTM(
            backbone.num_features, lstm_hidden, batch_first=True, bidirectional=True
        )
        self.clf_head = nn.Linear(sequence_length * 2 * lstm_hidden, 1)
        self.sequence_length = sequence_length

    def embed(self, images: Tensor) -> Tensor:
        """Embeddings `(N, E)` of normalised images `(N, 3, H, W)`."""
        return self.backbone(images)

    def classify(self, embeddings: Tensor) -> Tensor:
        """Logits `(B,)` of sequences of embeddings `(B, T, E)`."""
        if embeddings.shape[1] != self.sequence_length:
            raise ModelError(
                f"The classifier takes sequences of {self.sequence_length} slices, this one "
                f"has {embeddings.shape[1]}: "
                "fill the end with zero images or cut chunks of that length."
            )
        states, _ = self.lstm(embeddings)
        return self.clf_head(states.flatten(1)).squeeze(1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(B,)` of normalised sequences `(B, T, 3, H, W)`.

        Of the black images that fill short ones, one is embedded.
        """
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
        weights: None (random), `"imagenet"` (encoder only), or a file or folder with weights of the
            whole network or of its encoder.
        classes: number of output channels.
        decoder_channels: of the five decoder stages; small numbers make a small network.
    """
    recipe = {"encoder": encoder, "classes": classes, "decoder_channels": list(decoder_channels)}
    path = resolve_weights(weights, model=encoder)
    pretrained = (
        None if weights != "imagenet" else (True if encoder.startswith("tu-") else "imagenet")
    )
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
        backbone: a name of timm; one without batch statistics keeps a slice's embedding independent
            of its chunk.
        lstm_hidden: the text of the T4E team says 64, its published checkpoints have 128.
        sequence_length: slices of a chunk.
        weights: None (random), `"imagenet"` (backbone only), or a file or folder with weights of
            the whole network or of its backbone.
    """
    recipe = {"backbone": backbone, "lstm_hidden": lstm_hidden, "sequence_length": sequence_length}
    path = resolve_weights(weights, model=backbone)
    network = timm.create_model(backbone, pretrained=weights == "imagenet", num_classes=0)
    model = SequenceClassifier(network, lstm_hidden=lstm_hidden, sequence_length=sequence_length)
    return _finish(model, "classifier", recipe, "backbone", weights, path)


def _finish(
    model: nn.Module,
    kind: str,
    recipe: dict,
    part: str,
    weights: str | os.PathLike | None,
    path: Path | None,
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
        load_strictly(model, state, path)
    else:
        load_strictly(getattr(model, part), _headless(state, getattr(model, part), part), path)


def _headless(state: dict[str, Tensor], module: nn.Module, part: str) -> dict[str, Tensor]:
    """Entries for `module` from a file of the part alone.

    Prefix, ImageNet classifier and old spellings put right.
    """
    head = getattr(module, "pretrained_cfg", {}).get("classifier", "classifier")
    heads = tuple(f"{name}." for name in ([head] if isinstance(head, str) else head))
    state = {key.removeprefix(f"{part}."): value for key, value in state.items()}
    state = {
        OLD_DENSENET.sub(r"\1\2", key): value
        for key, value in state.items()
        if not key.startswith(heads)
    }
    counters = {
        key: value
        for key, value in module.state_dict().items()
        if key.endswith("num_batches_tracked")
    }
    return {**counters, **state}


def blueprint(build: Callable[..., nn.Module], *arguments: Any, **options: Any) -> nn.Module:
    """What `build_segmenter` or `build_classifier` gives, without memory for its weights.

    Names, shapes and recipe only.
    """
    with torch.device("meta"):
        return build(*arguments, **options)


def freeze(module: nn.Module) -> None:
    """Stop gradients of `module` and keep it in evaluation mode, also when its parent's `.train()`
    is called.

    Batch norm then uses, and does not change, its running statistics; dropout is off. `unfreeze`
    undoes it.
    """
    module.requires_grad_(False)
    module.train = functools.partial(_stay_in_evaluation, module)
    module.train()


def _stay_in_evaluation(module: nn.Module, mode: bool = True) -> nn.Module:
    return type(module).train(module, False)


def unfreeze(module: nn.Module) -> None:
    """Undo `freeze`.

    Gradients on, training mode follows the parent again (call the parent's `.train()`).
    """
    module.requires_grad_(True)
    module.__dict__.pop("train", None)


def load_model(path: str | os.PathLike) -> nn.Module:
    """Build the network that the card beside `path` describes and load its weights."""
    card = read_card(path)
    recipe = dict(card.get("model", {}))
    build = {"segmenter": build_segmenter, "classifier": build_classifier}.get(
        recipe.pop("kind", None)
    )
    if build is None:
        card = Path(path).with_suffix(".json")
        raise ModelError(f"{card} does not say which network it is: build it and use load_weights.")
    return load_weights(build(**recipe), path)
