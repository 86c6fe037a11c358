"""Weights of networks on disk.

Safetensors with a JSON card beside them, or the `.pth` state dicts that others published.

Names and shapes must agree exactly with the network that loads them. Files of torch are read with
`weights_only=True`: nothing in them is executed.
"""

from __future__ import annotations

import json
import os
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from t4e_utils.files import atomic_write
from t4e_utils.learning import ModelError
from t4e_utils.tables.store import write_json

# norm.1 of torchvision 0.2 is norm1 today
OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)  # such as of batches seen
WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")


def save_weights(model: nn.Module, path: str | os.PathLike, card: Mapping) -> None:
    """Write weights as safetensors and `card` as JSON beside them.

    Each file appears complete or not at all.

    Args:
        model: its state dict is written; its `recipe`, if it has one, goes into the card under
            `"model"`.
        path: ends in `.safetensors`.
        card: what a reader needs to know: data, settings, figures; anything JSON can hold.
    """
    save_state(
        model.state_dict(),
        path,
        {"model": asdict(model.recipe), **card} if hasattr(model, "recipe") else card,
    )


def save_state(state: Mapping[str, Tensor], path: str | os.PathLike, card: Mapping) -> None:
    """Write a state dict as `save_weights` writes that of a network."""
    path = Path(path)
    with atomic_write(path) as temporary:
        save_file(
            {name: value.detach().cpu().contiguous() for name, value in state.items()}, temporary
        )
    write_json(card, path.with_suffix(".json"))


def load_weights(model: nn.Module, path: str | os.PathLike) -> nn.Module:
    """Load a whole network's weights into `model`, in place; names and shapes must agree exactly.

    Raises:
        ModelError: if the file is missing, damaged, no state dict, or of another network.
    """
    load_strictly(model, read_weights(path), Path(path))
    model.starts_from = str(path)
    return model


def load_strictly(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load a state dict into `model`, in place; `path` is named in the error.

    Raises:
        ModelError: if names or shapes differ.
    """
    require_entries_of(model, state, path)
    model.load_state_dict(state)


def require_entries_of(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Check that a state dict has exactly the names and shapes of `model`, maybe a blueprint.

    And that its values can be weights: finite real numbers, or whole ones where `model` counts.

    Raises:
        ModelError: if they differ, or a value cannot be one.
    """
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
                f"{path} holds another network's weights: {what} {names[0]} ({len(names)} of "
                f"{len(own)} entries are wrong in this way). Build the network with the settings "
                "that the file was saved with."
            )
    for name, value in own.items():
        if why := _unusable(state[name], value):
            raise ModelError(
                f"{path} cannot be used: {name} has {why}. Fetch it again, or train again."
            )


def _unusable(value: Tensor, own: Tensor) -> str:
    """Return why a stored tensor cannot become an entry of a network; "" if it can."""
    if value.is_meta or value.layout != torch.strided:
        return "no values in rows and columns"
    if value.dtype not in (FLOATING if own.is_floating_point() else WHOLE):
        return f"values of the type {value.dtype}, which are no weights"
    # in the precision of the network, where a large value can become infinite
    values = value.detach().to(own.dtype)
    # a minimum and a maximum take one pass; NaN is both
    if not values.numel() or torch.stack(values.aminmax()).isfinite().all():
        return ""
    return f"{(~values.isfinite()).sum()} values that are not finite"


def read_card(path: str | os.PathLike) -> dict[str, Any]:
    """Return the JSON card beside the weights at `path`.

    Raises:
        ModelError: it is missing, damaged, or no object.
    """
    card = Path(path).with_suffix(".json")
    if not os.path.isfile(card):  # a pipe would never end
        raise ModelError(f"{card} is missing: the card belongs beside {Path(path).name}.")
    try:
        content = json.loads(card.read_text(encoding="utf-8"))
    # no text, no JSON, a number of thousands of digits, or brackets within brackets without end
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{card} is damaged ({error}): write the weights again.") from None
    if not isinstance(content, dict):
        raise ModelError(f"{card} is damaged (it is no object): write the weights again.")
    return content


