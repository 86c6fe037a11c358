"""Two processes that train together come to what one comes to."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.training_runs import Points, train_points, train_stage, write_validation_scores
from torch import nn

from t4e_utils import T4EError
from t4e_utils.learning import TrainingError
from t4e_utils.learning.processes import run_in_processes


def test_two_processes_have_the_loss_curve_of_one(cases, tmp_path):
    options = {"augment": False, "epochs": 3, "precision": "fp32"}
    (_, alone), (_, shared) = (
        train_stage("classification", cases, tmp_path / f"{n}", num_processes=n, **options)
        for n in (1, 2)
    )
    columns = ["train_loss", "valid_loss"]
    np.testing.assert_allclose(shared.history[columns], alone.history[columns], rtol=1e-5)
    finished_at = (tmp_path / "2" / "last.pt").stat().st_mtime_ns
    _, again = train_stage("classification", cases, tmp_path / "2", num_processes=2, **options)
    pd.testing.assert_frame_equal(again.history, shared.history)
    assert (tmp_path / "2" / "last.pt").stat().st_mtime_ns == finished_at


def test_two_processes_take_as_many_steps_as_one(tmp_path):
    changes = {"schedule": "cosine", "steps_per_epoch": 5, "accumulate": 2, "epochs": 2}
    alone, shared = (
        train_points(tmp_path / f"{n}", num_processes=n, select="loss", **changes).history
        for n in (1, 2)
    )
    assert list(shared["lr"]) == list(alone["lr"])


def test_validation_scores_are_gathered_without_the_rows_that_fill_the_last_batch(cases, tmp_path):
    for n in (1, 2):
        run_in_processes(write_validation_scores, cases, tmp_path / f"{n}.json", num_processes=n)
    one, two = (json.loads((tmp_path / f"{n}.json").read_text(encoding="utf-8")) for n in (1, 2))
    assert set(one) == {"valid_loss", "dice_whole", "dice_core", "score"}
    assert two == pytest.approx(one, rel=1e-5)


def test_the_sentence_of_a_process_that_fails_is_the_one_that_is_raised(tmp_path):
    with pytest.raises(
        TrainingError, match=r"loss is nan in epoch 1.*checkpoint of the epoch before"
    ):
        train_points(
            tmp_path, train=Points(n_broken=20), loss=nn.BCEWithLogitsLoss(), num_processes=2
        )


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path):
    with pytest.raises(
        TrainingError, match="batch size 5 cannot be shared by 2 processes: make it a multiple"
    ):
        train_points(tmp_path, batch_size=5, num_processes=2)


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(T4EError, match="num_processes is 3, and the machine has 2 GPUs"):
        run_in_processes(os.getpid, num_processes=3)


def test_a_process_of_a_launcher_trains_one_network_after_the_other(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        "import sys\n"
        "from helpers.training_runs import train_points\n"
        "for name in 'ab':\n"
        "    train_points(f'{sys.argv[1]}/{name}', epochs=1)\n"
    )
    root = Path(__file__).parents[2]
    paths = {"PYTHONPATH": os.pathsep.join([str(root), str(root / "tests")])}
    alone = {"ACCELERATE_USE_CPU": "true", "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [sys.executable, "-m", *launcher, script, tmp_path],
        env=os.environ | paths | alone,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (pd.read_csv(tmp_path / name / "history.csv") for name in "ab")
    columns = ["epoch", "train_loss", "valid_loss"]
    pd.testing.assert_frame_equal(first[columns], second[columns])
