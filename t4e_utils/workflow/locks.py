"""Who works on what: one pipeline on each run folder, one job on each GPU of this machine.

A lock belongs to the process that holds it. The system takes it back when the process ends, even by
SIGKILL, so none is ever stale. What such an end leaves behind is jobs that still run. They are
known by a variable of their environment, on the machine they run on.

    python -m t4e_utils.workflow.locks --devices 1 -- papermill notebooks/05_train_cls.ipynb o.ipynb

waits until a GPU is free, and the command sees only this one (`CUDA_VISIBLE_DEVICES`). Schedulers
give out devices themselves; this is for a machine without one.
"""

from __future__ import annotations

import argparse
import getpass
import os
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import psutil
from filelock import lock_descriptor

from t4e_utils import printable
from t4e_utils.files import write_error
from t4e_utils.workflow import PipelineError

LOCK = ".lock"  # in the run folder; says who holds it
VARIABLE = "T4E_RUN_DIR"  # in the environment of every job
# kernels look for their parent once a second, and workers of a data loader every five
PATIENCE_S = 15
VISIBLE = "CUDA_VISIBLE_DEVICES"
# what can lie in a lock's place; a file with more than one name is a link too
KINDS = {stat.S_IFLNK: "a symbolic link", stat.S_IFDIR: "a folder", stat.S_IFREG: "a hard link"}
PAUSE_S = 1.0  # between two looks for a free device
# of all runs of a user on this machine; Windows has no getuid
LOCKS = Path(tempfile.gettempdir()) / f"t4e-gpus-{getattr(os, 'getuid', getpass.getuser)()}"


def lock_run(run_dir: Path, *, patience_s: float = PATIENCE_S) -> None:
    """Take a run folder for this process until it ends, whichever clone or machine others use.

    Args:
        run_dir: is made.
        patience_s: how long to wait for processes of an earlier pipeline to notice that it has
            ended.

    Raises:
        PipelineError: another pipeline works on it, processes of an earlier one still do, or its
            lock is a link or a folder.
        WriteError: it cannot be written to.
    """
    run_dir = run_dir.absolute()
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        lock = _open(run_dir / LOCK)
    except OSError as error:
        raise write_error(run_dir / LOCK, error) from error
    try:
        is_ours = lock_descriptor(lock, blocking=False)
    except OSError as error:
        is_ours = True
        said = (
            f"The file system of {run_dir} keeps no locks ({error.strerror}): see to it that "
            "no second run works on it."
        )
        print(printable(said), file=sys.stderr)
    if not is_ours:
        holder = "it cannot be read which"
        with suppress(OSError), os.fdopen(lock, errors="replace") as file:
            holder = file.read(200).strip()
        raise PipelineError(
            f"Another run works on {run_dir} ({holder}): wait until it ends, or choose another "
            "run_dir."
        )
    since = f"{datetime.now():%Y-%m-%d %H:%M:%S}"
    with suppress(OSError):  # who holds it is only for the sentence above
        os.truncate(lock, 0)
        os.write(lock, f"process {os.getpid()} on {socket.gethostname()} since {since}\n".encode())
    _wait_for_others(run_dir, patience_s)  # the lock stays open: closing it would give it back


def workers_of(run_dir: Path) -> list[int]:
    """Return the processes of this machine that were started as jobs of a run, or by such jobs."""
    return sorted(
        process.pid
        for process in psutil.process_iter()
        if _run_of(process) == str(run_dir.absolute())
    )


def visible_gpus() -> list[str]:
    """Return the NVIDIA GPUs that a process may use.

    They have their unique ids, or the names that `CUDA_VISIBLE_DEVICES` gives them if it is set.
    """
    if VISIBLE in os.environ:
        names = [name.strip() for name in os.environ[VISIBLE].split(",")]
        return [name for name in names if name not in ("", "-1")]
    command = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return told.stdout.split() if told.returncode == 0 else []


