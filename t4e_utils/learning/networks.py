"""Networks from recipes, with the normalisation of their input inside.

Stored pictures enter, uint8 `(..., C, H, W)`; logits leave. The networks are those of
segmentation_models_pytorch and timm; this module puts them together. A recipe stands on the card
beside the weights, so that whoever predicts sees what the network saw in training.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn

from t4e_utils.learning import ModelError
from t4e_utils.learning.weights import load_start, load_weights, read_card, resolve_weights
from t4e_utils.sampling.squares import Square

# Mean and deviation of the channels, and the value that stands for 1.
NORMALISATIONS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 255),
    "unit": ((0.0,), (1.0,), 255),
}


@dataclass(frozen=True)
class Recipe:
    """What it takes to build a network again and to show it what it saw in training."""

    kind: str  # one of `KINDS`
    backbone: str  # of segmentation_models_pytorch, "tu-" and a name of timm, or of timm
    n_inputs: int = 3  # channels
    n_outputs: int = 1  # logits, or maps of them
    options: Mapping[str, Any] = field(default_factory=dict)  # of this kind alone
    normalisation: str = "imagenet"  # one of `NORMALISATIONS`
    size: int = 224  # side of the input, pixels
    is_stretched: bool = False  # slices to the square; otherwise padded first
    percentiles: tuple[float, float] = (0.5, 99.5)  # window that made the pictures
    precision: str = "fp32"  # of the forward passes, in training and after it

    @property
    def square(self) -> Square:
        """The square that slices become."""
        return Square(self.size, self.is_stretched)

    @classmethod
    def from_card(cls, stated: Mapping[str, Any]) -> Recipe:
        """Return the recipe that a card states.

        Raises:
            ModelError: something is missing or not known.
        """
        known = {each.name for each in fields(cls)}
        if not {"kind", "backbone"} <= set(stated) <= known or stated["kind"] not in KINDS:
            raise ModelError(
                f"The card describes the network as {dict(stated)}, which is no recipe: it needs a "
                f"kind ({', '.join(KINDS)}), a backbone, and of {', '.join(sorted(known))} only "
                "what differs. Train the network again."
            )
        return cls(**{**stated, "percentiles": tuple(stated.get("percentiles", (0.5, 99.5)))})


class Normalise(nn.Module):
    """Bring stored pictures to what a network expects; nothing of it is among the weights.

    Args:
        kind: one of `NORMALISATIONS`.
        n_inputs: channels C that leave; a single one that enters is repeated.
    """

    def __init__(self, kind: str, n_inputs: int):
        super().__init__()
        if kind not in NORMALISATIONS:
            raise ModelError(
                f"The normalisation {kind!r} is not known: choose one of "
                f"{', '.join(NORMALISATIONS)}."
            )
        mean, std, one = NORMALISATIONS[kind]
        if len(mean) not in (1, n_inputs):
            raise ModelError(
                f"The normalisation {kind!r} is for {len(mean)} channels, and the network has "
                f"{n_inputs}: choose 'unit'."
            )
        for name, values in (("mean", mean), ("std", std)):
            scaled = torch.tensor(values).view(-1, 1, 1).expand(n_inputs, 1, 1) * one
            self.register_buffer(name, scaled, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return float32 `(..., C, H, W)` of uint8 `(..., 1 or C, H, W)`.

        Raises:
            ModelError: the images are not uint8 or have another number of channels.
        """
        n_inputs = len(self.mean)
        if images.dtype != torch.uint8:
            raise ModelError(
                f"Images are uint8 in 0..255, these are {images.dtype}: use intensity.to_uint8."
            )
        if images.ndim < 3 or images.shape[-3] not in (1, n_inputs):
            raise ModelError(
                f"Images are (..., 1 or {n_inputs}, H, W), these have the shape "
                f"{tuple(images.shape)}."
            )
        return (images.float() - self.mean) / self.std


