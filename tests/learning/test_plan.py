"""Which epoch is the best, when to stop, and which settings go together."""

from dataclasses import asdict

import pytest
from torch import nn

from t4e_utils.learning import TrainingError
from t4e_utils.learning.plan import (
    Progress,
    TrainConfig,
    check_plan,
    require_same_run,
    smaller_batch,
)

nan = float("nan")


def record_all(losses, scores=None, **changes):
    config, progress = TrainConfig(epochs=20, **changes), Progress()
    for epoch, loss in enumerate(losses, start=1):
        row = {"epoch": epoch, "valid_loss": loss}
        progress.record(row if scores is None else {**row, "score": scores[epoch - 1]}, config)
        if progress.is_finished:
            break
    return progress


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


def test_without_validation_the_last_epoch_is_the_best():
    config, progress = TrainConfig(epochs=3, schedule="constant"), Progress()
    for epoch in (1, 2, 3):
        progress.record({"epoch": epoch, "train_loss": epoch}, config)
    assert (progress.best_epoch, progress.is_finished) == (3, True)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"schedule": "step"}, "schedule is 'step': choose one of plateau, cosine"),
        ({"schedule_every": "batch"}, "schedule_every is 'batch': choose one of step, epoch"),
        ({"optimiser": "adam"}, "optimiser is 'adam': choose one of adamw, sgd"),
        ({"select": "auc"}, "select is 'auc'"),
        ({"precision": "int8"}, "precision is 'int8'"),
        ({"epochs": 0}, "epochs, batch_size and accumulate are 1 or more"),
        ({"batch_size": 0}, "epochs, batch_size and accumulate are 1 or more"),
        ({"accumulate": 0}, "epochs, batch_size and accumulate are 1 or more"),
        ({"steps_per_epoch": -1}, "steps_per_epoch 0 or more"),
        ({"epochs": 3, "warmup_epochs": 3}, "warmup_epochs is 3: it is less than epochs, 3"),
    ],
)
def test_impossible_settings_are_refused(changes, sentence):
    with pytest.raises(TrainingError, match=sentence):
        TrainConfig(**changes)


@pytest.mark.parametrize(
    ("changes", "has_validation", "starts_from", "sentence"),
    [
        ({"schedule": "plateau"}, False, "", "Without validation data there is no plateau"),
        ({"schedule": "cosine", "early_stopping": 2}, False, "", "Without validation data"),
        ({"schedule": "cosine", "select": "score"}, False, "", "select='loss'"),
        ({"warmup_epochs": 1}, True, "", "needs to know what to freeze"),
        ({"warmup_epochs": 1}, True, "random weights", "frozen it would learn nothing"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    changes, has_validation, starts_from, sentence
):
    encoder = nn.Linear(1, 1) if starts_from else None
    with pytest.raises(TrainingError, match=sentence):
        check_plan(
            TrainConfig(**changes),
            n_train=2,
            has_validation=has_validation,
            encoder=encoder,
            starts_from=starts_from,
        )


def test_settings_that_go_together_are_taken():
    check_plan(
        TrainConfig(warmup_epochs=1, early_stopping=2, select="score"),
        n_train=2,
        has_validation=True,
        encoder=nn.Linear(1, 1),
        starts_from="imagenet",
    )


@pytest.mark.parametrize(("batch_size", "half"), [(6, 3), (1, 1)])
def test_a_smaller_batch_takes_the_same_steps(batch_size, half):
    said = smaller_batch(TrainConfig(batch_size=batch_size, accumulate=2))
    assert f"a batch of {batch_size}: try batch_size={half} with accumulate=4" in said


def test_a_run_goes_on_with_its_own_settings_alone_and_any_number_of_workers(tmp_path):
    stored = {**asdict(TrainConfig(seed=1)), "n_train": 20}
    require_same_run(stored, {**stored, "num_workers": 7}, tmp_path)
    with pytest.raises(
        TrainingError,
        match=r"holds another run \(seed 1 there and 2 now, n_train 20 there and 21 now\): use",
    ):
        require_same_run(stored, {**stored, "seed": 2, "n_train": 21}, tmp_path)


def test_a_run_that_does_not_know_a_setting_is_another(tmp_path):
    with pytest.raises(TrainingError, match="optimiser None there and adamw now"):
        require_same_run({}, {"optimiser": "adamw"}, tmp_path)