def lock_gpus(gpus: Sequence[str], n: int, *, locks: Path = LOCKS) -> dict[str, int]:
    """Wait until n of the GPUs are free, and hold them.

    Args:
        gpus: that may be taken, as `visible_gpus` names them.
        n: how many.
        locks: folder of the locks; all jobs that share the GPUs use the same.

    Returns:
        The open lock of each GPU taken, a file descriptor. It is held until it is closed, here and
        in the command that this process becomes.

    Raises:
        PipelineError: there are fewer than n, the locks cannot be made, or their folder or one of
            them is a link.
    """
    if n > len(gpus):
        raise PipelineError(
            f"A training over {n} processes needs as many GPUs, and this machine shows "
            f"{len(gpus)}: lower num_processes."
        )
    try:
        if locks.is_symlink():
            raise PipelineError(f"The locks' folder {locks} is a symbolic link: delete it.")
        locks.mkdir(mode=0o700, exist_ok=True)
        while len(taken := _free(gpus, n, locks)) < n:
            for lock in taken.values():
                os.close(lock)
            time.sleep(PAUSE_S)
    except OSError as error:
        raise PipelineError(
            f"GPUs are given out by locks in {locks}, which cannot be written "
            f"({error.strerror}): correct its owner or delete it."
        ) from error
    return taken


def _free(gpus: Sequence[str], n: int, locks: Path) -> dict[str, int]:
    taken: dict[str, int] = {}
    for gpu in gpus:
        if len(taken) == n:
            break
        lock = _open(locks / f"{gpu.replace('/', '-')}.lock")
        if lock_descriptor(lock, blocking=False):
            taken[gpu] = lock
        else:
            os.close(lock)
    return taken


def _open(path: Path) -> int:
    """Open a lock's file, which is made.

    Never write through a link of either kind: somebody else may have laid it there, and the file
    that it leads to would be emptied. Nor is a pipe waited for.

    Raises:
        PipelineError: it is a link, a folder, or no file that belongs to this name alone.
        OSError: it cannot be opened.
    """
    with suppress(FileNotFoundError):
        _require_plain(path, path.lstat())
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    lock = os.open(path, flags, 0o666)
    try:
        _require_plain(path, os.fstat(lock))  # of what was opened, whatever has become of the name
    except PipelineError:
        os.close(lock)
        raise
    return lock


def _require_plain(path: Path, found: os.stat_result) -> None:
    if stat.S_ISREG(found.st_mode) and found.st_nlink < 2:
        return
    what = KINDS.get(stat.S_IFMT(found.st_mode), "no file")
    raise PipelineError(f"The lock {path} is {what}: delete it, then start again.")


def _run_of(process: psutil.Process) -> str:
    try:
        is_alive = process.status() != psutil.STATUS_ZOMBIE
        return process.environ().get(VARIABLE, "") if is_alive else ""
    except (psutil.Error, OSError):
        return ""


def _wait_for_others(run_dir: Path, patience_s: float) -> None:
    until = time.monotonic() + patience_s
    while left := [pid for pid in workers_of(run_dir) if pid != os.getpid()]:
        if time.monotonic() > until:
            pids = " ".join(map(str, left))
            raise PipelineError(
                f"Jobs of an earlier run still write to {run_dir}: wait until they end, or end "
                f"them (kill {pids})."
            )
        time.sleep(0.5)


def main(arguments: Sequence[str] | None = None) -> None:
    """Take GPUs, then become the command."""
    parser = argparse.ArgumentParser(
        prog="python -m t4e_utils.workflow.locks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--devices", type=int, default=1, help="how many GPUs the command gets")
    parser.add_argument("command", nargs="+")
    chosen = parser.parse_args(arguments)
    if gpus := visible_gpus():
        try:
            taken = lock_gpus(gpus, chosen.devices)
        except PipelineError as error:
            sys.exit(str(error))
        for lock in taken.values():
            os.set_inheritable(lock, True)  # the command holds it on
        os.environ[VISIBLE] = ",".join(taken)
        print(f"GPU {', '.join(taken)}", flush=True)
    if sys.platform == "win32":  # there this process would end and its locks with it
        sys.exit(subprocess.run(chosen.command, check=False).returncode)
    os.execvp(chosen.command[0], chosen.command)


if __name__ == "__main__":
    main()
