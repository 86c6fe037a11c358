"""Small stand-ins that several tests share."""

import numpy as np
import torch
from torch import nn


class BrightIsTumour(nn.Module):
    """A segmenter without training.

    Whole tumour above half of the grey range, enhancing above nine tenths.
    """

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, images):
        grey = (images[:, :1] * 0.229 + 0.485) * self.weight
        return torch.cat([grey - 0.5, grey - 0.9], dim=1) * 100


def disc(shape, centre, radius):
    row, column = np.ogrid[: shape[0], : shape[1]]
    return (row - centre[0]) ** 2 + (column - centre[1]) ** 2 <= radius**2
