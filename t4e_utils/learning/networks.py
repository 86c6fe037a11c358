"""Networks from recipes, with the normalisation of their input inside.

Stored pictures enter, uint8 `(..., C, H, W)`; logits leave. The networks are those of
segmentation_models_pytorch and timm; this module puts them together. A recipe stands on the card
beside the weights, so that whoever predicts sees what the network saw in training.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import segmentation_models_pytorch as smp
import timm
import torch
from pydantic import Field
from torch import Tensor, nn

from t4e_utils.learning import ModelError
from t4e_utils.learning.parts import Normalise, SequenceClassifier
from t4e_utils.learning.weights import (
    first_line,
    load_start,
    read_card,
    read_weights,
    require_entries_of,
    resolve_weights,
)
from t4e_utils.sampling.squares import Square
from t4e_utils.tables.schema import SchemaError, conform

# Far above what any network here has; a card with more is a mistake, and would ask for the memory.
Channels = Annotated[int, Field(ge=1, le=8192)]
Side = Annotated[int, Field(ge=8, le=4096)]  # pixels
Percentile = Annotated[float, Field(ge=0, le=100)]
Share = Annotated[float, Field(ge=0, lt=1)]
SIDES_OF = 32  # what the sides of a U-Net's input are multiples of: it halves them five times


@dataclass(frozen=True)
class Recipe:
    """What it takes to build a network again and to show it what it saw in training."""

    kind: str  # one of `KINDS`
    backbone: str  # of segmentation_models_pytorch, "tu-" and a name of timm, or of timm
    n_inputs: Channels = 3
    n_outputs: Channels = 1  # logits, or maps of them
    options: Mapping[str, Any] = field(default_factory=dict)  # of this kind alone
    normalisation: str = "imagenet"  # one of `parts.NORMALISATIONS`
    size: Side = 224  # of the input
    is_stretched: bool = False  # slices to the square; otherwise padded first
    percentiles: tuple[Percentile, Percentile] = (0.5, 99.5)  # window that made the pictures
    # of the forward passes, in training and after it
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "fp32"

    @property
    def square(self) -> Square:
        """The square that slices become."""
        return Square(self.size, self.is_stretched)

    @classmethod
    def from_card(cls, stated: Any, *, said_by: str | os.PathLike = "The card") -> Recipe:
        """Return the recipe that a card states.

        Args:
            stated: read from JSON.
            said_by: the card, for the error.

        Raises:
            ModelError: something is missing, not known, of another type or out of range.
        """
        try:
            recipe = conform(cls, stated)
            if recipe.kind not in KINDS:
                raise SchemaError(f"kind is {recipe.kind!r}")
            if recipe.percentiles[0] >= recipe.percentiles[1]:
                raise SchemaError(f"percentiles are {recipe.percentiles}, and should ascend")
        except SchemaError as error:
            raise ModelError(
                f"{said_by} describes the network as {str(stated)[:300]}, which is no recipe: it "
                f"needs a kind ({', '.join(KINDS)}), a backbone, and of "
                f"{', '.join(each.name for each in fields(cls))} only what differs; {error}. "
                "Train the network again."
            ) from None
        return recipe


def _normalise_input(model: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (model.normalise(inputs[0]), *inputs[1:])


def _with_normalisation(model: nn.Module, recipe: Recipe) -> nn.Module:
    """Let a network of a library normalise what it is given, without new names of weights."""
    model.normalise = Normalise(recipe.normalisation, recipe.n_inputs)
    model.register_forward_pre_hook(_normalise_input)
    return model


@dataclass(frozen=True)
class UnetOptions:
    """Options of `unet` and `unet++`."""

    decoder_channels: tuple[Channels, ...] = (256, 128, 64, 32, 16)


@dataclass(frozen=True)
class ImageOptions:
    """Options of `image`: those that are stated go to timm.

    Others of timm's name files and addresses.
    """

    drop_rate: Share = 0.0
    drop_path_rate: Share = 0.0
    global_pool: Literal["avg", "max", "avgmax", "catavgmax", "token"] = "avg"
    img_size: Side = 224  # of a transformer


@dataclass(frozen=True)
class SequenceOptions:
    """Options of `sequence`, see `SequenceClassifier`."""

    lstm_hidden: Channels
    sequence_length: Annotated[int, Field(ge=1, le=4096)]  # slices


def _of_timm(name: str) -> str:
    """Return a name that timm itself knows.

    Of others it fetches a network from a hub or a folder.
    """
    if not timm.is_model(name):
        raise SchemaError(f"Unknown model {name!r}")
    return name


def _unet(recipe: Recipe, is_pretrained: bool, kind: type[nn.Module] = smp.Unet) -> nn.Module:
    """Maps of logits `(B, n_outputs, H, W)`; the sides are multiples of 32."""
    options, is_of_timm = conform(UnetOptions, recipe.options), recipe.backbone.startswith("tu-")
    if is_of_timm:
        _of_timm(recipe.backbone.removeprefix("tu-"))
    elif recipe.backbone not in smp.encoders.encoders:
        raise SchemaError(f"Wrong encoder name {recipe.backbone!r}")
    if recipe.size % SIDES_OF:
        raise SchemaError(f"size is {recipe.size}, and should be a multiple of {SIDES_OF}")
    model = kind(
        recipe.backbone,
        encoder_weights=(True if is_of_timm else "imagenet") if is_pretrained else None,
        decoder_channels=list(options.decoder_channels),
        in_channels=recipe.n_inputs,
        classes=recipe.n_outputs,
    )
    return _with_normalisation(model, recipe)


def _unetplusplus(recipe: Recipe, is_pretrained: bool) -> nn.Module:
    return _unet(recipe, is_pretrained, smp.UnetPlusPlus)


def _image(recipe: Recipe, is_pretrained: bool) -> nn.Module:
    """Logits `(B, n_outputs)` of single pictures."""
    conform(ImageOptions, recipe.options)
    model = timm.create_model(
        _of_timm(recipe.backbone),
        pretrained=is_pretrained,
        num_classes=recipe.n_outputs,
        in_chans=recipe.n_inputs,
        **recipe.options,
    )
    return _with_normalisation(model, recipe)


def _sequence(recipe: Recipe, is_pretrained: bool) -> nn.Module:
    options = asdict(conform(SequenceOptions, recipe.options))
    backbone = timm.create_model(
        _of_timm(recipe.backbone), pretrained=is_pretrained, num_classes=0, in_chans=recipe.n_inputs
    )
    normalise = Normalise(recipe.normalisation, recipe.n_inputs)
    return SequenceClassifier(backbone, normalise, **options)


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
                f"({first_line(error)}): correct the backbone, or the options "
                f"{dict(recipe.options)}."
            ) from error
        raise ModelError(
            f"The ImageNet weights of {recipe.backbone!r} cannot be had "
            f"({first_line(error)}): fetch them where there is a network, "
            f"put them into a folder as {recipe.backbone.removeprefix('tu-')}.safetensors and give "
            'that folder as weights, or start from random ones ("").'
        ) from error
    if path is not None:
        load_start(model, part, path)
    model.recipe, model.frozen_part = recipe, part
    model.starts_from = str(weights) or "random weights"
    return model


def blueprint(recipe: Recipe) -> nn.Module:
    """Build a network without memory for its weights: names, shapes and recipe only."""
    with torch.device("meta"):
        return build(recipe)


@lru_cache(maxsize=8)
def _known_blueprint(stated: str) -> nn.Module:
    """Return the blueprint of a recipe as JSON; many networks of a run share one."""
    return blueprint(Recipe.from_card(json.loads(stated)))


def load_network(weights: str | os.PathLike, *, device: str | torch.device = "cpu") -> nn.Module:
    """Build the network that the card beside the weights describes, and load it for inference.

    Memory is taken only for weights that are there, whatever sizes the card states. Convolutions
    get the channels-last layout, in which they run about 1.5 times as fast on a CPU.

    Raises:
        ModelError: the card or the weights are missing, damaged or do not belong together.
    """
    card, stated = Path(weights).with_suffix(".json"), read_card(weights).get("model")
    if not isinstance(stated, Mapping):
        raise ModelError(f"{card} does not say which network it is: train it again.")
    recipe, state = Recipe.from_card(stated, said_by=card), read_weights(weights)
    try:
        drawn = _known_blueprint(json.dumps(stated))
    except ModelError as error:
        raise ModelError(f"{card} describes a network that is not known. {error}") from error
    require_entries_of(drawn, state, Path(weights))
    model = build(recipe)
    model.load_state_dict(state)
    model.starts_from = str(weights)
    return model.to(device, memory_format=torch.channels_last).eval()


def with_precision(model: nn.Module, precision: str) -> nn.Module:
    """Let a network predict in another precision than its recipe says; "" changes nothing."""
    model.recipe = replace(model.recipe, precision=precision or model.recipe.precision)
    return model
