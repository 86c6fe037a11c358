"""Compressed pixels of DICOM files, decoded in a process of their own.

Damaged bytes end that process and not the run: the decoders of JPEG, JPEG-LS and JPEG 2000 are C
and C++ libraries that abort on some damaged streams. This file is both sides: imported it offers
`decode`, run as a script it is the decoding process, which imports nothing of this package. A
request is a path with its sizes on a line, the answer a line of JSON and the bytes of the array.
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
from pydicom.pixels import get_decoder

# Address space of the decoding process, where the system can limit it: what it has before it
# decodes, all pixels, several copies of one image (JPEG 2000 is decoded in 32 bits), and the rest.
MEMORY_BYTES, IMAGE_COPIES, REST_BYTES = 4 << 30, 16, 256 << 20
READY = b"ready\n"
SECONDS, SECONDS_PER_MB = 4.0, 4.0  # a file may take so long; decoders are ten times faster


class DecodingError(Exception):
    """Pixels cannot be decoded: what the decoder said, or how its process ended."""


def decode(path: Path, n_bytes: int, n_images: int = 1) -> np.ndarray:
    """Return the pixels of a compressed DICOM file as pydicom decodes them, (H, W) or (N, H, W).

    Bits above those stored are as they were compressed.

    Args:
        path: of the file.
        n_bytes: of its decoded pixels; a stream that needs much more memory is not decoded.
        n_images: how many images these are.

    Raises:
        DecodingError: damaged pixels, too large or too slow to decode, or no decoder for this kind.
    """
    return _decoder(os.getpid()).decode(path, n_bytes, n_images)


@cache
def _decoder(pid: int) -> _Decoder:  # a forked process must not talk into its parent's pipes
    return _Decoder()


class _Decoder:
    """The decoding process of this process: started when needed, started anew when it died."""

    def __init__(self) -> None:
        self._lock, self._process = threading.Lock(), None
        atexit.register(self._stop)

    def decode(self, path: Path, *size: int) -> np.ndarray:
        with self._lock:
            process = self._running()
            timer = threading.Timer(
                SECONDS + SECONDS_PER_MB * path.stat().st_size / 1e6, process.kill
            )
            timer.start()
            try:
                return _ask(process, path, *size)
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


def _ask(process: subprocess.Popen, path: Path, *size: int) -> np.ndarray:
    process.stdin.write(json.dumps([str(path.absolute()), *size]).encode() + b"\n")
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
    _limit_memory(MEMORY_BYTES)
    before = _address_space()
    answers.write(READY)
    answers.flush()
    for line in sys.stdin.buffer:
        path, n_bytes, n_images = json.loads(line)
        compressed = 2 * os.path.getsize(path)
        needed = n_bytes + IMAGE_COPIES * n_bytes // n_images + compressed + REST_BYTES
        answer, pixels = _decoded(path, n_images, min(before + needed, MEMORY_BYTES))
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.write(pixels)
        answers.flush()


def _address_space() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # not Linux
        return MEMORY_BYTES


def _limit_memory(limit: int) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _decoded(path: str, n_images: int, memory: int) -> tuple[dict, bytes | memoryview]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            _limit_memory(MEMORY_BYTES)
            dataset = pydicom.dcmread(path, force=True)
            dataset.NumberOfFrames = n_images  # the header may be wrong
            _limit_memory(memory)
            decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
            pixels, _ = decoder.as_array(
                dataset, allow_excess_frames=False, correct_unused_bits=False
            )
            answer = {"shape": pixels.shape, "dtype": pixels.dtype.str}
        # whatever it is, it is the file's fault, and the next file is another one
        except Exception as error:
            pixels, answer = np.empty(0), {"error": str(error) or type(error).__name__}
    said = [str(one.message) for one in caught if issubclass(one.category, UserWarning)]
    return {**answer, "warnings": said}, pixels.reshape(-1).view(np.uint8).data


if __name__ == "__main__":
    _serve()
