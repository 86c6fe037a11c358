"""Files that are whole or not there.

Written under a temporary name beside their place, renamed when complete.

What keeps a file from being written (a full disk, a folder that is read-only) becomes one sentence,
and nothing half-written stays.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from t4e_utils import T4EError

LEAST_FREE = 1 << 20  # bytes; a disk with less is called full
FULL = (errno.ENOSPC, errno.EDQUOT)
# safetensors has its own error, with these words and no number
FULL_IN_WORDS = "No space left on device"


class WriteError(T4EError):
    """A file cannot be written where it belongs."""


def open_file(path: str | os.PathLike, *, buffering: int = -1) -> BinaryIO:
    """Open a file to be read; whatever else lies there is an error, also a pipe.

    The other end of a pipe would be waited for, and a device can have no end.

    Raises:
        OSError: it is not there, no file, or may not be read.
    """
    try:
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except ValueError as error:
        raise OSError(errno.EINVAL, "a zero byte in the path", path) from error
    kind = os.fstat(number).st_mode
    if not stat.S_ISREG(kind):
        os.close(number)
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        raise OSError(errno.EINVAL, "it is a pipe or a device", path)
    return os.fdopen(number, "rb", buffering)


@contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path, which takes the name `path` if the block ends well.

    If the block does not end well, what was written is removed.

    Args:
        path: its folder is made.

    Raises:
        WriteError: the disk is full, or the place cannot be written to.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except BaseException as error:
        # before the room that the half-written file takes is free again
        refused = write_error(path, error)
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if refused is None:
            raise
        raise refused from error


def require_writable(path: Path) -> None:
    """Refuse a place that cannot be written to, before the work whose result belongs there.

    Raises:
        WriteError: the disk is full, or the place cannot be written to.
    """
    if path.is_dir():
        raise WriteError(f"{path} cannot be written, because it is a folder: remove it.")
    trial = path.with_name(f".{path.name}.trial")
    with atomic_write(trial) as temporary:
        temporary.write_bytes(bytes(LEAST_FREE))
    trial.unlink()


def write_error(path: Path, error: BaseException) -> WriteError | None:
    """Say why a file cannot be written; None if the error has another cause than the place."""
    is_full = getattr(error, "errno", None) in FULL or FULL_IN_WORDS in str(error)
    # torch.save does not say why it stopped
    if is_full or (isinstance(error, RuntimeError) and is_disk_full(path)):
        return WriteError(
            f"{path} cannot be written, because the disk is full: make room, then start again; "
            "what is complete stays."
        )
    if isinstance(error, OSError):
        return WriteError(
            f"{path} cannot be written ({error.strerror or error}): choose a folder that can "
            "be written to."
        )
    return None


def is_disk_full(path: Path) -> bool:
    """Return whether a path's disk has no room left, whether or not its folder is there."""
    there = next(
        (folder for folder in (path, *path.absolute().parents) if os.path.exists(folder)),
        Path.cwd(),
    )
    return shutil.disk_usage(there).free < LEAST_FREE
