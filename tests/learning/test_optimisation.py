"""Optimisers and learning rates against their formulas."""

import numpy as np
import pytest
import torch
from torch import nn

from t4e_utils.learning import TrainingError
from t4e_utils.learning.optimisation import LossWatch, make_optimiser, make_schedule
from t4e_utils.learning.plan import TrainConfig


class Alone:
    """An accelerator of one process."""

    def reduce(self, values, how):
        assert how == "sum"
        return values


def stepped(config, *, n_steps, phase="all", losses=None):
    """The learning rate at the start of each step."""
    optimiser = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=config.learning_rate)
    schedule = make_schedule(optimiser, config, phase, n_steps=n_steps, has_validation=True)
    found = []
    for k in range(n_steps):
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        if schedule is not None:
            schedule.step(*([] if losses is None else [losses[k]]))
    return found


def test_plateaus_lower_the_rate_as_in_the_table():
    config = TrainConfig(
        learning_rate=1.0,
        plateau_factor=0.1,
        plateau_patience=1,
        warmup_factor=0.5,
        warmup_patience=0,
    )
    found = stepped(config, n_steps=7, losses=[5, 4, 4, 4, 4, 4, 3])
    assert found == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01])
    found = stepped(config, n_steps=5, losses=[5, 5, 5, 4, 4], phase="warm-up")
    assert found == pytest.approx([1, 1, 0.5, 0.25, 0.25])


def test_a_warm_up_without_validation_keeps_its_rate():
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    config = TrainConfig(schedule="cosine")
    assert make_schedule(optimiser, config, "warm-up", n_steps=3, has_validation=False) is None


def test_poly_is_the_formula_of_nnunet():
    config = TrainConfig(epochs=3000, learning_rate=0.01, schedule="poly", schedule_every="epoch")
    found = stepped(config, n_steps=3000)
    np.testing.assert_allclose(found, 0.01 * (1 - np.arange(3000) / 3000) ** 0.9, rtol=1e-9)
    chosen = [found[epoch] for epoch in (0, 1500, 2999)]
    assert chosen == pytest.approx([0.01, 0.00535887, 7.4232e-6], rel=1e-5)


def test_cosine_by_epoch_matches_the_table():
    config = TrainConfig(learning_rate=1e-3, schedule="cosine", schedule_every="epoch")
    table = [1.0, 0.975528, 0.904508, 0.793893, 0.654508, 0.5, 0.345492, 0.206107, 0.095492]
    found = 1000 * np.array(stepped(config, n_steps=10))
    np.testing.assert_allclose(found, [*table, 0.024472], atol=1e-6)


def test_onecycle_peaks_at_the_learning_rate_and_constant_stays():
    found = stepped(TrainConfig(learning_rate=0.1, schedule="onecycle"), n_steps=100)
    assert max(found) == pytest.approx(0.1)
    assert found[0] == pytest.approx(0.1 / 25)
    assert stepped(TrainConfig(learning_rate=0.1, schedule="constant"), n_steps=3) == [0.1] * 3


def test_frozen_weights_are_not_optimised():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    model[0].requires_grad_(False)
    (group,) = make_optimiser(model, TrainConfig()).param_groups
    assert [id(weight) for weight in group["params"]] == [id(w) for w in model[1].parameters()]


def test_adamw_and_sgd_have_the_settings_of_the_run():
    model = nn.Linear(2, 1)
    adamw = make_optimiser(model, TrainConfig(learning_rate=0.3, weight_decay=0.2))
    sgd = make_optimiser(model, TrainConfig(learning_rate=0.3, optimiser="sgd", momentum=0.7))
    assert (type(adamw), type(sgd)) == (torch.optim.AdamW, torch.optim.SGD)
    assert (adamw.param_groups[0]["lr"], adamw.param_groups[0]["weight_decay"]) == (0.3, 0.2)
    settings = sgd.param_groups[0]
    assert [settings[name] for name in ("lr", "weight_decay", "momentum", "nesterov")] == [
        0.3,
        0.01,
        0.7,
        True,
    ]


def test_sgd_steps_as_nesterov_wrote_it():
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 2.0)
    config = TrainConfig(learning_rate=0.1, optimiser="sgd", momentum=0.9, weight_decay=0.5)
    optimiser, weight, velocity = make_optimiser(model, config), 2.0, 0.0
    for step in range(4):
        optimiser.zero_grad()
        model(torch.ones(1, 1)).square().sum().backward()
        optimiser.step()
        gradient = 2 * weight + 0.5 * weight
        velocity = gradient if step == 0 else 0.9 * velocity + gradient
        weight -= 0.1 * (gradient + 0.9 * velocity)
        assert model.weight.item() == pytest.approx(weight, rel=1e-5)


def test_the_mean_loss_is_of_items_and_not_of_batches(tmp_path):
    watch = LossWatch(1, tmp_path, every=1)
    watch.add(torch.tensor(1.0), torch.arange(3))
    watch.add(torch.tensor(5.0), torch.arange(1))
    assert watch.mean(Alone()) == pytest.approx(2.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_found_at_the_next_look(tmp_path, value):
    watch = LossWatch(4, tmp_path, every=3)
    watch.add(torch.tensor(1.0), torch.tensor([7, 8]))
    watch.add(torch.tensor(value), torch.tensor([5, 6]))
    with pytest.raises(
        TrainingError, match=rf"The loss is {value} in epoch 4, in the batch .*\[5, 6\]: look at"
    ):
        watch.add(torch.tensor(1.0), torch.tensor([1, 2]))
