"""Grey values are spread as the voxels are."""

import numpy as np
import pytest
from helpers.pictures import asymmetric_volume

from t4e_utils.figures import grey_values


def test_densities_have_area_one_and_follow_the_window():
    volume = asymmetric_volume().array.astype(np.int16)
    volume[2:10] += np.arange(8, dtype=np.int16)[:, None, None] * (volume[2:10] > 0)
    figure = grey_values.intensity_densities(
        {"FLAIR": [volume]}, n_bins=10, percentiles=(0.5, 99.5)
    )
    before, after = (axes.lines[0].get_xydata() for axes in figure.axes)
    for x, y in (before.T, after.T):
        assert np.sum(y) * (x[1] - x[0]) == pytest.approx(1)
    assert before[:, 0].max() >= 500
    assert after[:, 0].max() <= 256 + 26
