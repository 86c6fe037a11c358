"""How long work takes and when it will be done: bars, times of day, durations in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any, TypeVar

from joblib import Parallel, delayed
from tqdm import tqdm

PROGRESS_SECONDS = 2.0  # one line of log in so many seconds, readable without a terminal
Result = TypeVar("Result")


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
    """Return the time of day when `total` will be done, if `done` took so many seconds so far."""
    return datetime.now().astimezone() + timedelta(seconds=seconds / done * (total - done))


def parallel(
    function: Callable[[Any], Result],
    items: Iterable[Any],
    *,
    n_jobs: int,
    desc: str,
    unit: str = "",
) -> list[Result]:
    """Return what a function gives for each item, in the order of the items.

    One bar counts the items that are finished, whichever are first. There is none for no items.

    Args:
        function: of one item; what is the same for all goes into `functools.partial`.
        items: one per job.
        n_jobs: processes, as in joblib; -1 for one per core.
        desc: in front of the bar.
        unit: what an item is, such as "series".
    """
    items = list(items)
    jobs = (delayed(_numbered)(function, index, item) for index, item in enumerate(items))
    finished = tqdm(
        Parallel(n_jobs=n_jobs, return_as="generator_unordered")(jobs),
        desc=desc,
        unit=unit or "it",
        total=len(items),
        mininterval=PROGRESS_SECONDS,
        disable=not items,
    )
    return [result for _, result in sorted(finished, key=lambda numbered: numbered[0])]


def _numbered(function: Callable[[Any], Result], index: int, item: Any) -> tuple[int, Result]:
    return index, function(item)
