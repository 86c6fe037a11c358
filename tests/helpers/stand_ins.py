"""Small stand-ins that several tests share."""

import numpy as np
import torch
from torch import nn

from t4e_utils.learning.networks import Recipe


class BrightIsTumour(nn.Module):
    """A segmenter without training, in evaluation mode.

    Whole tumour above half of the grey range, enhancing above nine tenths.
    """

    def __init__(self, size=32, **recipe):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.recipe = Recipe("unet", "none", n_outputs=2, size=size, **recipe)
        self.eval()

    def forward(self, images):
        assert images.dtype == torch.uint8
        grey = images[:, :1] / 255 * self.weight
        return torch.cat([grey - 0.5, grey - 0.9], dim=1) * 100


def precisions_of(network):
    """Return a set, to which each pass of the network adds the dtype that it computes in."""
    found = set()

    def note(*_):
        is_on = torch.is_autocast_enabled("cpu")
        found.add(torch.get_autocast_dtype("cpu") if is_on else torch.float32)

    network.register_forward_hook(note)
    return found


def disc(shape, centre, radius):
    row, column = np.ogrid[: shape[0], : shape[1]]
    return (row - centre[0]) ** 2 + (column - centre[1]) ** 2 <= radius**2
