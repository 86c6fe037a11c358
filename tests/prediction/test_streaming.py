"""Many scans one after the other: order, groups, problems, memory, and work that goes on.

Nothing here is a scan: the reader gives small objects that can be counted.
"""

import gc
import os
import threading
import time
import weakref
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from t4e_utils.prediction.streaming import READ_AHEAD, Resume, Walk, for_each, time_sentence
from t4e_utils.scans.problems import Problem, VolumeError

ALONE = Walk()
TOGETHER = Walk(group_by="owner", group_unit="owners")


class Scan:
    """What the reader gives; those in memory are counted."""

    alive, most, lock = weakref.WeakSet(), 0, threading.Lock()

    def __init__(self, path):
        self.text = Path(path).read_text(encoding="utf-8")
        with Scan.lock:
            Scan.alive.add(self)
            Scan.most = max(Scan.most, len(Scan.alive))


class Toy:
    """Reader and work in one, which write down what they do."""

    def __init__(self, *, odd=(), breaks_at=""):
        self.read_paths, self.groups = [], []
        self.odd, self.breaks_at = odd, breaks_at

    def read(self, path):
        self.read_paths.append(path)
        if os.path.basename(path) == "bad":
            raise VolumeError("damaged", path, "It cannot be read.")
        return Scan(path)

    def work(self, rows, scans):
        names = [row.name for row in rows]
        if self.breaks_at in names:
            raise KeyboardInterrupt
        self.groups.append(names)
        return [
            (
                pd.DataFrame({"name": [row.name] * 2, "text": scan.text}),
                [Problem("gap", row.path, "A slice is missing.")] * (row.name in self.odd),
            )
            for row, scan in zip(rows, scans, strict=True)
        ]

    def go(self, table, walk=ALONE, resume=None):
        return for_each(table, self.read, self.work, walk=walk, resume=resume)


def table_of(folder, names, owners=None):
    """A file for each name."""
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_text(f"text of {name}", encoding="utf-8")
    paths = [str(folder / name) for name in names]
    return pd.DataFrame({"name": names, "path": paths, "owner": owners or names})


def resume_in(folder, **changes):
    provenance = {"rule": 1, **changes.pop("provenance", {})}
    return Resume(lambda row: folder / row.name, provenance, source="text", **changes)


def test_results_come_in_the_order_of_the_rows_and_one_that_cannot_be_read_is_a_problem(tmp_path):
    toy = Toy(odd=("b",))
    found, problems = toy.go(table_of(tmp_path, ["c", "b", "bad", "a"]))
    assert found["name"].tolist() == ["c", "c", "b", "b", "a", "a"]
    assert found["text"].iloc[-1] == "text of a"
    assert toy.groups == [["c"], ["b"], ["a"]]
    assert problems == [
        Problem("gap", str(tmp_path / "b"), "A slice is missing."),
        Problem("damaged", str(tmp_path / "bad"), "It cannot be read."),
    ]


@pytest.mark.parametrize("n_readers", [1, 4])
def test_the_order_does_not_depend_on_which_scan_is_read_first(tmp_path, n_readers):
    toy, names = Toy(), list("abcdefgh")

    def read(path):
        time.sleep(0.02 if path.endswith(("a", "d")) else 0)
        return toy.read(path)

    walk = replace(ALONE, n_readers=n_readers)
    found, _ = for_each(table_of(tmp_path, names), read, toy.work, walk=walk)
    assert found["name"].drop_duplicates().tolist() == names


def test_rows_of_a_group_are_worked_on_together_groups_by_their_first_row(tmp_path):
    toy = Toy()
    table = table_of(tmp_path, ["a", "b", "c", "bad", "e"], ["x", "y", "x", "y", "z"])
    found, problems = toy.go(table, TOGETHER)
    assert toy.groups == [["a", "c"], ["b"], ["e"]]
    assert found["name"].drop_duplicates().tolist() == ["a", "c", "b", "e"]
    assert [problem.code for problem in problems] == ["damaged"]


def test_a_group_of_which_nothing_can_be_read_is_not_worked_on(tmp_path):
    toy = Toy()
    found, problems = toy.go(table_of(tmp_path, ["bad", "b"], ["x", "y"]), TOGETHER)
    assert toy.groups == [["b"]]
    assert (len(found), len(problems)) == (2, 1)


