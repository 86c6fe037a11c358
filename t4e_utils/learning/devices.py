"""Where networks run, and in which precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate.utils import set_seed
from torch import nn

from t4e_utils.learning import TrainingError

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def seed_everything(seed: int) -> None:
    """Seed the global random generators of Python, numpy and torch."""
    set_seed(seed)


def pick_device() -> torch.device:
    """Return the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_of(model: nn.Module) -> torch.device:
    """Return the device on which the model's weights lie."""
    return next(model.parameters()).device


def slices_per_pass(device: torch.device) -> int:
    """Return how many slices to pass at once; results do not depend on it.

    Few on a CPU, where the full networks then stay below 4 GB.
    """
    return 8 if device.type == "cpu" else 64


def resolve_precision(precision: str, device: torch.device) -> str:
    """Return what "auto" means on a device.

    bf16 where the GPU computes in it, else fp16; fp32 on a CPU.

    Raises:
        TrainingError: for fp16 on a CPU.
    """
    if precision == "auto":
        if device.type != "cuda":
            return "fp32"
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if precision == "fp16" and device.type == "cpu":
        raise TrainingError("precision='fp16' needs a GPU: use 'auto', 'bf16' or 'fp32'.")
    return precision


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context in which networks compute with a precision.

    Only convolutions and the like take part; what must stay in fp32 switches it off for itself.

    Raises:
        TrainingError: fp16 on a CPU.
    """
    precision = resolve_precision(precision, device)
    dtype = PRECISIONS[precision] if precision != "fp32" else None
    return torch.autocast(device.type, dtype=dtype, enabled=precision != "fp32")


@contextmanager
def predicting(model: nn.Module) -> Iterator[torch.device]:
    """Give the model's device, without gradients and in the precision of its recipe."""
    device = device_of(model)
    with torch.inference_mode(), autocast(device, model.recipe.precision):
        yield device
