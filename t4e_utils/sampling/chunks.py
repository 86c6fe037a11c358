"""Sequences of slices in chunks of equal length."""

from __future__ import annotations

import pandas as pd


def chunk_table(slices: pd.DataFrame, *, length: int, stride: int) -> pd.DataFrame:
    """Return the chunks of each series.

    Patient_id, series, chunk, start, stop (positions among the kept slices, half open).
    """
    counts = slices[slices["is_kept"]].groupby(["patient_id", "series"], sort=False).size()
    rows = [
        {"patient_id": patient, "series": series, "chunk": k, "start": start, "stop": stop}
        for (patient, series), n in counts.items()
        for k, (start, stop) in enumerate(chunk_bounds(n, length=length, stride=stride))
    ]
    return pd.DataFrame(rows, columns=["patient_id", "series", "chunk", "start", "stop"])


SEQUENCE_LENGTH = 35  # steps of a chunk, T4E
SEQUENCE_STRIDE = 5


def chunk_bounds(
    n: int, *, length: int = SEQUENCE_LENGTH, stride: int = SEQUENCE_STRIDE
) -> list[tuple[int, int]]:
    """Return the half-open bounds of the chunks that cover a sequence of n steps.

    One chunk, maybe short, for at most `length` steps; otherwise one every `stride` steps until the
    end is covered, the last maybe short.

    >>> chunk_bounds(41)
    [(0, 35), (5, 40), (10, 41)]
    """
    if n <= 0:
        return []
    n_chunks = 1 + -(-max(n - length, 0) // stride)
    return [(i * stride, min(i * stride + length, n)) for i in range(n_chunks)]
