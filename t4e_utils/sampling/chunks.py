"""Sequences of slices in chunks of equal length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd


def sample_every(indices: Sequence[Any], *, step: float) -> Sequence[Any]:
    """Return every `max(round(step * n), 1)`-th of n indices: neighbours look alike."""
    return indices[:: max(round(step * len(indices)), 1)]


def chunk_bounds(n: int, *, length: int, stride: int) -> list[tuple[int, int]]:
    """Return the half-open bounds of the chunks that cover a sequence of n steps.

    One chunk, maybe short, for at most `length` steps; otherwise one every `stride` steps until the
    end is covered, the last maybe short.

    >>> chunk_bounds(41, length=35, stride=5)
    [(0, 35), (5, 40), (10, 41)]
    """
    if n <= 0:
        return []
    n_chunks = 1 + -(-max(n - length, 0) // stride)
    return [(i * stride, min(i * stride + length, n)) for i in range(n_chunks)]


def chunk_table(slices: pd.DataFrame, *, length: int, stride: int) -> pd.DataFrame:
    """Return the chunks of each series.

    Args:
        slices: patient_id, series, is_kept.
        length: slices per chunk.
        stride: slices between the starts of chunks.

    Returns:
        patient_id, series, chunk, start, stop (positions among the kept slices, half open).
    """
    counts = slices[slices["is_kept"]].groupby(["patient_id", "series"], sort=False).size()
    rows = [
        {"patient_id": patient, "series": series, "chunk": k, "start": start, "stop": stop}
        for (patient, series), n in counts.items()
        for k, (start, stop) in enumerate(chunk_bounds(n, length=length, stride=stride))
    ]
    return pd.DataFrame(rows, columns=["patient_id", "series", "chunk", "start", "stop"])
