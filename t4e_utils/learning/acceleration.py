"""Accelerate as the training loop uses it.

Two things it has no public function for: a process may train several networks, each in its own
precision, and a model leaves a training as it came. The bound on its version in requirements.txt
belongs to these.
"""

from __future__ import annotations

import atexit
from pathlib import Path

from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import DataLoaderConfiguration, ProjectConfiguration
from torch import nn

from t4e_utils.learning.devices import pick_device, resolve_precision
from t4e_utils.learning.plan import TrainConfig
from t4e_utils.learning.processes import leave_group


def make_accelerator(config: TrainConfig, folder: Path) -> Accelerator:
    """Return an accelerator for a run in a folder."""
    # one process may train several networks, each in its own precision
    AcceleratorState._reset_state()
    GradientState._reset_state()
    precision = {"fp32": "no"}.get(name := resolve_precision(config.precision, pick_device()), name)
    atexit.register(leave_group)  # of a launcher; the next training of this process is in it too
    project = ProjectConfiguration(project_dir=str(folder), logging_dir=str(folder))
    return Accelerator(
        mixed_precision=precision,
        gradient_accumulation_steps=config.accumulate,
        log_with="tensorboard",
        project_config=project,
        step_scheduler_with_optimizer=False,
        dataloader_config=DataLoaderConfiguration(non_blocking=True),
    )


def unprepare(accelerator: Accelerator, model: nn.Module) -> nn.Module:
    """Return the model without what `Accelerator.prepare` put around it."""
    model = accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    model.__dict__.pop("_is_accelerate_prepared", None)
    return model
