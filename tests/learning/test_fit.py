"""The training loop against one written by hand, and what it leaves in its folder."""

import gc
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.training_runs import (
    CONFIG,
    Interrupted,
    LossThatBreaks,
    Points,
    Slope,
    TwoLayers,
    at_the_origin,
    same_weights,
    share_right,
    train_points,
    train_stage,
)
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.data import Subset

from t4e_utils.learning import TrainingError
from t4e_utils.learning.loaders import EpochSampler
from t4e_utils.learning.weights import load_weights, read_card
from t4e_utils.sampling import SamplingError

forks = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def close_weights(first, second):
    second = second.state_dict()
    return all(
        torch.allclose(value, second[name], atol=1e-6) for name, value in first.state_dict().items()
    )


def copied(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


# --- the loop


def by_hand(config):
    """The same training, written as a script would."""
    model, train = TwoLayers(), Points()
    torch.manual_seed(config.seed)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, config.learning_rate, total_steps=4 * config.epochs
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


class Seen(Points):
    """Points that note which of them are taken."""

    def __init__(self):
        super().__init__()
        self.indices = []

    def __getitem__(self, index):
        self.indices.append(index)
        return super().__getitem__(index)


@pytest.mark.parametrize("steps", [2, 5])
def test_an_epoch_has_exactly_so_many_steps_of_full_batches(tmp_path, steps):
    train, changes = Seen(), {"epochs": 3, "accumulate": 2, "steps_per_epoch": steps}
    history = train_points(tmp_path, train=train, schedule="cosine", **changes).history
    n_items = steps * 2 * CONFIG.batch_size
    assert len(train.indices) == 3 * n_items
    for epoch in (1, 2, 3):
        sampler = EpochSampler(range(20), shuffle=True, seed=CONFIG.seed, n_items=n_items)
        sampler.set_epoch(epoch)
        assert train.indices[(epoch - 1) * n_items : epoch * n_items] == list(sampler)
    # the schedule of steps has ended with the last of them
    np.testing.assert_allclose(history["lr"], 0.01 * (1 + np.cos(np.pi * np.arange(3) / 3)))
    assert read_card(tmp_path / "best.safetensors")["training"]["steps_per_epoch"] == steps


def test_sgd_learns_too(tmp_path):
    options = {"optimiser": "sgd", "momentum": 0.9, "learning_rate": 0.1, "schedule": "constant"}
    history = train_points(tmp_path, train=Points(60), epochs=12, **options).history
    assert history["train_loss"].iloc[-1] < 0.8 * history["train_loss"].iloc[0]
    assert history["score"].iloc[-1] > 0.9


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


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_damaged_picture_is_one_sentence_from_worker_processes_too(cases, tmp_path, num_workers):
    shutil.copytree(cases, tmp_path / "cases")
    for path in (tmp_path / "cases").glob("*.png"):
        path.write_bytes(b"noise")
    with pytest.raises(SamplingError, match=r"^The slice \S+\.png is damaged .*\.$") as found:
        train_stage("segmentation", tmp_path / "cases", tmp_path / "run", num_workers=num_workers)
    assert "\n" not in str(found.value)


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


# --- the learning rate


def test_the_plateau_and_the_end_follow_the_validation_loss(tmp_path):
    changes = {
        "epochs": 9,
        "schedule": "plateau",
        "plateau_patience": 1,
        "early_stopping": 5,
        "select": "loss",
        "learning_rate": 0.01,
    }
    history = train_points(tmp_path, model=Slope(), valid=at_the_origin(), **changes).history
    assert history["valid_loss"].nunique() == 1
    assert history["train_loss"].is_monotonic_decreasing
    assert list(history["lr"]) == pytest.approx([0.01, 0.01, 0.01, 0.001, 0.001, 0.0001])


@pytest.mark.parametrize("every", ["step", "epoch"])
def test_cosine_follows_its_formula(tmp_path, every):
    changes = {"schedule": "cosine", "schedule_every": every, "learning_rate": 0.1}
    history = train_points(tmp_path, epochs=5, **changes).history
    np.testing.assert_allclose(history["lr"], 0.05 * (1 + np.cos(np.pi * np.arange(5) / 5)))


@pytest.mark.parametrize("warmup_epochs", [0, 2])
def test_poly_follows_its_formula_after_the_warm_up(tmp_path, warmup_epochs):
    changes = {"schedule": "poly", "schedule_every": "epoch", "learning_rate": 0.1}
    history = train_points(tmp_path, epochs=6, warmup_epochs=warmup_epochs, **changes).history
    n = 6 - warmup_epochs
    expected = [0.1] * warmup_epochs + [0.1 * (1 - k / n) ** 0.9 for k in range(n)]
    np.testing.assert_allclose(history["lr"], expected)


@pytest.mark.parametrize("schedule", ["cosine", "onecycle", "poly", "constant", "plateau"])
@pytest.mark.parametrize("every", ["step", "epoch"])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_every_schedule_lasts_as_long_as_the_run(tmp_path, schedule, every, accumulate):
    changes = {"schedule": schedule, "schedule_every": every, "accumulate": accumulate}
    history = train_points(tmp_path, epochs=3, warmup_epochs=1, **changes).history
    assert len(history) == 3
    assert history["lr"].gt(0).all()


# --- the best epoch and what is kept of it


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
        seen.append(copied(model))
        return {"score": [0.1, 0.5, 0.9, 0.3, 0.2, 0.1][len(seen) - 1]}

    result = train_points(tmp_path, model=model, score=falling_after_the_third)
    assert (result.best_epoch, result.best_score) == (3, 0.9)
    assert all(torch.equal(value, seen[2][name]) for name, value in model.state_dict().items())
    assert same_weights(load_weights(TwoLayers(), result.best_path), model)
    card = read_card(result.best_path)
    assert (card["epoch"], card["chosen_by"], card["scores"]["score"]) == (
        3,
        "validation score",
        0.9,
    )
    assert card["training"]["learning_rate"] == CONFIG.learning_rate


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


def test_events_hold_the_scores_of_every_epoch(tmp_path):
    history = train_points(tmp_path).history
    events = EventAccumulator(str(tmp_path / "events")).Reload()
    found = [(event.step, event.value) for event in events.Scalars("valid_loss")]
    assert [step for step, _ in found] == list(history["epoch"])
    np.testing.assert_allclose([value for _, value in found], history["valid_loss"], rtol=1e-6)


def test_the_history_file_is_the_history(tmp_path):
    result = train_points(tmp_path)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "history.csv"), result.history, rtol=1e-12)


