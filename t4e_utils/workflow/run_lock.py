"""One pipeline at a time on a run folder, whichever clone or machine it is started from.

The lock belongs to the process: the system takes it back when the process ends, even by SIGKILL, so
none is ever stale. What such an end leaves behind is notebooks that still run; they are known by a
variable of their environment, on the machine they run on.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import socket
import sys
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import psutil

from t4e_utils import T4EError
from t4e_utils.files import write_error

LOCK = ".lock"  # in the run folder; says who holds it
VARIABLE = "T4E_RUN_DIR"  # in the environment of every job
# kernels look for their parent once a second, and workers of a data loader every five
PATIENCE_S = 15


class RunLockError(T4EError):
    """Another pipeline, or what is left of one, works on the run folder."""


def lock_run(run_dir: Path, *, patience_s: float = PATIENCE_S) -> None:
    """Take a run folder for this process until it ends.

    Args:
        run_dir: is made.
        patience_s: how long to wait for processes of an earlier pipeline to notice that it has
            ended.

    Raises:
        RunLockError: another pipeline works on it, or processes of an earlier one still do.
        WriteError: it cannot be written to.
    """
    run_dir = run_dir.absolute()
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        lock = (run_dir / LOCK).open("a+")
    except OSError as error:
        raise write_error(run_dir / LOCK, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        holder = lock.read().strip()
        lock.close()
        raise RunLockError(
            f"Another run works on {run_dir} ({holder}): wait until it ends, or choose another "
            "run_dir."
        ) from None
    except OSError as error:
        print(
            f"The file system of {run_dir} keeps no locks ({error.strerror}): see to it that "
            "no second run works on it.",
            file=sys.stderr,
        )
    atexit.register(lock.close)  # not before: closing it gives the lock back
    with suppress(OSError):  # who holds it is only for the sentence above
        lock.truncate(0)
        lock.write(
            f"process {os.getpid()} on {socket.gethostname()} since "
            f"{datetime.now():%Y-%m-%d %H:%M:%S}\n"
        )
        lock.flush()
    _wait_for_others(run_dir, patience_s)


def workers_of(run_dir: Path) -> list[int]:
    """Return the processes of this machine that were started as jobs of a run, or by such jobs."""
    return sorted(
        process.pid
        for process in psutil.process_iter()
        if _run_of(process) == str(run_dir.absolute())
    )


def _run_of(process: psutil.Process) -> str:
    try:
        return (
            "" if process.status() == psutil.STATUS_ZOMBIE else process.environ().get(VARIABLE, "")
        )
    except (psutil.Error, OSError):
        return ""


def _wait_for_others(run_dir: Path, patience_s: float) -> None:
    until = time.monotonic() + patience_s
    while left := [pid for pid in workers_of(run_dir) if pid != os.getpid()]:
        if time.monotonic() > until:
            pids = " ".join(map(str, left))
            raise RunLockError(
                f"Jobs of an earlier run still write to {run_dir}: wait until they end, or end "
                f"them (kill {pids})."
            )
        time.sleep(0.5)
