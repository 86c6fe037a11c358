"""The anatomy of a head differs in all directions, and its tumour has the volume wanted."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.heads import head_points

from t4e_utils.phantoms import head
from t4e_utils.phantoms.head import make_head
from t4e_utils.phantoms.head_scans import make_patient


def test_forehead_is_narrow_base_is_flat_and_left_ventricle_is_wide(patient):
    brain, (x, y, z) = patient.contrasts["T1w"].array > 0, head_points(patient)
    width = {
        name: np.ptp(x[brain & (abs(y - at) < 4) & (z > 0)])
        for name, at in (("front", 50), ("back", -50))
    }
    assert width["front"] < 0.92 * width["back"]
    low, high = (np.count_nonzero(brain & (abs(z - at) < 4)) for at in (-40, 40))
    assert low < 0.8 * high  # temporal poles and cerebellum only
    points = np.stack([x, y, z]).reshape(3, -1).astype(np.float32)
    ventricle = head.ventricle_distance(patient.head, points) < 0
    assert np.count_nonzero(ventricle & (points[0] < 0)) > 1.2 * np.count_nonzero(
        ventricle & (points[0] > 0)
    )


def test_tumour_has_the_volume_that_is_wanted_wherever_it_lies():
    for seed in range(5):
        head = make_head(seed, seed % 2, tumour_ml=120)
        labels = make_patient(seed, seed % 2, tumour_ml=120).labels.array
        assert np.count_nonzero(labels) * 3.5**3 / 1000 == pytest.approx(120, rel=0.06)
        assert head.tumour.core_mm < head.tumour.rim_mm < head.tumour.oedema_mm + 10
        assert set(np.unique(labels)) == {0, 1, 2, 4}


def test_another_seed_gives_other_anatomy():
    assert (
        make_patient(1, 0, size=32).labels.array != make_patient(2, 0, size=32).labels.array
    ).any()