class SequenceClassifier(nn.Module):
    """Logits for a sequence of slices: a backbone for each, an LSTM along them, a linear layer.

    The last layer sees all steps. The names of the parts are those of published checkpoints.

    Args:
        backbone: maps `(N, C, H, W)` to `(N, E)`; its `num_features` is E.
        normalise: applied to each slice.
        lstm_hidden: size of the LSTM's hidden state in each direction.
        sequence_length: number of steps T.
    """

    def __init__(
        self, backbone: nn.Module, normalise: Normalise, *, lstm_hidden: int, sequence_length: int
    ):
        super().__init__()
        self.backbone = backbone
        self.lstm = nn.LSTM(
            backbone.num_features, lstm_hidden, batch_first=True, bidirectional=True
        )
        self.clf_head = nn.Linear(sequence_length * 2 * lstm_hidden, 1)
        self.normalise, self.sequence_length = normalise, sequence_length

    def embed(self, images: Tensor) -> Tensor:
        """Embeddings `(N, E)` of slices `(N, C, H, W)` uint8."""
        return self.backbone(self.normalise(images))

    def classify(self, embeddings: Tensor) -> Tensor:
        """Logits `(B,)` of sequences of embeddings `(B, T, E)`."""
        if embeddings.shape[1] != self.sequence_length:
            raise ModelError(
                f"The classifier takes sequences of {self.sequence_length} slices, this one has "
                f"{embeddings.shape[1]}: fill the end with zero images or cut chunks of that "
                "length."
            )
        states, _ = self.lstm(embeddings)
        return self.clf_head(states.flatten(1)).squeeze(1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(B,)` of sequences `(B, T, C, H, W)` uint8.

        Of the black images that fill short ones, one is embedded.
        """
        frames = images.flatten(0, 1)
        is_filled = (frames != 0).flatten(1).any(1)
        if is_filled.all():
            embeddings = self.embed(frames)
        else:
            place = torch.where(is_filled, is_filled.cumsum(0) - 1, -1)
            shown = torch.cat([frames[is_filled], frames[~is_filled][:1]])
            embeddings = self.embed(shown)[place]
        return self.classify(embeddings.unflatten(0, images.shape[:2]))


def _normalise_input(model: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (model.normalise(inputs[0]), *inputs[1:])


def _with_normalisation(model: nn.Module, recipe: Recipe) -> nn.Module:
    """Let a network of a library normalise what it is given, without new names of weights."""
    model.normalise = Normalise(recipe.normalisation, recipe.n_inputs)
    model.register_forward_pre_hook(_normalise_input)
    return model


def _unet(recipe: Recipe, is_pretrained: bool, kind: type[nn.Module] = smp.Unet) -> nn.Module:
    """Maps of logits `(B, n_outputs, H, W)`; the sides are multiples of 32."""
    weights = (True if recipe.backbone.startswith("tu-") else "imagenet") if is_pretrained else None
    channels = list(recipe.options.get("decoder_channels", (256, 128, 64, 32, 16)))
    model = kind(
        recipe.backbone,
        encoder_weights=weights,
        decoder_channels=channels,
        in_channels=recipe.n_inputs,
        classes=recipe.n_outputs,
    )
    return _with_normalisation(model, recipe)


def _unetplusplus(recipe: Recipe, is_pretrained: bool) -> nn.Module:
    return _unet(recipe, is_pretrained, smp.UnetPlusPlus)


def _image(recipe: Recipe, is_pretrained: bool) -> nn.Module:
    """Logits `(B, n_outputs)` of single pictures."""
    model = timm.create_model(
        recipe.backbone,
        pretrained=is_pretrained,
        num_classes=recipe.n_outputs,
        in_chans=recipe.n_inputs,
        **recipe.options,
    )
    return _with_normalisation(model, recipe)


def _sequence(recipe: Recipe, is_pretrained: bool) -> nn.Module:
    backbone = timm.create_model(
        recipe.backbone, pretrained=is_pretrained, num_classes=0, in_chans=recipe.n_inputs
    )
    normalise = Normalise(recipe.normalisation, recipe.n_inputs)
    return SequenceClassifier(backbone, normalise, **recipe.options)


# How a kind of network is built, and which part of it a warm-up freezes. A leaf adds its own.
KINDS: dict[str, tuple[Callable[[Recipe, bool], nn.Module], str]] = {
    "unet": (_unet, "encoder"),
    "unet++": (_unetplusplus, "encoder"),
    "image": (_image, ""),
    "sequence": (_sequence, "backbone"),
}


def build(recipe: Recipe, *, weights: str | os.PathLike = "") -> nn.Module:
    """Build a network.

    Args:
        recipe: kind, backbone, inputs and outputs.
        weights: "" (random), "imagenet" (of the backbone), or a file or folder with weights of the
            whole network or of its backbone.

    Returns:
        The network, with `recipe`, `starts_from` and, if a warm-up can freeze a part, `frozen_part`
        as attributes.

    Raises:
        ModelError: kind, backbone or options are not known, or the weights cannot be had or belong
            to another network.
    """
    if recipe.kind not in KINDS:
        raise ModelError(
            f"A network of the kind {recipe.kind!r} is not known: choose one of {', '.join(KINDS)}."
        )
    make, part = KINDS[recipe.kind]
    path = None if weights == "imagenet" else resolve_weights(weights, model=recipe.backbone)
    try:
        model = make(recipe, weights == "imagenet")
    except (OSError, KeyError, ValueError, RuntimeError, TypeError) as error:
        if weights != "imagenet":
            raise ModelError(
                f"The network of the kind {recipe.kind!r} on {recipe.backbone!r} cannot be built "
                f"({_reason(error)}): correct the backbone, or the options {dict(recipe.options)}."
            ) from error
        raise ModelError(
            f"The ImageNet weights of {recipe.backbone!r} cannot be had "
            f"({_reason(error)}): fetch them where there is a network, "
            f"put them into a folder as {recipe.backbone.removeprefix('tu-')}.safetensors and give "
            'that folder as weights, or start from random ones ("").'
        ) from error
    if path is not None:
        load_start(model, part, path)
    model.recipe, model.frozen_part = recipe, part
    model.starts_from = str(weights) or "random weights"
    return model


def _reason(error: Exception) -> str:
    """Return the first line of what a library says."""
    return str(error).strip().split("\n")[0][:160] or type(error).__name__


def blueprint(recipe: Recipe) -> nn.Module:
    """Build a network without memory for its weights: names, shapes and recipe only."""
    with torch.device("meta"):
        return build(recipe)


def load_network(weights: str | os.PathLike, *, device: str | torch.device = "cpu") -> nn.Module:
    """Build the network that the card beside the weights describes, and load it for inference.

    Its convolutions get the channels-last layout, in which they run about 1.5 times as fast on a
    CPU.

    Raises:
        ModelError: the card or the weights are missing, damaged or do not belong together.
    """
    stated = read_card(weights).get("model")
    if not isinstance(stated, Mapping):
        card = Path(weights).with_suffix(".json")
        raise ModelError(f"{card} does not say which network it is: train it again.")
    model = load_weights(build(Recipe.from_card(stated)), weights)
    return model.to(device, memory_format=torch.channels_last).eval()


def with_precision(model: nn.Module, precision: str) -> nn.Module:
    """Let a network predict in another precision than its recipe says; "" changes nothing."""
    model.recipe = replace(model.recipe, precision=precision or model.recipe.precision)
    return model
