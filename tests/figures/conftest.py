"""Pictures of one competition: the palette is set before each test and left behind by none."""

import pytest

from t4e_utils.competitions.brain_tumor.data import PALETTE
from t4e_utils.figures import style
from t4e_utils.figures.palette import Palette


@pytest.fixture(autouse=True)
def palette():
    """The palette of the brain tumour collection, in use for this test."""
    style.set_palette(PALETTE)
    yield PALETTE
    style.set_palette(Palette())