@pytest.mark.parametrize("walk", [ALONE, TOGETHER])
def test_an_empty_table_gives_an_empty_one(walk):
    toy = Toy()
    empty = pd.DataFrame(columns=["name", "path", "owner"])
    found, problems = toy.go(empty, walk)
    assert (found.empty, problems, toy.groups) == (True, [], [])


def test_rows_may_have_the_same_index(tmp_path):
    table = table_of(tmp_path, ["a", "b", "c"], ["x", "y", "x"]).set_index(pd.Index([0, 0, 0]))
    toy = Toy()
    toy.go(table, TOGETHER, resume_in(tmp_path / "out"))
    assert toy.groups == [["a", "c"], ["b"]]


@pytest.mark.parametrize(
    ("walk", "most"),
    [
        (ALONE, 1 + READ_AHEAD),
        (replace(ALONE, n_readers=4), 1 + 4),
        (TOGETHER, 3 + READ_AHEAD),
        (replace(TOGETHER, n_readers=4), 3 + 4),
    ],
)
def test_no_more_scans_are_in_memory_than_a_group_and_those_that_are_read_ahead(
    tmp_path, walk, most
):
    names = [f"{k:02d}" for k in range(18)]
    toy, table = Toy(), table_of(tmp_path, names, [k // 3 for k in range(18)])
    gc.collect()
    Scan.most = 0

    def work(rows, scans):
        time.sleep(0.01)  # so that the readers are as far ahead as they may be
        return toy.work(rows, scans)

    for_each(table, toy.read, work, walk=walk)
    assert READ_AHEAD < Scan.most <= most
    gc.collect()
    assert not Scan.alive


def test_scans_are_read_while_others_are_worked_on(tmp_path):
    read, is_second = [], threading.Event()

    def note(path):
        read.append(path)
        if len(read) == 2:
            is_second.set()

    def work(rows, scans):
        assert is_second.wait(10)
        return [(pd.DataFrame({"name": [row.name]}), []) for row in rows]

    for_each(table_of(tmp_path, ["a", "b", "c"]), note, work, walk=ALONE)
    assert len(read) == 3


def test_nothing_is_read_when_everything_is_there(tmp_path):
    table, resume = table_of(tmp_path / "in", ["a", "b", "c"]), resume_in(tmp_path / "out")
    first, again = Toy(), Toy()
    found, _ = first.go(table, resume=resume)
    same, problems = again.go(table, resume=resume)
    assert (again.read_paths, again.groups, problems) == ([], [], [])
    pd.testing.assert_frame_equal(found, same)


def test_what_was_interrupted_goes_on_with_the_rows_that_are_missing(tmp_path):
    table, resume = table_of(tmp_path / "in", list("abcd")), resume_in(tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        Toy(breaks_at="c").go(table, resume=resume)
    rest = Toy()
    found, _ = rest.go(table, resume=resume)
    assert rest.groups == [["c"], ["d"]]
    pd.testing.assert_frame_equal(found, Toy().go(table)[0])


def test_only_the_row_whose_file_changed_is_worked_on_again(tmp_path):
    table, resume = table_of(tmp_path / "in", ["a", "b", "c"]), resume_in(tmp_path / "out")
    Toy().go(table, resume=resume)
    (tmp_path / "in" / "b").write_text("another text", encoding="utf-8")
    again = Toy()
    found, _ = again.go(table, resume=resume)
    assert again.groups == [["b"]]
    assert found["text"].drop_duplicates().tolist() == ["text of a", "another text", "text of c"]


@pytest.mark.parametrize("damage", ["noise", "empty", "cut", "page", "saved by another program"])
def test_a_damaged_result_is_made_again_and_no_other(tmp_path, damage):
    table, resume = table_of(tmp_path / "in", list("abc")), resume_in(tmp_path / "out")
    found, _ = Toy().go(table, resume=resume)
    place = tmp_path / "out" / "b" / "slices.parquet"
    whole = place.read_bytes()
    page = bytearray(whole)
    page[20] ^= 0xFF  # its end, and so what it was made with, is whole
    contents = {"noise": b"no table", "empty": b"", "cut": whole[:-30], "page": bytes(page)}
    if damage in contents:
        place.write_bytes(contents[damage])
    else:
        pd.read_parquet(place).assign(text="another").to_parquet(place)
    again = Toy()
    same, problems = again.go(table, resume=resume)
    assert (again.groups, problems) == ([["b"]], [])
    pd.testing.assert_frame_equal(same, found)
    assert place.read_bytes() == whole


def test_a_result_whose_files_are_gone_is_made_again_and_no_other(tmp_path):
    class Writer(Toy):
        def work(self, rows, scans):
            results = super().work(rows, scans)
            for row, (found, _) in zip(rows, results, strict=True):
                (tmp_path / f"{row.name}.png").write_text("picture")
                found["path"] = ["", f"{row.name}.png"]
            return results

    table = table_of(tmp_path / "in", ["a", "b"])
    resume = resume_in(tmp_path / "out", root=tmp_path)
    Writer().go(table, resume=resume)
    (tmp_path / "b.png").unlink()
    again, nothing = Writer(), Writer()
    again.go(table, resume=resume)
    nothing.go(table, resume=resume)
    assert (again.groups, nothing.groups) == ([["b"]], [])


@pytest.mark.parametrize(
    "change", [{"provenance": {"rule": 2}}, {"provenance": {"segmenter": "x"}}, {"overwrite": True}]
)
def test_another_provenance_and_overwriting_work_on_everything_again(tmp_path, change):
    table = table_of(tmp_path / "in", ["a", "b"])
    Toy().go(table, resume=resume_in(tmp_path / "out"))
    again = Toy()
    again.go(table, resume=resume_in(tmp_path / "out", **change))
    assert again.groups == [["a"], ["b"]]


def test_a_row_with_problems_is_worked_on_each_time_and_says_them_again(tmp_path):
    table, resume = table_of(tmp_path / "in", ["a", "b", "bad"]), resume_in(tmp_path / "out")
    _, problems = Toy(odd="b").go(table, resume=resume)
    again = Toy(odd="b")
    found, same = again.go(table, resume=resume)
    assert again.groups == [["b"]]
    assert found["name"].drop_duplicates().tolist() == ["a", "b"]
    assert same == problems
    assert [problem.code for problem in same] == ["gap", "damaged"]


def test_a_group_is_left_alone_only_if_all_of_it_is_there(tmp_path):
    table = table_of(tmp_path / "in", list("abcd"), ["x", "y", "x", "y"])
    resume, again = resume_in(tmp_path / "out"), Toy()
    Toy().go(table, TOGETHER, resume)
    (tmp_path / "out" / "c" / "slices.parquet").unlink()
    again.go(table, TOGETHER, resume)
    assert again.groups == [["a", "c"]]
    # what one file shows decides about the others of its group
    (tmp_path / "in" / "d").write_text("another text", encoding="utf-8")
    changed = Toy()
    changed.go(table, TOGETHER, resume)
    assert changed.groups == [["b", "d"]]


def test_the_expected_finish_is_compared_with_the_limit():
    walk = Walk(group_unit="patients", limit_hours=9, advice="take fewer folds")
    assert "3 of 90 patients in 60 s" in time_sentence(60, 3, 90, walk)
    assert "that is 0.50 of 9 hours, within the limit." in time_sentence(60, 3, 90, walk)
    late = time_sentence(360, 3, 300, walk)
    assert "that is 10.00 of 9 hours, too long: take fewer folds." in late


@pytest.mark.parametrize(("n_groups", "hours", "n_said"), [(4, 9, 1), (3, 9, 0), (4, 0, 0)])
def test_the_expected_finish_is_said_once_where_there_is_a_limit(
    tmp_path, capsys, n_groups, hours, n_said
):
    names = [f"{k}" for k in range(2 * n_groups)]
    table = table_of(tmp_path, names, [k // 2 for k in range(2 * n_groups)])
    Toy().go(table, replace(TOGETHER, limit_hours=hours))
    assert capsys.readouterr().out.count(f"3 of {n_groups} owners in") == n_said
