"""Compressed pixels of DICOM files, decoded in a process of their own.

Damaged bytes end that process and not the run: the decoders of JPEG, JPEG-LS and JPEG 2000 are C
and C++ libraries that abort on some damaged streams. This file is both sides: imported it offers
`decode`, run as a script it is the decoding process, which imports nothing of this package. A
request is a path on a line, the answer a line of JSON and the bytes of the array.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pydicom

MEMORY_BYTES = 4 << 30  # address space of the decoding process, where the system can limit it
READY = b"ready\n"
SECONDS, SECONDS_PER_MB = 4.0, 4.0  # a file may take so long; decoders are ten times faster


class DecodingError(Exception):
    """Pixels cannot be decoded: what the decoder said, or how its process ended."""


def decode(path: Path) -> np.ndarray:
    """Return the pixels of a compressed DICOM file as pydicom decodes them, (H, W) or (N, H, W).

    Raises:
        DecodingError: damaged pixels, too large or too slow to decode, or no decoder for this kind.
    """
    return _decoder(os.getpid()).decode(path)


@cache
def _decoder(pid: int) -> _Decoder:  # a forked process must not talk into its parent's pipes
    return _Decoder()


class _Decoder:
    """The decoding process of this process: started when needed, started anew when it died."""

    def __init__(self) -> None:
        self._lock, self._process = threading.Lock(), None
        atexit.register(self._stop)

    def decode(self, path: Path) -> np.ndarray:
        with self._lock:
            process = self._running()
            timer = threading.Timer(
                SECONDS + SECONDS_PER_MB * path.stat().st_size / 1e6, process.kill
            )
            timer.start()
            try:
                return _ask(process, path)
            except (BrokenPipeError, EOFError) as error:
                self._stop()
                raise DecodingError(
                    f"the decoder broke down, exit status {process.returncode}"
                ) from error
            finally:
                timer.cancel()

    def _running(self) -> subprocess.Popen:
        if self._process is None or self._process.poll() is not None:
            self._stop()
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
            if self._process.stdout.readline() != READY:  # time is measured from here
                self._stop()
                raise DecodingError(
                    "the decoding process does not start: check that this Python can import "
                    "pydicom and numpy"
                )
        return self._process

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()


def _ask(process: subprocess.Popen, path: Path) -> np.ndarray:
    process.stdin.write(json.dumps(str(path.absolute())).encode() + b"\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    answer = json.loads(line)
    for message in answer["warnings"]:
        warnings.warn(message, UserWarning, stacklevel=2)
    if "error" in answer:
        raise DecodingError(answer["error"])
    array = np.empty(answer["shape"], answer["dtype"])
    if process.stdout.readinto(array.reshape(-1).view(np.uint8)) < array.nbytes:
        raise EOFError
    return array


def _serve() -> None:
    """Answer requests until the input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what decoders print must not run into the answers
    _limit_memory()
    answers.write(READY)
    answers.flush()
    for line in sys.stdin.buffer:
        answer, pixels = _decoded(json.loads(line))
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.write(pixels)
        answers.flush()


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(MEMORY_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _decoded(path: str) -> tuple[dict, bytes | memoryview]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            pixels = np.ascontiguousarray(pydicom.dcmread(path, force=True).pixel_array)
            answer = {"shape": pixels.shape, "dtype": pixels.dtype.str}
        # whatever it is, it is the file's fault, and the next file is another one
        except Exception as error:
            pixels, answer = np.empty(0), {"error": str(error) or type(error).__name__}
    said = [str(one.message) for one in caught if issubclass(one.category, UserWarning)]
    return {**answer, "warnings": said}, pixels.reshape(-1).view(np.uint8).data


if __name__ == "__main__":
    _serve()
