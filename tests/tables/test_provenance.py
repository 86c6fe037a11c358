"""A result that was made otherwise is not taken for the present one, and one that was not, is."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
import pytest

from t4e_utils.tables import provenance, run, store

TABLE = pd.DataFrame({"patient_id": ["00006", "00123"], "dice": [0.5, np.nan]})


def made(seed=1, **sources):
    return {"seed": seed, "planes": ("axial",), provenance.MADE_FROM: sources}


@pytest.fixture
def path(tmp_path):
    """A table that was made from two things."""
    return store.write_table(TABLE, tmp_path / "t.parquet", provenance=made(labels="aa", scans="b"))


def test_a_finished_table_is_used_and_one_made_with_other_parameters_is_neither_used_nor_lost(
    path, tmp_path
):
    assert not provenance.is_finished(tmp_path / "other.parquet", made())
    assert provenance.read_current(tmp_path / "other.parquet", made()) is None
    now = made(labels="aa", scans="b")
    assert provenance.is_finished(path, now)
    pd.testing.assert_frame_equal(provenance.read_current(path, now), TABLE)
    assert not provenance.is_finished(path, made(seed=2), overwrite=True)
    assert provenance.read_current(path, made(seed=2, labels="aa", scans="b")) is None
    with pytest.raises(
        provenance.StaleResultError,
        match=r"t\.parquet was made with other parameters \(seed was 1, is now 2\): "
        "set overwrite = True .* or choose another run_dir",
    ):
        provenance.is_finished(path, made(seed=2, labels="aa", scans="b"))
    pd.testing.assert_frame_equal(pd.read_parquet(path), TABLE)


def test_a_table_made_from_other_data_is_refused_by_the_name_of_what_changed(path):
    now = made(labels="ab", scans="b")
    with pytest.raises(
        provenance.StaleResultError,
        match=r"t\.parquet was made from other data \(labels changed since\): set overwrite = True",
    ):
        provenance.is_finished(path, now)
    assert provenance.read_current(path, now) is None
    with pytest.raises(provenance.StaleResultError, match=r"labels, scans changed since"):
        provenance.is_finished(path, made(labels="ab", scans="c"))
    with pytest.raises(provenance.StaleResultError, match=r"seed was 1.*; from other data"):
        provenance.is_finished(path, made(seed=2, labels="ab", scans="b"))
    assert not provenance.is_finished(path, now, overwrite=True)


def test_what_a_table_does_not_say_is_not_known_and_that_is_said(tmp_path, path, capsys):
    old = store.write_table(TABLE, tmp_path / "old.parquet", provenance={"seed": 1})
    now = {"seed": 1, provenance.MADE_FROM: {"labels": "aa"}}
    assert provenance.is_finished(old, now)
    said = capsys.readouterr().out
    assert "old.parquet does not say what it was made from" in said
    assert said.endswith("changed since: labels.\n")
    assert provenance.is_finished(path, made(labels="aa", scans="b", folds="c"))
    assert capsys.readouterr().out.endswith("changed since: folds.\n")
    assert provenance.read_current(old, now) is not None
    assert capsys.readouterr().out == ""
    # a stage that is always made anew compares parameters alone
    assert provenance.is_finished(path, {"seed": 1, "planes": ["axial"]})


def test_a_table_that_another_program_saved_is_not_taken_for_a_result(path):
    pd.read_parquet(path).to_parquet(path)
    with pytest.raises(provenance.StaleResultError, match=r"t\.parquet does not say what it was"):
        provenance.is_finished(path, made())
    assert provenance.read_current(path, made()) is None


def test_all_of_several_tables_are_looked_at(tmp_path, path):
    now = made(labels="aa", scans="b")
    assert provenance.are_finished([path, path], now)
    assert not provenance.are_finished([path, tmp_path / "missing.parquet"], now)
    with pytest.raises(provenance.StaleResultError, match="labels changed since"):
        provenance.are_finished([tmp_path / "missing.parquet", path], made(labels="x", scans="b"))


def test_a_damaged_table_is_no_finished_one_and_is_made_anew_where_nobody_is_asked(path):
    now = made(labels="aa", scans="b")
    whole = path.read_bytes()
    page = bytearray(whole)
    page[20] ^= 0xFF
    for content in (b"no table", b"", whole[: len(whole) // 2], bytes(page)):
        path.write_bytes(content)
        assert provenance.read_current(path, now) is None
    path.write_text("no table")
    with pytest.raises(
        run.MissingInputError, match=r"is damaged .*: delete it, it will be made anew"
    ):
        provenance.is_finished(path, now)
    path.unlink()
    path.mkdir()
    for look in (provenance.is_finished, provenance.read_current):
        with pytest.raises(run.MissingInputError, match=r"t\.parquet is no file: delete it"):
            look(path, now)


@pytest.mark.parametrize("loss", ["deleted", "emptied", "folder deleted"])
def test_a_table_whose_files_are_gone_is_not_finished(tmp_path, capsys, loss):
    for name in ("a/1.png", "a/2.png", "b/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("picture")
    rows = pd.DataFrame({"path": ["a/1.png", "", "a/2.png", "b/1.png"]})
    table = store.write_table(rows, tmp_path / "slices.parquet", provenance=made())
    assert provenance.is_finished(table, made(), root=tmp_path)
    if loss == "emptied":
        (tmp_path / "b/1.png").write_text("")
    else:
        (tmp_path / "b/1.png").unlink()
    if loss == "folder deleted":
        (tmp_path / "b").rmdir()
    assert provenance.is_finished(table, made())
    assert not provenance.is_finished(table, made(), root=tmp_path)
    assert "1 files that" in capsys.readouterr().out
    assert provenance.read_current(table, made(), root=tmp_path) is None


def test_a_table_that_names_no_files_lacks_none(path, tmp_path):
    assert provenance.is_finished(path, made(labels="aa", scans="b"), root=tmp_path)


def test_a_result_is_older_than_a_table_that_was_made_anew(path, tmp_path):
    card, options = tmp_path / "card.json", {"made_by": "05_train_cls"}
    provenance.require_current(card, made(labels="aa", scans="b"), path, **options)
    # what a card leaves out is not compared
    provenance.require_current(card, {"seed": 1}, path, **options)
    (tmp_path / "damaged.parquet").write_text("no table")
    for name in ("gone.parquet", "damaged.parquet"):
        provenance.require_current(card, made(seed=9), tmp_path / name, **options)
    for now, what in ((made(2, labels="aa"), "seed was 2, is now 1"), (made(labels="x"), "labels")):
        with pytest.raises(
            provenance.StaleResultError,
            match=rf"card\.json was made before .*t\.parquet was made anew .*{what}.*: run 05",
        ):
            provenance.require_current(card, now, path, **options)


def test_the_content_of_a_file_is_each_of_its_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"weights")
    (tmp_path / "b").write_bytes(b"weights")
    (tmp_path / "c").write_bytes(b"weightt")
    found = [provenance.content_of(tmp_path / name) for name in "abc"]
    # the first digits of what `sha256sum` prints
    assert found[0] == "9a129038"
    assert found[0] == found[1] != found[2]
    assert provenance.content_of(tmp_path) == provenance.content_of(tmp_path / "gone") == ""


def test_the_state_of_folders_changes_with_names_sizes_and_times_alone(tmp_path):
    series = [tmp_path / "data" / name for name in ("a", "b")]
    for folder in series:
        folder.mkdir(parents=True)
        for name in ("1.dcm", "2.dcm"):
            (folder / name).write_text("image")
    state = provenance.state_of(series, tmp_path)
    assert state == provenance.state_of(map(str, reversed(series)), tmp_path)
    (series[0] / ".hidden").write_text("x")
    (series[0] / "deeper").mkdir()
    os.utime(series[0])
    assert state == provenance.state_of(series, tmp_path)
    file, seen = series[1] / "2.dcm", {state}
    times = os.stat(file)
    file.write_text("IMAGE")
    seen.add(provenance.state_of(series, tmp_path))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert provenance.state_of(series, tmp_path) == state  # as with make: a time put back deceives
    for change in (
        lambda: file.write_text("longer image"),
        lambda: file.rename(series[1] / "3.dcm"),
        lambda: (series[1] / "3.dcm").unlink(),
        lambda: series[1].rename(tmp_path / "data" / "c"),
    ):
        change()
        seen.add(provenance.state_of([*series, tmp_path / "data" / "c"], tmp_path))
    assert len(seen) == 6
    # the same files elsewhere
    one = provenance.state_of([tmp_path / "data" / "a"], tmp_path / "data")
    (tmp_path / "data").rename(tmp_path / "moved")
    assert provenance.state_of([tmp_path / "moved" / "a"], tmp_path / "moved") == one


def test_single_files_and_files_that_are_gone_have_a_state(tmp_path):
    (tmp_path / "a.nii.gz").write_text("volume")
    here = provenance.state_of([tmp_path / "a.nii.gz"], tmp_path)
    (tmp_path / "a.nii.gz").unlink()
    assert provenance.state_of([tmp_path / "a.nii.gz"], tmp_path) != here