# --- the warm-up


class ModesSeen(nn.BCEWithLogitsLoss):
    """Notes at each batch of training in which mode the parts of a network are."""

    def __init__(self, model):
        super().__init__()
        self.model, self.modes = [model], []

    def forward(self, logits, targets):
        (model,) = self.model
        if model.training:
            self.modes.append((model.encoder.training, model.encoder[1].training))
        return super().forward(logits, targets)


def test_the_encoder_stays_as_it_is_in_the_warm_up_and_learns_with_a_fresh_rate_after(tmp_path):
    model, encoders = TwoLayers(), []

    def score(logits, targets, indices):
        encoders.append(copied(model.encoder))
        return {}

    start, loss = copied(model.encoder), ModesSeen(model)
    opposite = Points(15, seed=1)
    opposite.y = 1 - opposite.y  # the better the network, the worse its loss
    changes = {
        "warmup_epochs": 3,
        "warmup_patience": 0,
        "warmup_factor": 0.5,
        "schedule": "constant",
        "select": "loss",
        "learning_rate": 0.5,
    }
    history = train_points(
        tmp_path, model=model, score=score, valid=opposite, loss=loss, **changes
    ).history
    assert {"1.running_mean", "1.running_var", "1.num_batches_tracked"} <= set(start)
    for during in encoders[:3]:
        assert all(torch.equal(during[name], start[name]) for name in start)
    assert all(not torch.equal(encoders[3][name], start[name]) for name in start)
    # neither dropout nor batch statistics, although the network itself is in training mode
    assert loss.modes == [(False, False)] * 12 + [(True, True)] * 12
    assert list(history["phase"]) == ["warm-up"] * 3 + ["all"] * 3
    assert history["lr"][2] < history["lr"][3] == 0.5
    assert all(weight.requires_grad for weight in model.parameters())


