"""One job a GPU.

A job of the pipeline gets devices that no other job on this machine has, and waits until there are
some.

    python -m t4e_utils.workflow.gpus --devices 1 -- papermill notebooks/05_train_cls.ipynb out.ipynb

Schedulers do this themselves; this is for a machine without one. A device is held by a lock that
belongs to the job's process, so the system takes it back when the process ends, even by SIGKILL.
The job sees only its devices (`CUDA_VISIBLE_DEVICES`).
"""

from __future__ import annotations

import argparse
import fcntl
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from t4e_utils import T4EError

VISIBLE = "CUDA_VISIBLE_DEVICES"
PAUSE_S = 1.0  # between two looks for a free device
# of all runs of a user on this machine
LOCKS = Path(tempfile.gettempdir()) / f"t4e-gpus-{os.getuid()}"


class GpuError(T4EError):
    """A job asks for more devices than there are."""


def visible_gpus() -> list[str]:
    """Return the NVIDIA GPUs that a process may use, by their unique ids, or as
    `CUDA_VISIBLE_DEVICES` names them if it is set.
    """
    if VISIBLE in os.environ:
        return [
            name.strip()
            for name in os.environ[VISIBLE].split(",")
            if name.strip() not in ("", "-1")
        ]
    try:
        asked = subprocess.run(
            ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return asked.stdout.split() if asked.returncode == 0 else []


def lock_gpus(gpus: Sequence[str], n: int, *, locks: Path = LOCKS) -> dict[str, IO[str]]:
    """Wait until n of the GPUs are free, and hold them as long as the files returned are open.

    Args:
        gpus: that may be taken, as `visible_gpus` names them.
        n: how many.
        locks: folder of the locks; all jobs that share the GPUs use the same.

    Returns:
        The lock of each GPU taken, open.

    Raises:
        GpuError: there are fewer than n, or the locks cannot be made.
    """
    if n > len(gpus):
        raise GpuError(
            f"A training over {n} processes needs as many GPUs, and this machine shows "
            f"{len(gpus)}: lower num_processes."
        )
    try:
        locks.mkdir(exist_ok=True)
        while len(taken := _free(gpus, n, locks)) < n:
            for lock in taken.values():
                lock.close()
            time.sleep(PAUSE_S)
    except OSError as error:
        raise GpuError(
            f"GPUs are given out by locks in {locks}, which cannot be written "
            f"({error.strerror}): correct its owner or delete it."
        ) from error
    return taken


def _free(gpus: Sequence[str], n: int, locks: Path) -> dict[str, IO[str]]:
    taken: dict[str, IO[str]] = {}
    for gpu in gpus:
        lock = (locks / f"{gpu.replace('/', '-')}.lock").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        taken[gpu] = lock
        if len(taken) == n:
            break
    return taken


def main(arguments: Sequence[str] | None = None) -> None:
    """Take GPUs, then become the command."""
    parser = argparse.ArgumentParser(
        prog="python -m t4e_utils.workflow.gpus",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--devices", type=int, default=1, help="how many GPUs the command gets")
    parser.add_argument("command", nargs="+")
    chosen = parser.parse_args(arguments)
    if gpus := visible_gpus():
        try:
            taken = lock_gpus(gpus, chosen.devices)
        except GpuError as error:
            sys.exit(str(error))
        for lock in taken.values():
            os.set_inheritable(lock.fileno(), True)  # the command holds it on
        os.environ[VISIBLE] = ",".join(taken)
        print(f"GPU {', '.join(taken)}", flush=True)
    os.execvp(chosen.command[0], chosen.command)


if __name__ == "__main__":
    main()
