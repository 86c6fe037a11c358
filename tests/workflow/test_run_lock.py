"""One pipeline at a time on a run folder.

The second is refused, a killed one leaves no lock, and its jobs are waited for.
"""

import os
import signal
import subprocess
import sys

import pytest

from t4e_utils.files import WriteError
from t4e_utils.workflow.run_lock import LOCK, VARIABLE, RunLockError, lock_run, workers_of

HOLD = (
    "import sys, time, pathlib; from t4e_utils.workflow.run_lock import lock_run; "
    "lock_run(pathlib.Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
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
        RunLockError,
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
            RunLockError,
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
