"""Times in words, and work in parallel that says how far it is."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

import pytest

from t4e_utils import T4EError, progress


def square(number: int) -> int:
    return number * number


def late_if_first(number: int) -> int:
    time.sleep(0 if number else 1.5)
    return number


def refuse(number: int) -> int:
    if number == 3:
        raise T4EError("three is too many")
    return number


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "not recorded"),
        (0, "0.0 s"),
        (8.24, "8.2 s"),
        (9.96, "10 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7800, "2 h 10 min"),
    ],
)
def test_a_time_is_said_as_people_say_it(seconds, words):
    assert progress.duration(seconds) == words


def test_the_finish_is_expected_at_the_speed_so_far():
    now = datetime.now().astimezone()
    expected = now + timedelta(seconds=90)
    assert abs(progress.expected_finish(10, 1, 10) - expected) < timedelta(seconds=5)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_results_come_in_the_order_of_the_items_and_the_bar_counts_all(n_jobs, capsys):
    assert progress.parallel(square, range(5), n_jobs=n_jobs, desc="squares", unit="numbers") == [
        0,
        1,
        4,
        9,
        16,
    ]
    shown = capsys.readouterr().err
    assert "squares: 100%" in shown
    assert "5/5" in shown
    assert "numbers/s" in shown


def test_items_may_be_given_once_and_need_no_order(capsys):
    made = ({"a": i} for i in range(3))
    assert progress.parallel(dict, made, n_jobs=1, desc="") == [{"a": 0}, {"a": 1}, {"a": 2}]
    assert "3/3" in capsys.readouterr().err


def test_what_is_finished_counts_although_the_first_job_is_not(monkeypatch):
    # in order, the bar would stay at 0 until the first job is done
    seen = []

    def watched(results, **options):
        for result in results:
            seen.append(result[1])
            yield result

    monkeypatch.setattr(progress, "tqdm", watched)
    assert progress.parallel(late_if_first, range(4), n_jobs=2, desc="") == [0, 1, 2, 3]
    assert seen[-1] == 0


def test_no_items_give_no_bar_and_a_refused_item_its_error(capsys):
    assert progress.parallel(square, [], n_jobs=2, desc="squares") == []
    assert capsys.readouterr().err == ""
    for n_jobs in (1, 2):
        with pytest.raises(T4EError, match="three is too many"):
            progress.parallel(refuse, range(5), n_jobs=n_jobs, desc="squares")
