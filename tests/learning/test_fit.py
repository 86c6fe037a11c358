import gc
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.training_runs import (
    CONFIG,
    Points,
    TwoLayers,
    prepare_points,
    share_right,
    train_points,
    train_stage,
)
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from t4e_utils.learning.batches import predict
from t4e_utils.learning.checkpoints import CheckpointError, random_states, restore_random_states
from t4e_utils.learning.devices import pick_device, resolve_precision
from t4e_utils.learning.loaders import EpochSampler, make_loader
from t4e_utils.learning.networks import build_classifier, build_segmenter
from t4e_utils.learning.plan import Progress, TrainConfig, TrainingError, make_schedule
from t4e_utils.learning.scores import count_overlap
from t4e_utils.learning.weights import load_weights, read_card
from t4e_utils.metrics.overlap import dice, dice_from_counts

forks = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def same_weights(first, second):
    first, second = first.state_dict(), second.state_dict()
    return all(torch.equal(first[name], second[name]) for name in first)


def close_weights(first, second):
    second = second.state_dict()
    return all(
        torch.allclose(value, second[name], atol=1e-6) for name, value in first.state_dict().items()
    )


class Interrupted(Exception):
    """Stands for whatever ends a run."""


class LossThatBreaks(nn.BCEWithLogitsLoss):
    """Ends the run at its n-th call."""

    def __init__(self, n):
        super().__init__()
        self.n_left = n

    def forward(self, logits, targets):
        self.n_left -= 1
        if self.n_left < 0:
            raise Interrupted
        return super().forward(logits, targets)


# --- which epoch is the best, and when to stop


def record_all(losses, scores=None, **changes):
    config, progress = TrainConfig(epochs=20, **changes), Progress()
    for epoch, loss in enumerate(losses, start=1):
        row = {"epoch": epoch, "valid_loss": loss}
        progress.record(row if scores is None else {**row, "score": scores[epoch - 1]}, config)
        if progress.is_finished:
            break
    return progress


nan = float("nan")


@pytest.mark.parametrize(
    ("losses", "scores", "changes", "stops_after", "best"),
    [
        ([3, 2, 4, 4, 1], None, {"early_stopping": 2}, 4, 2),
        ([3, 2, 4, 1, 4, 4, 0], None, {"early_stopping": 2}, 6, 4),
        ([3, 3, 3, 3], None, {"early_stopping": 3}, 4, 1),
        ([3, 4, 5, 6], None, {"early_stopping": 0}, 4, 1),
        ([1, 2, 2, 2, 2], None, {"early_stopping": 2, "warmup_epochs": 2}, 4, 1),
        ([3, nan, 2], None, {}, 3, 3),
        ([nan, 3], None, {}, 2, 2),
        ([3, 2, 1], [0.6, 0.7, 0.5], {"select": "score"}, 3, 2),
        ([3, 1, 2], [0.7, 0.7, 0.7], {"select": "score"}, 3, 2),
        ([3, 1, 2], [nan, nan, nan], {"select": "score"}, 3, 2),
        ([3, 1, 2], [0.1, nan, nan], {"select": "score"}, 3, 1),
        ([1, 2, 3], [0.6, 0.7, 0.5], {"select": "loss"}, 3, 1),
    ],
)
def test_best_epoch_and_early_stopping_match_the_table(losses, scores, changes, stops_after, best):
    progress = record_all(losses, scores, **changes)
    assert (progress.epoch, progress.best_epoch) == (stops_after, best)


def test_a_run_stops_at_the_last_epoch():
    progress = record_all(range(100, 0, -1))
    assert (progress.epoch, progress.is_finished, progress.best_epoch) == (20, True, 20)


def rates(config, losses, phase="all"):
    optimiser = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=config.lr)
    schedule, found = make_schedule(optimiser, config, phase, n_steps=10, has_validation=True), []
    for loss in losses:
        found.append(optimiser.param_groups[0]["lr"])
        schedule.step(loss)
    return found