def read_weights(path: str | os.PathLike) -> dict[str, Tensor]:
    """Return the state dict in a file of safetensors or torch, on the CPU; it executes nothing.

    Raises:
        ModelError: if the file is missing, damaged, or no state dict.
    """
    path = Path(path)
    if not os.path.isfile(path):  # which takes any name
        raise ModelError(f"{path} does not exist: train first, or put the weights there.")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else load_torch(path)
    except Exception as error:  # what a reader raises depends on where the damage lies
        raise ModelError(
            f"{path} cannot be read as weights, it is truncated or no such file "
            f"({first_line(error)}): fetch it again."
        ) from None
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise ModelError(f"{path} is no state dict (names to tensors): save model.state_dict().")
    return dict(state)


def load_torch(path: Path) -> Any:
    """Return what a file of torch holds, on the CPU; nothing in it is executed.

    Raises:
        Exception: of any kind, if the file is damaged.
    """
    if not os.path.isfile(path):
        raise ValueError("it is no file")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            n_bytes = sum(member.file_size for member in archive.infolist())
        if n_bytes > path.stat().st_size:  # torch stores its members as they are
            raise ValueError(f"its members claim {n_bytes} bytes, more than the file has")
    # torch warns of odd pickles before it refuses them
    with warnings.catch_warnings(action="ignore"):
        return torch.load(path, map_location="cpu", weights_only=True)


def first_line(error: Exception) -> str:
    """Return the first line of what a library says."""
    return str(error).strip().split("\n")[0][:160] or type(error).__name__


def resolve_weights(weights: str | os.PathLike, *, model: str) -> Path | None:
    """Return the file that `weights` stands for; None for random ones.

    Args:
        weights: ""; a file; or a folder with `<model>.safetensors` (or .pth, .pt, .bin).
        model: name of the backbone.

    Raises:
        ModelError: there is no such file.
    """
    if not str(weights):
        return None
    path = Path(weights)
    if os.path.isdir(path):
        files = [path / f"{model.removeprefix('tu-')}{suffix}" for suffix in WEIGHT_SUFFIXES]
        path = next((file for file in files if file.is_file()), files[0])
    if not os.path.isfile(path):
        raise ModelError(
            f'There are no weights at {path}: put the file there, or start from random ones ("").'
        )
    return path


def load_start(model: nn.Module, part: str, path: Path) -> None:
    """Load weights of the whole network if the names say so, else of its backbone alone.

    Args:
        model: changed in place.
        part: name of the backbone in the model; "": the model is its own backbone, and keeps its
            own last layer if that of the file has another size.
        path: of the weights.

    Raises:
        ModelError: names or shapes differ.
    """
    state = read_weights(path)
    parts = {key.split(".")[0] for key in state}
    if part and not (part in parts and len(parts) > 1):
        model = getattr(model, part)
        state = _headless(state, model, part)
    elif not part:
        own = {name: value for name, value in model.state_dict().items() if _is_head(model, name)}
        if any(name in state and state[name].shape != own[name].shape for name in own):
            state = {**state, **own}
    load_strictly(model, state, path)


def _is_head(module: nn.Module, name: str) -> bool:
    """Return whether an entry belongs to the classifier that timm puts last."""
    head = getattr(module, "pretrained_cfg", {}).get("classifier", "classifier")
    heads = [head] if isinstance(head, str) else head
    return name.startswith(tuple(f"{each}." for each in heads))


def _headless(state: dict[str, Tensor], module: nn.Module, part: str) -> dict[str, Tensor]:
    """Entries for `module` from a file of the part alone.

    Prefix, ImageNet classifier and old spellings are put right.
    """
    state = {key.removeprefix(f"{part}."): value for key, value in state.items()}
    state = {
        OLD_DENSENET.sub(r"\1\2", key): value
        for key, value in state.items()
        if not _is_head(module, key)
    }
    own = module.state_dict()
    if not own.keys() & state.keys() and hasattr(module, "model"):  # around a network of timm,
        state = {f"model.{key}": value for key, value in state.items()}
        state = {key: value for key, value in state.items() if key in own}  # without its end
    counters = {key: value for key, value in own.items() if key.endswith("num_batches_tracked")}
    return {**counters, **state}
