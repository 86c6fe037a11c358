"""Several processes of one machine that train one network together: one a GPU, or a few on the CPU.

They are spawned, not forked as by `accelerate.notebook_launcher`: a forked process cannot use CUDA
once any cell of the kernel has touched it, and hangs where the parent has used OpenMP threads. What
they run has to be importable, as everything in this package is. `Accelerator` finds the group in
the environment variables of torchrun, so the same functions also run under `accelerate launch`.
"""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Callable
from typing import Any

import torch
from torch.multiprocessing import SimpleQueue, get_context, start_processes
from torch.multiprocessing.spawn import ProcessRaisedException

from t4e_utils import T4EError
from t4e_utils.learning import TrainingError


def run_in_processes(
    function: Callable[..., Any], /, *args: Any, num_processes: int, **kwargs: Any
) -> None:
    """Call a function in a group of processes on this machine and wait for all.

    What it returns is not kept.

    Args:
        function: of an importable module; each process gets its own copies of the arguments.
        *args: that pickle can copy.
        num_processes: one a GPU; without a GPU they share the cores.
        **kwargs: that pickle can copy.

    Raises:
        TrainingError: more processes than GPUs.
        T4EError: whatever of this package's errors the function raises in the first process that
            fails; the others are ended.
    """
    n_gpus = torch.cuda.device_count()
    if n_gpus and num_processes > n_gpus:
        raise TrainingError(
            f"num_processes is {num_processes}, and the machine has {n_gpus} GPUs: ask for at "
            "most so many."
        )
    # Bytes, as torch's own way of sending tensors would let all processes train the same memory.
    work = pickle.dumps((function, args, kwargs))
    failures = get_context("spawn").SimpleQueue()
    try:
        start_processes(
            _work,
            args=(work, num_processes, _free_port(), failures),
            nprocs=num_processes,
            start_method="spawn",
        )
    except ProcessRaisedException:
        if not failures.empty():
            raise failures.get() from None
        raise


def _work(rank: int, work: bytes, num_processes: int, port: int, failures: SimpleQueue) -> None:
    group = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": num_processes,
        "LOCAL_WORLD_SIZE": num_processes,
    }
    os.environ.update(
        {name: str(value) for name, value in group.items()},
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    if not torch.cuda.is_available():
        os.environ.update(ACCELERATE_USE_CPU="true", GLOO_SOCKET_IFNAME="lo")
        torch.set_num_threads(max(1, torch.get_num_threads() // num_processes))
    try:
        function, args, kwargs = pickle.loads(work)
        function(*args, **kwargs)
    except T4EError as error:
        failures.put(error)
        raise
    finally:
        leave_group()


def leave_group() -> None:
    """End this process's part in the group it trained with, if there is one.

    Threads of a group that outlive the interpreter abort the process.
    """
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
