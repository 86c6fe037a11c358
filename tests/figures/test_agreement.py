"""Chunks and series are compared as they are."""

import numpy as np
import pandas as pd

from t4e_utils.figures import agreement


def test_chunks_are_drawn_from_the_lowest_to_the_highest_sorted_by_patient():
    chunks = pd.DataFrame(
        {"patient_id": list("bbaa"), "probability": [0.9, 0.7, 0.1, 0.4], "label": [1, 1, 0, 0]}
    )
    axes = agreement.chunk_spread(chunks).axes[0]
    assert np.allclose(
        [segment[:, 1] for segment in axes.collections[0].get_segments()], [[0.1, 0.4], [0.7, 0.9]]
    )
    assert np.allclose(axes.collections[2].get_offsets(), [[0, 0.25], [1, 0.8]])
    assert "median spread 0.25, n = 2" in axes.get_title(loc="left")


def test_patients_with_one_chunk_have_no_spread():
    chunks = pd.DataFrame({"patient_id": list("aabc"), "probability": [0.1, 0.4, 0.7, 0.2]})
    assert "median spread 0.30, n = 1" in agreement.chunk_spread(chunks).axes[0].get_title(
        loc="left"
    )
    assert "one chunk per patient" in agreement.chunk_spread(chunks[1:]).axes[0].get_title(
        loc="left"
    )


def test_agreement_shows_spearman_above_and_scatter_below():
    table = pd.DataFrame(
        {"FLAIR": [0.1, 0.2, 0.3, 0.9], "T2w": [0.2, 0.3, 0.8, 0.9], "T1w": [np.nan] * 4}
    )
    axes = np.reshape(
        agreement.series_agreement(table, series=["FLAIR", "T2w", "T1w"]).axes, (3, 3)
    )
    assert axes[0, 1].texts[0].get_text() == "1.00"
    assert axes[0, 2].texts[0].get_text() == "–"
    assert np.array_equal(axes[1, 0].collections[0].get_offsets(), table[["FLAIR", "T2w"]])


def test_chunks_of_each_series_have_a_panel_and_are_not_mixed():
    chunks = pd.DataFrame(
        {
            "patient_id": list("aabb"),
            "series": ["FLAIR", "T2w"] * 2,
            "probability": [0.1, 0.9, 0.2, 0.8],
            "label": [0, 0, 1, 1],
        }
    )
    flair, t2w = agreement.chunk_spread(chunks, by="series").axes
    assert flair.get_title(loc="left") == "FLAIR: one chunk per patient"
    assert flair.collections[2].get_offsets()[:, 1].tolist() == [0.1, 0.2]
    assert t2w.collections[2].get_offsets()[:, 1].tolist() == [0.8, 0.9]
