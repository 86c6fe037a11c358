"""A folder of phantoms appears when it is complete, and is never changed afterwards."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from t4e_utils.files import WriteError
from t4e_utils.phantoms.cohort import CARD, PhantomError, write_cohort

PHANTOMS = {"seed": 5, "size": 40}


def draw(folder: Path) -> None:
    (folder / "scans").mkdir()
    (folder / "scans" / "1").write_bytes(b"drawn")


def never(folder: Path) -> None:
    raise AssertionError("nothing is to be drawn")


def test_phantoms_are_drawn_once_and_their_card_says_how(tmp_path):
    root = tmp_path / "new" / "phantoms"
    assert write_cohort(root, PHANTOMS, draw)
    assert not write_cohort(root, PHANTOMS, never)
    assert {path.name for path in root.iterdir()} == {"scans", CARD}
    assert (root / CARD).read_text() == '{\n  "seed": 5,\n  "size": 40\n}\n'
    assert [path.name for path in root.parent.iterdir()] == ["phantoms"]


def test_an_empty_folder_is_free(tmp_path):
    assert write_cohort(tmp_path, PHANTOMS, draw)


def test_other_phantoms_are_named_and_left_alone(tmp_path):
    write_cohort(tmp_path / "p", PHANTOMS, draw)
    with pytest.raises(PhantomError, match="other phantoms, seed = 5 instead of 6: choose another"):
        write_cohort(tmp_path / "p", {**PHANTOMS, "seed": 6}, never)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "scan.dcm").write_bytes(b"precious")
    with pytest.raises(PhantomError, match=r"has no phantoms\.json, so it holds no phantoms"):
        write_cohort(tmp_path, PHANTOMS, never)
    assert (tmp_path / "scan.dcm").read_bytes() == b"precious"


def test_a_damaged_card_is_reported(tmp_path):
    (tmp_path / CARD).write_text("{")
    with pytest.raises(PhantomError, match=r"phantoms\.json is damaged"):
        write_cohort(tmp_path, PHANTOMS, never)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "full")])
def test_what_is_not_complete_leaves_nothing(tmp_path, error):
    def stop(folder: Path) -> None:
        draw(folder)
        raise error

    expected = WriteError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected, match="disk is full" if expected is WriteError else None):
        write_cohort(tmp_path / "p", PHANTOMS, stop)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="cannot be written"):
        write_cohort(tmp_path / "file" / "p", PHANTOMS, never)


def test_of_two_processes_the_slower_one_finds_what_the_faster_one_drew(tmp_path):
    def slow(folder: Path) -> None:
        draw(folder)
        assert write_cohort(tmp_path / "p", PHANTOMS, draw)

    assert not write_cohort(tmp_path / "p", PHANTOMS, slow)
    assert [path.name for path in tmp_path.iterdir()] == ["p"]
