"""Does a pipeline that is killed again and again end with the results of one that is left alone?

    python -m benchmarks.kill_rehearsal --kills 20

The pipeline with tiny networks on tiny phantoms (benchmarks/tiny.yaml). SIGKILL goes to its whole
process group after a random time, and the same command starts again at once; after the last kill it
runs to the end. Kernels have a group of their own: how long they outlive the kill is measured.
Tables, slices, weights and submission must be those of an undisturbed run, to the byte or value.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import psutil

from t4e_utils.competitions.brain_tumor.phantoms import PhantomConfig, write_phantoms
from t4e_utils.tables.store import provenance_of
from t4e_utils.workflow.locks import workers_of

ROOT = Path(__file__).parents[1]
CONFIG = Path(__file__).with_name("tiny.yaml")
PHANTOMS = PhantomConfig(size=32, n_brats=4, n_overlap=1, n_train=6, n_test=2)
SAME_BYTES = (
    "*.csv",
    "seg/slices/**/*.png",
    "cls/slices/**/*.png",
    "**/best.safetensors",
    "**/history.csv",
    "cls/summary.json",
)


def command(data: Path, run_dir: Path, *options: str) -> list[str]:
    """Return the command line of the pipeline with tiny networks."""
    places = (f"run_dir={run_dir}", f"rsna_dir={data / 'rsna'}", f"brats_dir={data / 'brats21'}")
    return [
        sys.executable,
        "-m",
        "snakemake",
        "--cores",
        "all",
        "--configfile",
        str(CONFIG),
        *options,
        "--config",
        *places,
    ]


def start(data: Path, run_dir: Path, log: Path) -> subprocess.Popen:
    with log.open("a") as output:
        return subprocess.Popen(
            command(data, run_dir), cwd=ROOT, stdout=output, stderr=output, start_new_session=True
        )


def kill(pipeline: subprocess.Popen, run_dir: Path) -> tuple[list[str], list[psutil.Process]]:
    """Kill the process group.

    Return the notebooks that were at work, and every process that belonged to the run.
    """
    at_work = [process for pid in workers_of(run_dir) if (process := _process(pid))]
    names = sorted({name for process in at_work if (name := _notebook_of(process))})
    os.killpg(pipeline.pid, signal.SIGKILL)
    pipeline.wait()
    return names, at_work


def seconds_until_gone(processes: list[psutil.Process]) -> float:
    """Wait for processes that nobody ends, and return how long that took."""
    since = time.monotonic()
    while any(
        process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes
    ):
        time.sleep(0.05)
        if time.monotonic() - since > 60:
            raise SystemExit(f"60 seconds after the kill there still are {processes}.")
    return time.monotonic() - since


def differences(run_dir: Path, undisturbed: Path) -> list[str]:
    """Return the results that are not the same in two run folders, by name."""
    wrong = []
    for pattern in SAME_BYTES:
        ours, theirs = (
            {path.relative_to(run) for path in run.glob(pattern)} for run in (run_dir, undisturbed)
        )
        wrong += [str(path) for path in sorted(ours ^ theirs)]
        wrong += [
            str(path)
            for path in sorted(ours & theirs)
            if (run_dir / path).read_bytes() != (undisturbed / path).read_bytes()
        ]
    tables = {
        path.relative_to(run) for run in (run_dir, undisturbed) for path in run.glob("**/*.parquet")
    }
    return wrong + [
        str(path)
        for path in sorted(tables)
        if not _is_same_table(run_dir / path, undisturbed / path)
    ]


def _is_same_table(one: Path, other: Path) -> bool:
    is_there = one.is_file() and other.is_file()
    return (
        is_there
        and provenance_of(one) == provenance_of(other)
        and pd.read_parquet(one).equals(pd.read_parquet(other))
    )


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None


def _notebook_of(process: psutil.Process) -> str:
    try:
        arguments = process.cmdline()
    except psutil.Error:
        return ""
    return (
        Path(arguments[arguments.index("papermill") + 2]).stem if "papermill" in arguments else ""
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument(
        "--longest", type=float, default=60.0, help="seconds before a kill, at most"
    )
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    print(
        f"{platform.machine()}, {os.cpu_count()} cores; Python {platform.python_version()}; "
        f"{chosen.kills} kills, seed {chosen.seed}"
    )
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        data, undisturbed = root / "phantoms", root / "undisturbed"
        write_phantoms(data, PHANTOMS)
        since = time.monotonic()
        if start(data, undisturbed, root / "undisturbed.txt").wait():
            raise SystemExit((root / "undisturbed.txt").read_text())
        print(f"undisturbed: {time.monotonic() - since:.0f} s")
        rehearse(
            data,
            root,
            undisturbed,
            n_kills=chosen.kills,
            longest=chosen.longest,
            draw=random.Random(chosen.seed),
        )


def rehearse(
    data: Path, root: Path, undisturbed: Path, *, n_kills: int, longest: float, draw: random.Random
) -> None:
    """Kill so often, starting a new folder where a run came to its end before.

    Compare each folder when it is finished.
    """
    killed, n_runs = 0, 0
    print("kill  run  after s  processes  gone after s  at work")
    while killed < n_kills:
        n_runs += 1
        run_dir, log, in_this_run = root / f"killed{n_runs}", root / f"killed{n_runs}.txt", 0
        pipeline = start(data, run_dir, log)
        while killed < n_kills:
            seconds = draw.uniform(1, longest)
            try:
                pipeline.wait(seconds)
                break
            except subprocess.TimeoutExpired:
                names, at_work = kill(pipeline, run_dir)
            killed, in_this_run = killed + 1, in_this_run + 1
            # at once: it has to wait by itself for what is left of the one before
            pipeline = start(data, run_dir, log)
            gone = seconds_until_gone(at_work)
            print(
                f"{killed:4d}  {n_runs:3d}  {seconds:7.1f}  {len(at_work):9d}  {gone:12.2f}  "
                f"{', '.join(names) or '-'}",
                flush=True,
            )
        if pipeline.wait():
            raise SystemExit(f"The run did not come to its end:\n{log.read_text()[-3000:]}")
        wrong = differences(run_dir, undisturbed)
        left = len(list(run_dir.glob("**/.*.tmp")))
        said = "the same as undisturbed" if not wrong else f"DIFFERENT: {', '.join(wrong[:10])}"
        print(
            f"run {n_runs}: killed {in_this_run} times, then finished; tables, slices, weights "
            f"and submission {said}; temporary files left: {left}"
        )
        if wrong:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
