"""Sequences become chunks that cover them; of many neighbours some are taken."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t4e_utils.sampling.chunks import chunk_bounds, chunk_table, sample_every


@pytest.mark.parametrize(
    ("n", "every"), [(0, 1), (1, 1), (9, 1), (14, 1), (16, 2), (60, 6), (155, 16)]
)
def test_about_ten_of_many_are_taken(n, every):
    assert list(sample_every(range(n), step=0.1)) == [i for i in range(n) if i % every == 0]


def test_a_step_of_zero_takes_all():
    assert list(sample_every(range(30), step=0.0)) == list(range(30))


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (0, []),
        (1, [(0, 1)]),
        (20, [(0, 20)]),
        (35, [(0, 35)]),
        (36, [(0, 35), (5, 36)]),
        (41, [(0, 35), (5, 40), (10, 41)]),
        (40, [(0, 35), (5, 40)]),
    ],
)
def test_chunk_bounds_match_the_specification(n, expected):
    assert chunk_bounds(n, length=35, stride=5) == expected


def test_a_hundred_steps_give_fourteen_chunks():
    bounds = chunk_bounds(100, length=35, stride=5)
    assert len(bounds) == 14
    assert bounds[-1] == (65, 100)


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 60), st.integers(1, 20))
def test_chunks_cover_every_step_if_the_stride_is_not_longer_and_only_the_last_is_short(
    n, length, stride
):
    bounds = chunk_bounds(n, length=length, stride=stride)
    covered = {step for start, stop in bounds for step in range(start, stop)}
    assert covered == set(range(n)) if stride <= length else bounds[0][0] == 0
    assert all(stop - start == length for start, stop in bounds[:-1])
    expected = 1 if n <= length else int(np.ceil((n - length) / stride)) + 1
    assert len(bounds) == expected


def test_a_table_of_chunks_counts_the_kept_slices_of_each_series_in_its_order():
    counts = {("2", "b"): 4, ("1", "a"): 3, ("1", "b"): 0}
    rows = [
        {"patient_id": patient, "series": series, "is_kept": place < n}
        for (patient, series), n in counts.items()
        for place in range(6)
    ]
    chunks = chunk_table(pd.DataFrame(rows), length=3, stride=2)
    assert chunks.columns.tolist() == ["patient_id", "series", "chunk", "start", "stop"]
    assert chunks.to_numpy().tolist() == [
        ["2", "b", 0, 0, 3],
        ["2", "b", 1, 2, 4],
        ["1", "a", 0, 0, 3],
    ]


def test_without_kept_slices_the_table_is_empty_and_has_its_columns():
    slices = pd.DataFrame({"patient_id": ["1"], "series": ["a"], "is_kept": [False]})
    chunks = chunk_table(slices, length=3, stride=2)
    assert list(chunks) == ["patient_id", "series", "chunk", "start", "stop"]
    assert chunks.empty
