"""Files are whole or not there, and what hinders writing is said in a sentence.

On a disk of 4 MB where one may be mounted.
"""

import errno
import os
import subprocess

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.training_runs import state_of

from t4e_utils.competitions.brain_tumor.phantoms import PhantomConfig, write_phantoms
from t4e_utils.files import WriteError, atomic_write, is_disk_full, open_file, require_writable
from t4e_utils.learning.checkpoints import read_checkpoint, write_checkpoint
from t4e_utils.learning.weights import save_weights
from t4e_utils.sampling.pictures import read_picture, stack_channels, write_picture
from t4e_utils.tables.store import write_json, write_table

# PNG makes it no smaller than a megabyte
NOISE = np.random.default_rng(0).integers(0, 256, (1024, 1024), dtype=np.uint8)


def test_a_file_takes_its_name_when_the_block_has_ended_well(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with atomic_write(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert os.listdir(path.parent) == ["a.txt"]


def test_a_block_that_fails_leaves_what_was_there_and_its_own_error(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")
    with pytest.raises(UnicodeEncodeError), atomic_write(path) as temporary:
        temporary.write_text("half \ud800", encoding="utf-8")
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            r"a\.txt cannot be written, because the disk is full: make room",
        ),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "because the disk is full"),
        (
            ValueError("I/O error: No space left on device (os error 28)"),
            "because the disk is full",
        ),
        (
            OSError(errno.EROFS, "Read-only file system"),
            r"a\.txt cannot be written \(Read-only file system\): choose a folder",
        ),
    ],
)
def test_what_hinders_writing_is_said(tmp_path, error, sentence):
    with pytest.raises(WriteError, match=sentence), atomic_write(tmp_path / "a.txt"):
        raise error
    assert not os.listdir(tmp_path)


def test_a_file_where_a_folder_should_be_is_named(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(
        WriteError, match=r"table\.parquet cannot be written \((File exists|Not a directory)\)"
    ):
        write_table(pd.DataFrame({"a": [1]}), tmp_path / "run" / "table.parquet")
    with pytest.raises(WriteError, match=r"phantoms cannot be written"):
        write_phantoms(
            tmp_path / "run" / "phantoms",
            PhantomConfig(n_brats=0, n_overlap=0, n_train=2, n_test=0),
            n_jobs=1,
        )


@pytest.fixture
def small_disk(tmp_path):
    """Four megabytes, where this user may mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if (
        os.name != "posix"
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=4m", "none", folder],
            capture_output=True,
            check=False,
        ).returncode
    ):
        pytest.skip("a small disk cannot be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_on_a_full_disk_every_writer_says_so_leaves_nothing_and_goes_on_after_room_is_made(
    small_disk,
):
    big = torch.nn.Linear(1500, 1000)
    frame = pd.DataFrame({"a": np.random.default_rng(0).random(1_000_000)})
    writers = {
        "a.parquet": lambda path: write_table(frame, path),
        "a.json": lambda path: write_json({"a": "x" * 5_000_000}, path),
        "a.safetensors": lambda path: save_weights(big, path, {}),
        "last.pt": lambda path: write_checkpoint(path.parent, {"a": torch.zeros(1_500_000)}),
    }
    for name, write in writers.items():
        with pytest.raises(
            WriteError, match=rf"{name} cannot be written, because the disk is full"
        ):
            write(small_disk / name)
        assert not os.listdir(small_disk)
    channels = stack_channels(NOISE, np.zeros((2, *NOISE.shape)))
    with pytest.raises(WriteError, match=r"\d\.png cannot be written, because the disk is full"):
        [write_picture(small_disk / f"{index}.png", channels) for index in range(4)]
    written = sorted(os.listdir(small_disk))
    assert written[0] == "0.png"
    assert all((read_picture(small_disk / name)[..., 0] == NOISE).all() for name in written)
    (small_disk / "0.png").unlink()
    write_picture(small_disk / f"{len(written)}.png", channels)


def test_a_disk_with_less_than_a_megabyte_is_full_also_seen_from_a_folder_that_is_not_there(
    small_disk,
):
    assert not is_disk_full(small_disk / "run")
    (small_disk / "ballast").write_bytes(bytes(3_500_000))
    assert is_disk_full(small_disk / "run")


def test_a_checkpoint_that_finds_no_room_leaves_the_one_before_it(small_disk):
    write_checkpoint(small_disk, state_of(1, model={"weights": torch.zeros(300_000)}))
    with pytest.raises(WriteError, match=r"last\.pt cannot be written"):
        write_checkpoint(small_disk, state_of(2, model={"weights": torch.zeros(900_000)}))
    assert read_checkpoint(small_disk)["progress"]["epoch"] == 1
    assert os.listdir(small_disk) == ["last.pt"]


def test_a_place_that_can_be_written_to_is_left_as_it_was(tmp_path):
    require_writable(tmp_path / "new" / "a.csv")
    assert os.listdir(tmp_path / "new") == []
    (tmp_path / "a.csv").write_text("before")
    require_writable(tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == "before"


def test_a_place_that_cannot_be_written_to_is_refused_before_the_work(tmp_path):
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(WriteError, match=r"a\.csv cannot be written, because it is a folder"):
        require_writable(tmp_path / "a.csv")
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match=r"cannot be written \(.*choose a folder"):
        require_writable(tmp_path / "file" / "b.csv")


def test_a_file_is_opened_and_nothing_else_is_waited_for(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    with open_file(tmp_path / "file") as file:
        assert file.read() == b"content"
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="it is a pipe or a device"):
        open_file(tmp_path / "pipe")
    with pytest.raises(OSError, match="it is a pipe or a device"):
        open_file("/dev/zero")
    with pytest.raises(OSError, match="Is a directory"):
        open_file(tmp_path)
    with pytest.raises(OSError, match="a zero byte in the path"):
        open_file("a\0b")
