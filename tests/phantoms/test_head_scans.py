"""Scans of a patient: where the head lies in them, and how often they show the label."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from helpers.heads import CONTRASTS

from t4e_utils.phantoms.head_scans import draw_phenotype, make_patient, make_series


def test_head_fills_three_quarters_of_the_field_and_survives_a_zoom(patient):
    volumes = [
        patient.contrasts["FLAIR"],
        *make_series(11, 1).values(),
        *make_series(12, 0).values(),
    ]
    for volume in volumes:
        rows, columns = (
            np.flatnonzero((volume.array > 0).any(axis=axes)) for axes in ((0, 2), (0, 1))
        )
        side = max(volume.array.shape[1:])
        assert 0.66 < max(np.ptp(rows), np.ptp(columns)) / side < 0.8
        for where, n in zip((rows, columns), volume.array.shape[1:], strict=True):
            # a zoom of 1.2 about the centre of the padded square
            assert max(abs(where - (n - 1) / 2)) < side / 2 / 1.2
        slices = np.flatnonzero((volume.array > 0).any(axis=(1, 2)))
        assert slices[0] > 0
        assert slices[-1] < len(volume.array) - 1


def test_series_of_a_patient_differ_in_plane_matrix_spacing_and_length():
    series = [volume for seed in range(6) for volume in make_series(seed, 0, size=32).values()]
    assert set(Counter(volume.plane for volume in series)) == {"axial", "coronal", "sagittal"}
    lengths = [len(volume.array) for volume in series]
    assert min(lengths) >= 24
    assert max(lengths) <= 48
    assert 0.2 < np.mean(np.array(lengths) < 35) < 0.8
    assert len({volume.array.shape[1:] for volume in series}) > 10
    assert any(volume.array.shape[1] != volume.array.shape[2] for volume in series)
    assert (
        np.mean([abs(volume.spacing_mm[0] / volume.spacing_mm[1] - 1) > 0.1 for volume in series])
        > 0.5
    )


def test_label_signal_scales_how_often_the_image_shows_the_label():
    for signal, share in ((0.0, 0.5), (0.5, 0.75), (1.0, 1.0)):
        shown = [
            draw_phenotype(seed, label, signal) == label for seed in range(1000) for label in (0, 1)
        ]
        assert np.mean(shown) == pytest.approx(share, abs=0.03)


def test_without_signal_the_images_do_not_depend_on_the_label():
    patients = [make_patient(4, label, size=32, label_signal=0, tumour_ml=150) for label in (0, 1)]
    np.testing.assert_array_equal(patients[0].labels.array, patients[1].labels.array)
    for contrast in CONTRASTS:
        np.testing.assert_array_equal(*(patient.contrasts[contrast].array for patient in patients))
