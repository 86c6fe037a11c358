"""Jobs and devices, with commands that say what they see instead of GPUs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from t4e_utils.workflow import gpus

SAY = (
    "import os, sys, time; print('sees', os.environ.get('CUDA_VISIBLE_DEVICES', 'all'), "
    "flush=True); time.sleep(float(sys.argv[1]))"
)


def job(tmp_path, seconds: float, *, devices: int = 1, **environment: str) -> subprocess.Popen:
    """Start a job on a machine whose GPUs are named in CUDA_VISIBLE_DEVICES."""
    kept = {name: value for name, value in os.environ.items() if name != gpus.VISIBLE}
    command = [
        sys.executable,
        "-m",
        "t4e_utils.workflow.gpus",
        "--devices",
        str(devices),
        "--",
        sys.executable,
        "-c",
        SAY,
        str(seconds),
    ]
    return subprocess.Popen(
        command,
        env={**kept, "TMPDIR": str(tmp_path), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def seen(process: subprocess.Popen) -> str:
    """What the job sees, once it has started."""
    return next(line for line in process.stdout if line.startswith("sees ")).split()[1]


def test_jobs_side_by_side_get_different_gpus_and_a_third_waits_even_for_a_killed_one(tmp_path):
    first, second = (job(tmp_path, 60, CUDA_VISIBLE_DEVICES="0,1") for _ in range(2))
    third = None
    try:
        held = {process: seen(process) for process in (first, second)}
        assert sorted(held.values()) == ["0", "1"]
        third = job(tmp_path, 0, CUDA_VISIBLE_DEVICES="0,1")
        time.sleep(2.5 * gpus.PAUSE_S)
        assert third.poll() is None
        second.send_signal(signal.SIGKILL)
        assert seen(third) == held[second]
        assert third.wait(timeout=30) == 0
    finally:
        for process in filter(None, (first, second, third)):
            process.kill()
            process.communicate()


def test_a_job_of_several_processes_gets_as_many_gpus(tmp_path):
    process = job(tmp_path, 0, devices=2, CUDA_VISIBLE_DEVICES="0,3,5")
    assert "sees 0,3\n" in process.communicate(timeout=60)[0]


def test_more_processes_than_gpus_is_a_sentence(tmp_path):
    process = job(tmp_path, 0, devices=3, CUDA_VISIBLE_DEVICES="0,1")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert (
        said == "A training over 3 processes needs as many GPUs, and this machine shows 2: lower "
        "num_processes.\n"
    )


@pytest.mark.parametrize(("visible", "expected"), [("", []), ("-1", []), ("2, 3", ["2", "3"])])
def test_gpus_hidden_from_a_process_are_not_given_out(monkeypatch, visible, expected):
    monkeypatch.setenv(gpus.VISIBLE, visible)
    assert gpus.visible_gpus() == expected


def test_gpus_are_known_by_what_the_driver_calls_them(monkeypatch, tmp_path):
    monkeypatch.delenv(gpus.VISIBLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus.visible_gpus() == []  # no driver
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho GPU-a1\necho GPU-b2\n")
    program.chmod(0o755)
    assert gpus.visible_gpus() == ["GPU-a1", "GPU-b2"]
    program.write_text("#!/bin/sh\necho NVIDIA-SMI has failed\nexit 9\n")
    assert gpus.visible_gpus() == []
