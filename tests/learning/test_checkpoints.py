"""A run that is broken off ends as if it had not been."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.training_runs import (
    Interrupted,
    LossThatBreaks,
    Points,
    Slope,
    TwoLayers,
    at_the_origin,
    same_weights,
    train_points,
    train_stage,
)

from t4e_utils.learning import TrainingError
from t4e_utils.learning.checkpoints import (
    LAST,
    PREVIOUS,
    random_states,
    read_checkpoint,
    restore_random_states,
    write_checkpoint,
)


@pytest.mark.parametrize("n_batches", [2, 7, 13, 20, 27, 41])
def test_an_interrupted_run_ends_as_if_it_had_not_been(tmp_path, n_batches):
    changes = {"warmup_epochs": 2, "grad_clip": 1.0, "accumulate": 2}
    goes_on_exactly(tmp_path, n_batches, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": "poly", "schedule_every": "epoch", "optimiser": "sgd", "momentum": 0.9},
        {"schedule": "cosine", "schedule_every": "epoch", "warmup_epochs": 2},
        {"schedule": "onecycle", "schedule_every": "epoch"},
        {"schedule": "poly", "steps_per_epoch": 5, "accumulate": 2},
        {"schedule": "cosine", "steps_per_epoch": 2, "warmup_epochs": 1},
    ],
)
@pytest.mark.parametrize("n_batches", [11, 37])
def test_every_schedule_and_number_of_steps_goes_on_exactly(tmp_path, n_batches, changes):
    if changes.get("steps_per_epoch") == 2:
        n_batches //= 4
    goes_on_exactly(tmp_path, n_batches, **changes)


def goes_on_exactly(folder, n_batches, **changes):
    """Train once at once and once with an interruption after so many batches, and compare."""
    whole, resumed = TwoLayers(), TwoLayers()
    expected = train_points(folder / "whole", model=whole, **changes)
    with pytest.raises(Interrupted):
        train_points(folder / "broken", loss=LossThatBreaks(n_batches), **changes)
    random.seed(99), torch.manual_seed(99)
    found = train_points(folder / "broken", model=resumed, **changes)
    pd.testing.assert_frame_equal(found.history, expected.history, check_exact=True)
    assert same_weights(whole, resumed)
    assert (found.best_epoch, found.best_score) == (expected.best_epoch, expected.best_score)


def test_the_early_stopping_counter_survives(tmp_path):
    changes = {
        "epochs": 9,
        "early_stopping": 4,
        "schedule": "plateau",
        "plateau_patience": 1,
        "select": "loss",
        "learning_rate": 0.01,
    }
    expected = train_points(tmp_path / "whole", model=Slope(), valid=at_the_origin(), **changes)
    with pytest.raises(Interrupted):
        train_points(
            tmp_path / "broken",
            model=Slope(),
            valid=at_the_origin(),
            loss=LossThatBreaks(17),
            **changes,
        )
    found = train_points(tmp_path / "broken", model=Slope(), valid=at_the_origin(), **changes)
    assert list(found.history["lr"]) == list(expected.history["lr"])
    assert len(found.history) == len(expected.history) == 5


def kill_at_some_moment(command, checkpoint):
    """Start a training and kill it after its first checkpoint.

    One that ends before is started anew.
    """
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    for _ in range(5):
        shutil.rmtree(checkpoint.parent, ignore_errors=True)
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            while process.poll() is None and not checkpoint.exists():
                time.sleep(0.01)
            time.sleep(random.SystemRandom().uniform(0, 0.4))
            process.kill()
        assert process.returncode in (0, -signal.SIGKILL), "the training failed"
        if process.returncode and checkpoint.exists():
            return


def test_killed_runs_end_with_the_same_history_and_weights(cases, tmp_path):
    script, stages = (
        Path(__file__).parents[1] / "helpers" / "training_runs.py",
        ("segmentation", "classification"),
    )
    with ThreadPoolExecutor() as pool:
        kills = [
            pool.submit(
                kill_at_some_moment,
                [sys.executable, script, stage, cases, tmp_path / stage],
                tmp_path / stage / LAST,
            )
            for stage in stages
        ]
        whole = {stage: train_stage(stage, cases, tmp_path / f"whole {stage}") for stage in stages}
    for stage, kill in zip(stages, kills, strict=True):
        kill.result()
        assert (tmp_path / stage / LAST).exists()
        resumed, found = train_stage(stage, cases, tmp_path / stage)
        pd.testing.assert_frame_equal(found.history, whole[stage][1].history, check_exact=True)
        assert same_weights(whole[stage][0], resumed)


def damage(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_a_truncated_checkpoint_is_left_for_the_one_before(tmp_path, capsys):
    whole, resumed = TwoLayers(), TwoLayers()
    expected = train_points(tmp_path / "whole", model=whole)
    with pytest.raises(Interrupted):
        train_points(tmp_path / "broken", loss=LossThatBreaks(25))
    damage(tmp_path / "broken" / LAST)
    found = train_points(tmp_path / "broken", model=resumed)
    assert "last.pt is damaged" in capsys.readouterr().out
    pd.testing.assert_frame_equal(found.history, expected.history, check_exact=True)
    assert same_weights(whole, resumed)


def test_if_no_checkpoint_can_be_read_the_run_says_so(tmp_path):
    with pytest.raises(Interrupted):
        train_points(tmp_path, loss=LossThatBreaks(25))
    damage(tmp_path / LAST)
    damage(tmp_path / PREVIOUS)
    with pytest.raises(
        TrainingError,
        match=r"No checkpoint in .* can be read: start the run again with overwrite=True",
    ):
        train_points(tmp_path)
    assert len(train_points(tmp_path, overwrite=True).history) == 6


def test_results_that_a_kill_left_out_are_written_again(tmp_path):
    expected = train_points(tmp_path, valid=False, select="loss")
    files = ("best.safetensors", "best.json", "history.csv")
    before = [(tmp_path / file).read_bytes() for file in files]
    for file in files:
        (tmp_path / file).unlink()
    found = train_points(tmp_path, valid=False, select="loss")
    assert found.history.equals(expected.history)
    assert [(tmp_path / file).read_bytes() for file in files] == before


def test_finished_work_is_loaded_and_not_done_again(tmp_path):
    first, second = TwoLayers(), TwoLayers()
    expected = train_points(tmp_path, model=first)
    before = (tmp_path / "best.safetensors").stat().st_mtime_ns
    found = train_points(tmp_path, model=second, loss=LossThatBreaks(0))
    assert same_weights(first, second)
    assert found.history.equals(expected.history)
    assert (tmp_path / "best.safetensors").stat().st_mtime_ns == before
    assert not (tmp_path / PREVIOUS).exists()


def test_overwriting_trains_again_and_deletes_nothing_of_others(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    train_points(tmp_path)
    with pytest.raises(Interrupted):
        train_points(tmp_path, loss=LossThatBreaks(0), overwrite=True)
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"learning_rate": 0.5}, "learning_rate 0.02 there and 0.5 now"),
        ({"epochs": 7, "seed": 1}, "epochs 6 there and 7 now, seed 0 there and 1 now"),
        ({"train": Points(21)}, "n_train 20 there and 21 now"),
        (
            {"valid": False, "select": "loss"},
            "select score there and loss now, n_valid 15 there and 0 now",
        ),
    ],
)
def test_another_run_in_the_folder_is_refused(tmp_path, changes, sentence):
    train_points(tmp_path)
    with pytest.raises(
        TrainingError,
        match=f"holds another run .*{sentence}.*: use another folder, or overwrite=True",
    ):
        train_points(tmp_path, **changes)


def test_random_states_come_back():
    before = random_states()
    drawn = random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002
    restore_random_states(before)
    assert drawn == (random.random(), np.random.rand(), torch.rand(1))  # noqa: NPY002


def test_the_last_checkpoint_is_read_and_the_one_before_stays(tmp_path):
    assert read_checkpoint(tmp_path) is None
    for epoch in (1, 2, 3):
        write_checkpoint(tmp_path, {"epoch": epoch, "random": random_states()})
        assert read_checkpoint(tmp_path)["epoch"] == epoch
    assert sorted(path.name for path in tmp_path.iterdir()) == [LAST, PREVIOUS]
    assert torch.load(tmp_path / PREVIOUS, weights_only=True)["epoch"] == 2
