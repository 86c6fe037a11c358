"""One pass of a network before hours of them: what it says must be finite numbers."""

from __future__ import annotations

import numpy as np
from torch import nn

from t4e_utils.prediction import PredictionError


def ramp(size: int, n_channels: int) -> np.ndarray:
    """Return a picture (size, size, n_channels) uint8 with every grey value, dark to bright."""
    grey = np.linspace(0, 255, size * size).astype(np.uint8).reshape(size, size, 1)
    return np.repeat(grey, n_channels, axis=2)


def require_finite(said: np.ndarray, network: nn.Module, name: str) -> None:
    """Refuse a network that says something else than finite numbers.

    Raises:
        PredictionError: naming the file of its weights.
    """
    wrong = said[~np.isfinite(said)]
    if len(wrong):
        raise PredictionError(
            f"The network of {getattr(network, 'starts_from', name)} ({name}) says {wrong[0]} "
            f"of a plain picture in the precision {network.recipe.precision}: use precision fp32, "
            "or train it again."
        )
