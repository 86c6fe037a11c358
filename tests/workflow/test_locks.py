"""Who works on what: runs and their folders, jobs and devices.

Commands that say what they see stand in for trainings on GPUs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from t4e_utils.files import WriteError
from t4e_utils.workflow import PipelineError, locks
from t4e_utils.workflow.locks import LOCK, VARIABLE, lock_run, workers_of

HOLD = (
    "import sys, time, pathlib; from t4e_utils.workflow.locks import lock_run; "
    "lock_run(pathlib.Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
)
SAY = (
    "import os, sys, time; print('sees', os.environ.get('CUDA_VISIBLE_DEVICES', 'all'), "
    "flush=True); time.sleep(float(sys.argv[1]))"
)


@pytest.fixture
def holder(tmp_path):
    """Another process that holds `tmp_path / "run"`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "run"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_run_is_refused_with_the_name_of_the_first_until_that_is_killed(holder, tmp_path):
    with pytest.raises(
        PipelineError,
        match=rf"Another run works on .*run \(process {holder.pid} on .* since 2.*\): wait "
        r"until it ends",
    ):
        lock_run(tmp_path / "run")
    lock_run(tmp_path / "another run")
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    lock_run(tmp_path / "run")
    assert f"process {os.getpid()} " in (tmp_path / "run" / LOCK).read_text()


def test_jobs_that_outlive_their_run_are_waited_for_and_then_named(tmp_path):
    job = subprocess.Popen(["sleep", "60"], env={**os.environ, VARIABLE: str(tmp_path / "run")})
    try:
        assert workers_of(tmp_path / "run") == [job.pid]
        assert workers_of(tmp_path / "other") == []
        with pytest.raises(
            PipelineError,
            match=rf"Jobs of an earlier run still write to .*run: .* \(kill {job.pid}\)",
        ):
            lock_run(tmp_path / "run", patience_s=0.2)
    finally:
        job.kill()
        job.wait()
    assert workers_of(tmp_path / "run") == []


def test_a_run_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match=r"cannot be written \(.*\): choose a folder"):
        lock_run(tmp_path / "file" / "run")


@pytest.mark.parametrize("target", ["file", "nothing"])
def test_a_lock_that_is_a_symbolic_link_is_refused_and_nothing_is_written_through_it(
    tmp_path, target
):
    (tmp_path / "file").write_text("precious")
    for name in (LOCK, "0.lock"):
        (tmp_path / name).symlink_to(tmp_path / target)
    with pytest.raises(PipelineError, match=r"The lock .*\.lock is a symbolic link: delete it"):
        lock_run(tmp_path)
    with pytest.raises(PipelineError, match=r"The lock .*0\.lock is a symbolic link: delete it"):
        locks.lock_gpus(["0"], 1, locks=tmp_path)
    assert (tmp_path / "file").read_text() == "precious"
    assert not (tmp_path / "nothing").exists()


def test_a_lock_that_is_a_hard_link_a_folder_or_a_pipe_is_refused_and_left_as_it_is(tmp_path):
    run, gpus, precious = tmp_path / "run", tmp_path / "gpus", tmp_path / "precious"
    run.mkdir()
    gpus.mkdir()
    precious.write_text("precious")

    def refused(match):
        with pytest.raises(PipelineError, match=match):
            lock_run(run)
        with pytest.raises(PipelineError, match=match):
            locks.lock_gpus(["0"], 1, locks=gpus)

    places = (run / LOCK, gpus / "0.lock")
    for place in places:
        place.hardlink_to(precious)
    refused(r"The lock .*\.lock is a hard link: delete it, then start again")
    assert precious.read_text() == "precious"
    for place in places:
        place.unlink()
        place.mkdir()
    refused(r"The lock .*\.lock is a folder: delete it")
    for place in places:
        place.rmdir()
        os.mkfifo(place)
    refused(r"The lock .*\.lock is no file: delete it")


def test_a_folder_of_gpu_locks_that_is_a_link_is_not_written_into(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "gpus").symlink_to(tmp_path / "other")
    with pytest.raises(PipelineError, match=r"folder .*gpus is a symbolic link: delete it"):
        locks.lock_gpus(["0"], 1, locks=tmp_path / "gpus")
    assert list((tmp_path / "other").iterdir()) == []


def test_a_file_system_without_locks_is_said_and_the_run_goes_on(tmp_path, monkeypatch, capsys):
    def refuse(*_, **__):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(locks, "lock_descriptor", refuse)
    lock_run(tmp_path)
    assert "keeps no locks (Function not implemented): see to it" in capsys.readouterr().err


def test_gpus_whose_locks_cannot_be_written_are_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        PipelineError, match=r"locks in .*file, which cannot be written \(.*\): correct"
    ):
        locks.lock_gpus(["0"], 1, locks=tmp_path / "file")


def test_the_module_needs_nothing_that_only_unix_has_to_be_imported(tmp_path):
    code = (
        "import os, sys; del os.getuid; sys.modules['fcntl'] = None; "
        "import t4e_utils.workflow.locks as locks; print(locks.LOCKS.name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "LOGNAME": "someone"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "t4e-gpus-someone\n", done.stderr


def job(tmp_path, seconds: float, *, devices: int = 1, **environment: str) -> subprocess.Popen:
    """Start a job on a machine whose GPUs are named in CUDA_VISIBLE_DEVICES."""
    kept = {name: value for name, value in os.environ.items() if name != locks.VISIBLE}
    command = [
        sys.executable,
        "-m",
        "t4e_utils.workflow.locks",
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
        time.sleep(2.5 * locks.PAUSE_S)
        assert third.poll() is None
        second.send_signal(signal.SIGKILL)
        assert seen(third) == held[second]
        assert third.wait(timeout=30) == 0
    finally:
        for process in filter(None, (first, second, third)):
            process.kill()
            process.communicate()


def test_a_signal_and_the_exit_code_of_the_command_pass_through(tmp_path):
    process = job(tmp_path, 60, CUDA_VISIBLE_DEVICES="0")
    seen(process)
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGTERM
    failing = [sys.executable, "-m", "t4e_utils.workflow.locks", "--", "sh", "-c", "exit 7"]
    without_gpus = {**os.environ, locks.VISIBLE: ""}
    assert subprocess.run(failing, env=without_gpus, check=False).returncode == 7


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
    monkeypatch.setenv(locks.VISIBLE, visible)
    assert locks.visible_gpus() == expected


def test_gpus_are_known_by_what_the_driver_calls_them(monkeypatch, tmp_path):
    monkeypatch.delenv(locks.VISIBLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert locks.visible_gpus() == []  # no driver
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho GPU-a1\necho GPU-b2\n")
    program.chmod(0o755)
    assert locks.visible_gpus() == ["GPU-a1", "GPU-b2"]
    program.write_text("#!/bin/sh\necho NVIDIA-SMI has failed\nexit 9\n")
    assert locks.visible_gpus() == []
