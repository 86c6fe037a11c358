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
    damaged_at_random,
    same_weights,
    state_of,
    train_points,
    train_stage,
)

from t4e_utils.learning import ModelError, TrainingError
from t4e_utils.learning.checkpoints import (
    LAST,
    PREVIOUS,
    CheckpointError,
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
        write_checkpoint(tmp_path, state_of(epoch))
        assert read_checkpoint(tmp_path)["progress"]["epoch"] == epoch
    assert sorted(path.name for path in tmp_path.iterdir()) == [LAST, PREVIOUS]
    assert torch.load(tmp_path / PREVIOUS, weights_only=True)["progress"]["epoch"] == 2


def without(state, name):
    return {key: value for key, value in state.items() if key != name}


def progressed(state, **changes):
    return {**state, "progress": {**state["progress"], **changes}}


def test_a_folder_and_a_pipe_are_no_checkpoints(tmp_path):
    (tmp_path / LAST).mkdir()
    os.mkfifo(tmp_path / PREVIOUS)
    with pytest.raises(CheckpointError, match=r"No checkpoint in .* can be read"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda state: [state], "it is no state of a run"),
        (lambda state: torch.zeros(2), "it is no state of a run"),
        (lambda state: without(state, "progress"), "it is None, and should be an object"),
        (lambda state: without(state, "model"), "its model is missing"),
        (lambda state: without(state, "optimiser"), "its optimiser is missing"),
        (lambda state: without(state, "random"), "its random is missing"),
        (lambda state: {**state, "about": 3}, "its about is missing or of another type"),
        (lambda state: progressed(state, epoch="1"), "epoch is '1'"),
        (lambda state: progressed(state, epoch=7), "its history is not that of its epochs"),
        (lambda state: progressed(state, best_epoch=9), "its history is not that of its epochs"),
        (lambda state: progressed(state, history=[{}]), "its history is not that of its epochs"),
        (lambda state: progressed(state, waits=1), "waits is not known"),
    ],
)
def test_what_is_no_state_of_a_run_is_damage_too(tmp_path, capsys, make, reason):
    torch.save(make(state_of(1)), tmp_path / LAST)
    with pytest.raises(CheckpointError, match=r"No checkpoint in .* can be read"):
        read_checkpoint(tmp_path)
    assert f"is damaged ({reason}" in capsys.readouterr().out


def test_whatever_the_damage_a_checkpoint_is_read_or_refused_in_a_sentence(tmp_path, capsys):
    state = {**state_of(1), "model": {"weight": torch.arange(8.0)}}
    torch.save(state, tmp_path / "zip.pt")
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    generator, n_refused = np.random.default_rng(0), 0
    for whole in (tmp_path / "zip.pt", tmp_path / "old.pt"):
        content = whole.read_bytes()
        for _ in range(150):
            (tmp_path / LAST).write_bytes(damaged_at_random(content, generator))
            try:
                assert read_checkpoint(tmp_path)["progress"]["epoch"] == 1
            except CheckpointError:
                n_refused += 1
    assert n_refused > 200
    assert capsys.readouterr().out.count("is damaged (") == n_refused


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model": {}}, "holds another network's weights: it lacks"),
        ({"optimiser": {}}, r"does not fit \(.*\): start the run again with overwrite=True"),
        ({"optimiser": {"state": 3, "param_groups": []}}, "does not fit"),
        ({"schedule": 3}, "does not fit"),
        ({"random": {"python": []}}, "does not fit"),
    ],
)
def test_a_state_that_does_not_fit_is_one_sentence(tmp_path, change, sentence):
    with pytest.raises(Interrupted):
        train_points(tmp_path, loss=LossThatBreaks(25))
    state = torch.load(tmp_path / LAST, weights_only=True)
    torch.save({**state, **change}, tmp_path / LAST)
    with pytest.raises(ModelError, match=sentence):
        train_points(tmp_path)