def test_plateaus_lower_the_rate_as_in_the_table():
    config = TrainConfig(
        lr=1.0, plateau_factor=0.1, plateau_patience=1, warmup_factor=0.5, warmup_patience=0
    )
    assert rates(config, [5, 4, 4, 4, 4, 4, 3]) == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01])
    assert rates(config, [5, 5, 5, 4, 4], phase="warm-up") == pytest.approx([1, 1, 0.5, 0.25, 0.25])


class Slope(nn.Module):
    """No bias: on points at the origin its loss stays as it is."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(2, 2, bias=False)
        self.head = nn.Linear(2, 1, bias=False)

    def forward(self, points):
        return self.head(self.encoder(points)).squeeze(1)


def at_the_origin():
    points = Points(5)
    points.x.zero_()
    return points


def test_the_plateau_and_the_end_follow_the_validation_loss(tmp_path):
    changes = {
        "epochs": 9,
        "schedule": "plateau",
        "plateau_patience": 1,
        "early_stopping": 5,
        "select": "loss",
        "lr": 0.01,
    }
    history = train_points(tmp_path, model=Slope(), valid=at_the_origin(), **changes).history
    assert history["valid_loss"].nunique() == 1
    assert history["train_loss"].is_monotonic_decreasing
    assert list(history["lr"]) == pytest.approx([0.01, 0.01, 0.01, 0.001, 0.001, 0.0001])


def test_cosine_follows_its_formula(tmp_path):
    history = train_points(tmp_path, epochs=5, schedule="cosine", lr=0.1).history
    np.testing.assert_allclose(history["lr"], 0.05 * (1 + np.cos(np.pi * np.arange(5) / 5)))


@pytest.mark.parametrize("schedule", ["cosine", "onecycle", "constant", "plateau"])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_every_schedule_lasts_as_long_as_the_run(tmp_path, schedule, accumulate):
    history = train_points(
        tmp_path, schedule=schedule, accumulate=accumulate, epochs=3, warmup_epochs=1
    ).history
    assert len(history) == 3
    assert history["lr"].gt(0).all()


# --- the loop


def by_hand(config):
    """The same training, written as a script would."""
    model, train = TwoLayers(), Points()
    torch.manual_seed(config.seed)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=config.lr, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, config.lr, total_steps=4 * config.epochs
    )
    losses = []
    for epoch in range(1, config.epochs + 1):
        order, total = np.random.default_rng([config.seed, epoch]).permutation(len(train)), 0.0
        model.train()
        for start in range(0, len(train), config.batch_size):
            index = order[start : start + config.batch_size]
            loss = nn.functional.binary_cross_entropy_with_logits(
                model(train.x[index]), train.y[index]
            )
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip)
            optimiser.step()
            optimiser.zero_grad()
            schedule.step()
            total += loss.item() * len(index)
        losses.append(total / len(train))
    return model, losses


def test_the_loop_is_the_one_a_script_would_have(tmp_path):
    model = TwoLayers()
    result = train_points(
        tmp_path, model=model, valid=False, score=None, select="loss", grad_clip=0.1
    )
    expected, losses = by_hand(replace(CONFIG, grad_clip=0.1))
    assert close_weights(model, expected)
    np.testing.assert_allclose(result.history["train_loss"], losses, rtol=1e-5)


def test_accumulated_batches_are_one_large_batch(tmp_path):
    few, many = Slope(), Slope()
    many.load_state_dict(few.state_dict())
    changes = {"schedule": "constant", "train": Points(24)}
    train_points(tmp_path / "few", model=few, batch_size=12, **changes)
    train_points(tmp_path / "many", model=many, batch_size=4, accumulate=3, **changes)
    assert close_weights(few, many)


def test_validation_loss_and_score_are_those_of_the_best_weights(tmp_path):
    model, valid = TwoLayers(), Points(15, seed=1)
    result = train_points(tmp_path, model=model)
    row = result.history.iloc[result.best_epoch - 1]
    model.eval()
    with torch.no_grad():
        logits = model(valid.x)
    assert row["valid_loss"] == pytest.approx(
        nn.functional.binary_cross_entropy_with_logits(logits, valid.y).item()
    )
    assert (
        result.best_score
        == row["score"]
        == share_right(logits.numpy(), valid.y.numpy(), None)["score"]
    )


def test_the_best_weights_are_kept_and_loaded(tmp_path):
    model, seen = TwoLayers(), []

    def falling_after_the_third(logits, targets, indices):
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return {"score": [0.1, 0.5, 0.9, 0.3, 0.2, 0.1][len(seen) - 1]}

    result = train_points(tmp_path, model=model, score=falling_after_the_third)
    assert (result.best_epoch, result.best_score) == (3, 0.9)
    assert all(torch.equal(value, seen[2][name]) for name, value in model.state_dict().items())
    assert same_weights(load_weights(TwoLayers(), result.best_path), model)
    card = read_card(result.best_path)
    assert (card["epoch"], card["chosen_by"], card["figures"]["score"]) == (
        3,
        "validation score",
        0.9,
    )
    assert card["training"]["lr"] == CONFIG.lr


def test_the_score_sees_every_item_once(tmp_path):
    seen = []

    def score(logits, targets, indices):
        seen.append((len(logits), sorted(indices.tolist())))
        return {}

    train_points(tmp_path, score=score, epochs=1, select="loss")
    assert seen == [(15, list(range(15)))]


def test_without_validation_the_last_weights_are_kept_and_the_card_says_so(tmp_path):
    result = train_points(tmp_path, valid=False, select="loss")
    assert result.best_epoch == len(result.history) == 6
    assert np.isnan(result.best_score)
    assert "valid_loss" not in result.history
    assert read_card(result.best_path)["chosen_by"] == "nobody: the last epoch"


def test_the_encoder_is_frozen_in_the_warm_up_and_learns_with_a_fresh_rate_after(tmp_path):
    model, encoders = TwoLayers(), []

    def score(logits, targets, indices):
        encoders.append({name: value.clone() for name, value in model.encoder.state_dict().items()})
        return {}

    start = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    opposite = Points(15, seed=1)
    opposite.y = 1 - opposite.y  # the better the network, the worse its loss
    changes = {
        "warmup_epochs": 3,
        "warmup_patience": 0,
        "warmup_factor": 0.5,
        "schedule": "constant",
        "select": "loss",
    }
    history = train_points(
        tmp_path, model=model, score=score, valid=opposite, lr=0.5, **changes
    ).history
    for during in encoders[:3]:
        assert all(torch.equal(during[name], start[name]) for name in start)
    assert all(not torch.equal(encoders[3][name], start[name]) for name in start)
    assert list(history["phase"]) == ["warm-up"] * 3 + ["all"] * 3
    assert history["lr"][2] < history["lr"][3] == 0.5


def test_events_hold_the_figures_of_every_epoch(tmp_path):
    history = train_points(tmp_path).history
    events = EventAccumulator(str(tmp_path / "events")).Reload()
    found = [(event.step, event.value) for event in events.Scalars("valid_loss")]
    assert [step for step, _ in found] == list(history["epoch"])
    np.testing.assert_allclose([value for _, value in found], history["valid_loss"], rtol=1e-6)


def test_the_history_file_is_the_history(tmp_path):
    result = train_points(tmp_path)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "history.csv"), result.history, rtol=1e-12)


def test_bf16_trains_weights_that_stay_float32(tmp_path):
    model = TwoLayers()
    with_bf16 = train_points(tmp_path / "bf16", model=model, precision="bf16")
    with_fp32 = train_points(tmp_path / "fp32", precision="fp32")
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    np.testing.assert_allclose(
        with_bf16.history["train_loss"], with_fp32.history["train_loss"], rtol=0.05
    )
    assert not with_bf16.history.equals(with_fp32.history)
    assert "forward" not in vars(model) or model(torch.zeros(2, 2)).dtype == torch.float32


@forks
def test_workers_change_nothing(tmp_path):
    histories = [train_points(tmp_path / str(n), num_workers=n, epochs=3).history for n in (0, 2)]
    assert histories[0].equals(histories[1])


def test_nothing_piles_up_over_the_epochs(tmp_path):
    counts = []

    def score(logits, targets, indices):
        counts.append(None)
        if len(counts) in (3, 12):
            gc.collect()
            counts[-1] = sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())
        return {}

    train_points(tmp_path, score=score, epochs=12, select="loss")
    assert counts[11] <= counts[2]


# --- interrupted and resumed


@pytest.mark.parametrize("n_batches", [2, 7, 13, 20, 27, 41])
def test_an_interrupted_run_ends_as_if_it_had_not_been(tmp_path, n_batches):
    changes = {"warmup_epochs": 2, "grad_clip": 1.0, "accumulate": 2}
    whole, resumed = TwoLayers(), TwoLayers()
    expected = train_points(tmp_path / "whole", model=whole, **changes)
    with pytest.raises(Interrupted):
        train_points(tmp_path / "broken", loss=LossThatBreaks(n_batches), **changes)
    random.seed(99), torch.manual_seed(99)
    found = train_points(tmp_path / "broken", model=resumed, **changes)
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
        "lr": 0.01,
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
                tmp_path / stage / "last.pt",
            )
            for stage in stages
        ]
        whole = {stage: train_stage(stage, cases, tmp_path / f"whole {stage}") for stage in stages}
    for stage, kill in zip(stages, kills, strict=True):
        kill.result()
        assert (tmp_path / stage / "last.pt").exists()
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
    damage(tmp_path / "broken" / "last.pt")
    found = train_points(tmp_path / "broken", model=resumed)
    assert "last.pt is damaged" in capsys.readouterr().out
    pd.testing.assert_frame_equal(found.history, expected.history, check_exact=True)
    assert same_weights(whole, resumed)


def test_if_no_checkpoint_can_be_read_the_run_says_so(tmp_path):
    with pytest.raises(Interrupted):
        train_points(tmp_path, loss=LossThatBreaks(25))
    damage(tmp_path / "last.pt")
    damage(tmp_path / "previous.pt")
    with pytest.raises(
        CheckpointError,
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
    assert not (tmp_path / "previous.pt").exists()


def test_overwriting_trains_again_and_deletes_nothing_of_others(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    train_points(tmp_path)
    with pytest.raises(Interrupted):
        train_points(tmp_path, loss=LossThatBreaks(0), overwrite=True)
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"lr": 0.5}, "lr 0.02 there and 0.5 now"),
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


# --- what stops a run


def test_a_loss_that_is_not_finite_names_the_items_and_keeps_the_checkpoint(tmp_path):
    with pytest.raises(Interrupted):
        train_points(tmp_path, loss=LossThatBreaks(15))
    sampler = EpochSampler(range(20), shuffle=True)
    sampler.set_epoch(3)
    bad = next(batch for batch in np.split(np.array(list(sampler)), [6, 12, 18]) if 19 in batch)
    with pytest.raises(
        TrainingError, match=r"The loss is nan in epoch 3, in the batch with the items (.*): look"
    ) as caught:
        train_points(tmp_path, train=Points(n_broken=1))
    assert str(bad.tolist()) in str(caught.value)
    assert train_points(tmp_path).history["train_loss"].notna().all()


class TooLarge(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, points):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_too_little_memory_gives_the_batch_size_to_try(tmp_path):
    with pytest.raises(
        TrainingError, match="does not hold a batch of 6: try batch_size=3 with accumulate=4"
    ):
        train_points(tmp_path, model=TooLarge(), accumulate=2)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"valid": False, "schedule": "plateau", "select": "loss"},
            "Without validation data there is no plateau",
        ),
        ({"valid": False, "early_stopping": 2, "select": "loss"}, "Without validation data"),
        ({"valid": False}, "select='loss'"),
        ({"model": nn.Linear(2, 1), "warmup_epochs": 1}, "needs to know what to freeze"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(tmp_path, changes, sentence):
    with pytest.raises(TrainingError, match=sentence):
        train_points(tmp_path, **changes)


def test_random_weights_are_not_frozen(tmp_path):
    model = TwoLayers()
    model.starts_from = "random weights"
    with pytest.raises(
        TrainingError, match="starts from random weights, frozen it would learn nothing"
    ):
        train_points(tmp_path, model=model, warmup_epochs=1)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"schedule": "step"}, "schedule is 'step': choose one of plateau, cosine"),
        ({"select": "auc"}, "select is 'auc'"),
        ({"precision": "int8"}, "precision is 'int8'"),
        ({"epochs": 0}, "epochs, batch_size and accumulate are 1 or more"),
        ({"epochs": 3, "warmup_epochs": 3}, "warmup_epochs is 3: it is less than epochs, 3"),
    ],
)
def test_impossible_settings_are_refused(changes, sentence):
    with pytest.raises(TrainingError, match=sentence):
        TrainConfig(**changes)


def test_precision_fits_the_device():
    cpu = torch.device("cpu")
    assert [resolve_precision(name, cpu) for name in ("auto", "fp32", "bf16")] == [
        "fp32",
        "fp32",
        "bf16",
    ]
    with pytest.raises(TrainingError, match="precision='fp16' needs a GPU"):
        resolve_precision("fp16", cpu)


# --- the two stages


@pytest.mark.parametrize(
    ("stage", "batch_size", "lr"), [("segmentation", 10, 2e-2), ("classification", 4, 2e-3)]
)
def test_two_tiny_batches_are_learnt_by_heart(cases, tmp_path, stage, batch_size, lr):
    changes = {"batch_size": batch_size, "lr": lr, "epochs": 25, "schedule": "onecycle"}
    _, result = train_stage(stage, cases, tmp_path, augment=False, valid=False, **changes)
    assert result.history["train_loss"].iloc[0] > 0.6
    assert result.history["train_loss"].iloc[-1] < 0.2


def test_predictions_do_not_depend_on_the_batch_size(cases):
    from t4e_utils.learning.batches import prepare_slices
    from t4e_utils.learning.datasets import SliceDataset

    slices = pd.read_pickle(cases / "slices.pkl")[:7]
    dataset = SliceDataset(slices, cases, image_size=32)
    model = build_segmenter("tu-mobilenetv3_small_050", decoder_channels=(16, 16, 8, 8, 8))
    found = [
        predict(model, make_loader(dataset, batch_size=size), prepare=prepare_slices)
        for size in (1, 3, 7)
    ]
    for logits, indices in found:
        assert (logits.shape, logits.dtype, list(indices)) == (
            (7, 2, 32, 32),
            np.float32,
            list(range(7)),
        )
        np.testing.assert_allclose(logits, found[0][0], atol=1e-4)


def test_counted_overlap_gives_the_dice_of_the_masks():
    logits, targets = torch.randn(3, 2, 6, 5), (torch.rand(3, 2, 6, 5) > 0.5).float()
    outputs, true = count_overlap(logits, targets)
    found = dice_from_counts(outputs[..., 0], outputs[..., 1], true)
    expected = [[dice(logits[b, c] > 0, targets[b, c]) for c in range(2)] for b in range(3)]
    np.testing.assert_allclose(found, expected)


def test_the_device_is_what_the_machine_has():
    assert pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert prepare_points({"x": 1, "y": 2}) == (1, 2)
    assert build_classifier("test_nfnet").starts_from == "random weights"
