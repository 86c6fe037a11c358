"""SIGKILL of a pipeline at work.

The same command goes on to the same slices, and nothing writes on; `benchmarks/kill_rehearsal.py`
is the long form.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

from t4e_utils.competitions.brain_tumor import data as brain_tumor
from t4e_utils.competitions.brain_tumor.phantoms import PhantomConfig, write_phantoms
from t4e_utils.competitions.brain_tumor.rules import SliceRule
from t4e_utils.sampling.cutting import cut_patients
from t4e_utils.sampling.pictures import read_picture
from t4e_utils.workflow.locks import workers_of

ROOT = Path(__file__).parents[3]


@pytest.fixture
def start(tmp_path):
    """Start notebook 02 on a few phantoms as the pipeline does, in a process group of its own."""
    for name in ("notebooks", "profiles", "workflow"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "Snakefile", tmp_path)
    data, run = tmp_path / "phantoms", tmp_path / "run"
    write_phantoms(
        data, PhantomConfig(size=48, n_brats=6, n_overlap=1, n_train=2, n_test=1), n_jobs=1
    )
    given = (
        f"run_dir={run}",
        f"rsna_dir={data / 'rsna'}",
        f"brats_dir={data / 'brats21'}",
        "seg_data={n_jobs: 1, few_patients: 0}",
    )
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--cores",
        "1",
        str(run / "seg" / "slices.parquet"),
        "--config",
        *given,
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    log, started = (tmp_path / "log.txt").open("w"), []

    def begin():
        options = {"cwd": tmp_path, "env": environment, "stdout": log, "stderr": log}
        started.append(subprocess.Popen(command, start_new_session=True, **options))
        return started[-1]

    yield begin
    for pipeline in started:
        if pipeline.poll() is None:  # the test failed
            os.killpg(pipeline.pid, signal.SIGKILL)
            pipeline.wait()
    log.close()


def wait_until(is_so, *, seconds):
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until, f"not so after {seconds} s"
        time.sleep(0.01)


def test_a_pipeline_killed_while_it_writes_slices_goes_on_to_the_same_slices_and_leaves_no_process(
    start, tmp_path
):
    run, brats = tmp_path / "run", tmp_path / "phantoms" / "brats21"
    pipeline = start()
    wait_until(lambda: next(run.glob("seg/slices/*/*.png"), None), seconds=120)
    at_work = [psutil.Process(pid) for pid in workers_of(run)]
    os.killpg(pipeline.pid, signal.SIGKILL)
    pipeline.wait()
    assert at_work
    assert not (run / "seg" / "slices.parquet").exists()
    wait_until(lambda: not any(process.is_running() for process in at_work), seconds=20)
    assert all(read_picture(path).shape[2] == 3 for path in run.glob("seg/slices/*/*.png"))

    assert start().wait() == 0, (tmp_path / "log.txt").read_text()
    table = pd.read_parquet(run / "seg" / "slices.parquet")
    chosen = brain_tumor.segmentation_patients(
        brain_tumor.open_data(tmp_path / "phantoms" / "rsna", brats)
    )
    expected, _ = cut_patients(
        chosen.files, tmp_path / "expected", root=tmp_path / "expected", rule=SliceRule(), n_jobs=1
    )
    pd.testing.assert_frame_equal(
        table.drop(columns=["fold", "path"]), expected.drop(columns="path"), check_dtype=False
    )
    written = {
        path.relative_to(run / "seg" / "slices"): path.read_bytes()
        for path in run.glob("seg/slices/*/*.png")
    }
    assert written == {
        path.relative_to(tmp_path / "expected"): path.read_bytes()
        for path in (tmp_path / "expected").glob("*/*.png")
    }
