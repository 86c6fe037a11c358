"""How long work takes and when it will be done: bars, times of day, durations in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

from joblib import Parallel, delayed
from tqdm import tqdm

PROGRESS_SECONDS = 2.0  # one line of log in so many seconds, readable without a terminal


def duration(seconds: float | None) -> str:
    """Return a time as a person says it: 8.2 s, 42 s, 3 min 05 s, 2 h 10 min."""
    if seconds is None:
        return "not recorded"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def expected_finish(seconds: float, done: int, total: int) -> datetime:
    """Return the time of day at which `total` will be done, if `done` of them took so many
    seconds until now.
    """
    return datetime.now().astimezone() + timedelta(seconds=seconds / done * (total - done))


def parallel(
    function: Callable[[Any], Any], items: Iterable, *, n_jobs: int, desc: str, unit: str = ""
) -> list:
    """Return what a function gives for each item, in their order, with a bar of finished ones."""
    items = list(items)
    results = Parallel(n_jobs, return_as="generator")(delayed(function)(item) for item in items)
    return list(tqdm(results, desc, len(items), unit=unit, mininterval=PROGRESS_SECONDS))