def test_the_head_learns_in_the_warm_up(tmp_path):
    model = TwoLayers()
    start = copied(model)
    with pytest.raises(Interrupted):
        train_points(tmp_path, model=model, warmup_epochs=3, loss=LossThatBreaks(5))
    changed = {
        name for name, value in model.state_dict().items() if not torch.equal(value, start[name])
    }
    assert changed == {"head.weight", "head.bias"}


def test_random_weights_are_not_frozen(tmp_path):
    model = TwoLayers()
    model.starts_from = "random weights"
    with pytest.raises(
        TrainingError, match="starts from random weights, frozen it would learn nothing"
    ):
        train_points(tmp_path, model=model, warmup_epochs=1)


def test_a_network_without_an_encoder_has_no_warm_up(tmp_path):
    with pytest.raises(TrainingError, match="needs to know what to freeze"):
        train_points(tmp_path, model=nn.Linear(2, 1), warmup_epochs=1)


# --- what stops a run


def test_a_loss_that_is_not_finite_names_the_items_and_keeps_the_checkpoint(tmp_path):
    with pytest.raises(Interrupted):
        train_points(tmp_path, loss=LossThatBreaks(15))
    sampler = EpochSampler(range(20), shuffle=True, seed=0)
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


# --- real networks


@pytest.mark.parametrize(
    ("stage", "batch_size", "learning_rate"),
    [("segmentation", 10, 2e-2), ("classification", 4, 2e-3)],
)
def test_two_tiny_batches_are_learnt_by_heart(cases, tmp_path, stage, batch_size, learning_rate):
    changes = {"batch_size": batch_size, "learning_rate": learning_rate}
    changes |= {"epochs": 25, "schedule": "onecycle"}
    _, result = train_stage(stage, cases, tmp_path, augment=False, valid=False, **changes)
    assert result.history["train_loss"].iloc[0] > 0.6
    assert result.history["train_loss"].iloc[-1] < 0.2


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_last_batch_of_one_is_left_out_of_the_epoch(tmp_path, accumulate):
    train = Seen()
    history = train_points(
        tmp_path, train=train, batch_size=19, schedule="cosine", accumulate=accumulate
    ).history
    assert len(train.indices) == 19 * CONFIG.epochs
    assert len(set(train.indices)) == 20
    # the schedule counts the steps that are taken
    expected = 0.01 * (1 + np.cos(np.pi * np.arange(CONFIG.epochs) / CONFIG.epochs))
    np.testing.assert_allclose(history["lr"], expected)


def test_the_last_of_those_that_tune_is_scored_too(tmp_path):
    counts = []

    def score(logits, targets, indices):
        counts.append(len(indices))
        return {"score": 0.0}

    train_points(tmp_path, valid=Points(7, seed=1), score=score, epochs=1)
    assert counts == [7]


@pytest.mark.parametrize("n", [0, 1])
def test_too_little_to_learn_from_is_refused_before_any_work(tmp_path, n):
    with pytest.raises(TrainingError, match=f"There is {n} item to learn from, and a batch needs"):
        train_points(tmp_path, train=Subset(Points(), range(n)), loss=LossThatBreaks(0))


def test_batches_of_one_are_refused_in_a_sentence_where_batch_norm_cannot_learn(tmp_path):
    with pytest.raises(TrainingError, match="take a batch_size of 2 or more for each process"):
        train_points(tmp_path, batch_size=1)
    assert len(train_points(tmp_path / "slope", model=Slope(), batch_size=1).history) == 6
