"""Fuzzing of the readers: what they make of damaged bytes.

Small files of every kind that the package reads (`fuzz_kinds`) are changed at random and read in a
child process with a memory limit. A mutant may be read, or refused with a `T4EError` that names the
file; any other exception, a hang or the death of the child is a failure.

    python -m benchmarks.fuzzing --mutants 100000 --seed 0
    python -m benchmarks.fuzzing --mutants 2000 --kinds nifti card
"""

from __future__ import annotations

import argparse
import os
import resource
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.fuzz_kinds import KINDS, Kind
from t4e_utils import T4EError
from t4e_utils.scans.problems import CODES, VolumeError
from t4e_utils.scans.volume import Volume

ROOT = Path(__file__).parents[1]
MEMORY_LIMIT = 2 << 30  # bytes of address space of the child, above what its imports take
HANG_SECONDS = 5.0
START_SECONDS = 60.0  # imports of the child
NUMBERS = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFE,
    0xFFFFFFFF,
)


def mutant(data: bytes, rng: np.random.Generator) -> bytes:
    """Return the bytes with one to four changes.

    Anywhere, in the header only, or in the last half, where the pixels are.
    """
    changed, n = bytearray(data), len(data)
    low, high = ((0, n), (0, min(600, n)), (n // 2, n), (n // 2, n))[rng.integers(4)]
    for _ in range(rng.integers(1, 5)):
        rng.choice(MUTATIONS)(changed, rng, lambda: int(rng.integers(low, high)))
    return bytes(changed)


def _flip_bits(data: bytearray, rng: np.random.Generator, place: Callable[[], int]) -> None:
    for _ in range(rng.integers(1, 9)):
        if (start := place()) < len(data):
            data[start] ^= 1 << int(rng.integers(8))


def _set_bytes(data: bytearray, rng: np.random.Generator, place: Callable[[], int]) -> None:
    start, n = place(), int(rng.integers(1, 17))
    data[start : start + n] = rng.bytes(len(data[start : start + n]))


def _set_number(data: bytearray, rng: np.random.Generator, place: Callable[[], int]) -> None:
    form = str(rng.choice(["<H", ">H", "<I", ">I"]))
    packed = struct.pack(form, int(rng.choice(NUMBERS)) & (2 ** (8 * struct.calcsize(form)) - 1))
    start = place()
    data[start : start + len(packed)] = packed


def _cut_end(data: bytearray, rng: np.random.Generator, place: Callable[[], int]) -> None:
    del data[place() :]


def _delete(data: bytearray, rng: np.random.Generator, place: Callable[[], int]) -> None:
    start = place()
    del data[start : start + int(rng.integers(1, 64))]


def _repeat(data: bytearray, rng: np.random.Generator, place: Callable[[], int]) -> None:
    start = place()
    data[start:start] = data[start : start + int(rng.integers(1, 64))]


def _move(data: bytearray, rng: np.random.Generator, place: Callable[[], int]) -> None:
    start, n, target = place(), int(rng.integers(1, 32)), place()
    piece = data[start : start + n]
    data[target : target + len(piece)] = piece


MUTATIONS = (
    _flip_bits,
    _flip_bits,
    _set_bytes,
    _set_number,
    _set_number,
    _cut_end,
    _delete,
    _repeat,
    _move,
)


def read_mutant(kind: Kind, i: int, *, seed: int, folder: Path) -> str:
    """Write and read the i-th mutant; return "read", or what it was refused with."""
    rng = np.random.default_rng([seed, i])
    path = folder / kind.name
    path.write_bytes(mutant(kind.files[rng.integers(len(kind.files))], rng))
    first, *_ = [_outcome(read, path) for read in kind.readers]
    return first


def _outcome(read: Callable[[Path], object], path: Path) -> str:
    try:
        found = read(path)
    except VolumeError as error:
        if error.code not in CODES:
            raise
        return (
            "damaged, and the decoder broke down" if "broke down" in error.sentence else error.code
        )
    except T4EError as error:
        if path.name not in str(error) and path.parent.name not in str(error):
            raise ValueError(f"The file is not named: {error}") from error
        return type(error).__name__
    if isinstance(found, Volume):
        assert found.array.ndim == 3
        assert found.array.size
        assert np.isfinite(found.affine).all()
        assert {problem.code for problem in found.meta["problems"]} <= set(CODES)
    if hasattr(found, "state_dict"):
        assert all(value.isfinite().all() for value in found.state_dict().values())
    return "read"


def child(start: int, stop: int, *, seed: int, kinds: Sequence[str]) -> None:
    """Read mutants one after the other, and print when each begins and how it ended."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("error")
    out, sys.stdout = sys.stdout, sys.stderr
    with tempfile.TemporaryDirectory() as name:
        made = {}
        for kind in kinds:
            folder = Path(name, kind)
            folder.mkdir()
            made[kind] = KINDS[kind](folder)
        in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (in_use + MEMORY_LIMIT,) * 2)
        for i in range(start, stop):
            print(f"{i} begins", file=out, flush=True)
            kind = kind_of(i, kinds)
            try:
                outcome = read_mutant(made[kind], i, seed=seed, folder=Path(name, kind))
            except Exception as error:
                outcome = f"! {type(error).__name__}: {' '.join(str(error).split())[:200]}"
            print(f"{i} {outcome}", file=out, flush=True)


def kind_of(i: int, kinds: Sequence[str]) -> str:
    """Return the kind of the i-th mutant: each in turn."""
    return kinds[i % len(kinds)]


def fuzz(n: int, *, seed: int, kinds: Sequence[str] = tuple(KINDS)) -> tuple[Counter, list[str]]:
    """Read n mutants in child processes.

    Returns:
        How often each (kind, outcome) occurred, and a sentence for each failure.
    """
    counts, failures, i = Counter(), [], 0
    while i < n:
        last, cause = _run_child(i, n, seed, kinds, counts, failures)
        if cause is None:
            break
        failures.append(f"mutant {last} ({kind_of(last, kinds)}): {cause}")
        counts[kind_of(last, kinds), "FAILED"] += 1
        i = last + 1
    return counts, failures


def _run_child(
    start: int, stop: int, seed: int, kinds: Sequence[str], counts: Counter, failures: list[str]
) -> tuple[int, str | None]:
    """Return the last mutant that was begun, and what ended the child: None if it read all."""
    options = ["--child", str(start), str(stop), "--seed", str(seed), "--kinds", *kinds]
    command = [sys.executable, "-m", "benchmarks.fuzzing", *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT
    ) as process:
        last, has_begun, limit, rest = start, False, START_SECONDS, b""
        while True:
            if not select.select([process.stdout], [], [], limit)[0]:
                process.kill()
                return last, f"hangs for more than {limit:.0f} s"
            said = os.read(process.stdout.fileno(), 1 << 16)
            *lines, rest = (rest + said).split(b"\n")
            for line in lines:
                number, outcome = line.decode().split(" ", 1)
                last, has_begun = int(number), True
                # the way out, after the last one, takes as long as the way in
                limit = HANG_SECONDS if outcome == "begins" else START_SECONDS
                kind = kind_of(last, kinds)
                if outcome.startswith("! "):
                    failures.append(f"mutant {last} ({kind}): {outcome[2:]}")
                if outcome != "begins":
                    counts[kind, "FAILED" if outcome.startswith("! ") else outcome] += 1
            if not said:
                code = process.wait()
                if not has_begun:
                    raise RuntimeError("The child ended before the first mutant: run it by hand.")
                return (
                    last,
                    None
                    if code == 0
                    else f"the child died ({signal.Signals(-code).name if code < 0 else code})",
                )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mutants", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument(
        "--child", type=int, nargs=2, metavar=("START", "STOP"), help=argparse.SUPPRESS
    )
    options = parser.parse_args()
    if options.child:
        child(*options.child, seed=options.seed, kinds=options.kinds)
        return 0
    start = time.perf_counter()
    counts, failures = fuzz(options.mutants, seed=options.seed, kinds=options.kinds)
    table = pd.Series(counts).unstack(0, fill_value=0)
    print(table.loc[table.sum(axis=1).sort_values(ascending=False).index].to_string())
    print(
        f"{sum(counts.values())} mutants in {time.perf_counter() - start:.0f} s, seed "
        f"{options.seed}, {len(failures)} failures"
    )
    print(*failures, sep="\n")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
