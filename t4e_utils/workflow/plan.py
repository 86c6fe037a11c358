"""Which notebook gets which parameters.

From a flat config to papermill's arguments, checked before any job starts.

A config's top-level keys are shared: every notebook that declares such a parameter gets it. A
section named like a notebook without its number (`train_seg:`) holds what only this notebook gets.
The Snakefile asks here and holds nothing but rules.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from t4e_utils.tables.parameters import ParameterError, read_parameters
from t4e_utils.tables.run import MissingInputError
from t4e_utils.workflow.executed import literal

NOTEBOOKS = {
    "eda": "01_eda",
    "seg_data": "02_seg_data",
    "train_seg": "03_train_seg",
    "cls_data": "04_cls_data",
    "train_cls": "05_train_cls",
    "submission": "06_submission",
}


@dataclass(frozen=True)
class Stage:
    """One notebook of a collection; its stage's name is that of its section in configs."""

    notebook: str  # file stem, such as "01_eda"
    folds_from: str = ""  # the stage that deals the patients into folds
    uses_gpu: bool = False


@dataclass(frozen=True)
class Needs:
    """What one job asks a scheduler for. Only schedulers read it.

    On one machine a job takes what is there.
    """

    cores: int
    memory_mb: int
    # after which a scheduler ends it; what was complete stays, and the next call goes on
    minutes: int


# For the real data and the networks of configs/t4e.yaml; docs/scaling.md has the measured part. A
# profile's `set-resources` wins.
NEEDS = {
    "eda": Needs(8, 16_000, 120),
    "seg_data": Needs(16, 24_000, 120),
    "train_seg": Needs(8, 32_000, 24 * 60),
    "seg_summary": Needs(2, 16_000, 60),
    "cls_data": Needs(8, 16_000, 4 * 60),
    "train_cls": Needs(8, 32_000, 24 * 60),
    "cls_summary": Needs(2, 16_000, 60),
    "submission": Needs(4, 16_000, 2 * 60),
    "kaggle": Needs(1, 4_000, 30),
    "report": Needs(1, 4_000, 30),
}
# who deals the patients into n_folds
FOLDS_MADE_BY = {"train_seg": "seg_data", "train_cls": "cls_data"}
KINDS = {"bool": bool, "int": int, "float": float, "str": str, "list": list, "dict": dict}


KINDS |= {f"list[{name}]": list[KINDS[name]] for name in ("bool", "int", "float", "str")}


@dataclass(frozen=True)
class Plan:
    """What a config means for the notebooks; stages are the keys of `NOTEBOOKS`."""

    given: Mapping[str, Mapping[str, Any]]  # parameters that the config gives to a stage
    defaults: Mapping[str, Mapping[str, Any]]  # what the notebooks declare

    def value(self, stage: str, name: str) -> Any:
        """Return the value that a stage runs with."""
        return self.given[stage].get(name, self.defaults[stage][name])

    def processes(self, stage: str) -> int:
        """Return how many processes of a stage train together, one a GPU."""
        return self.value(stage, "num_processes") if "num_processes" in self.defaults[stage] else 1

    def arguments(self, stage: str, **overrides: Any) -> str:
        """Return a stage's parameters as one line of YAML, for `papermill -y`."""
        return yaml.safe_dump(
            {**self.given[stage], **overrides},
            default_flow_style=True,
            sort_keys=True,
            width=float("inf"),
        ).strip()

    @property
    def run_dir(self) -> str:
        """Folder that the run writes to."""
        return self.value("eda", "run_dir").rstrip("/")

    @property
    def uses_phantoms(self) -> bool:
        """Whether the data folders are the notebooks' defaults, where phantoms are drawn."""
        return all(
            self.value("eda", name) == self.defaults["eda"][name]
            for name in ("rsna_dir", "brats_dir")
        )

    def folds(self, stage: str) -> list[int]:
        """Return the folds that a training stage trains; an empty list in the config means all.

        Raises:
            ParameterError: a fold that does not exist.
        """
        n_folds, folds = self.value(FOLDS_MADE_BY[stage], "n_folds"), self.value(stage, "folds")
        if wrong := [fold for fold in folds if fold not in range(n_folds)]:
            raise ParameterError(
                f"{stage}: fold {wrong[0]!r} does not exist: with n_folds = {n_folds} give 0 "
                f"to {n_folds - 1}, or [] for all."
            )
        return list(folds) or list(range(n_folds))


def read_plan(config: Mapping[str, Any], folder: Path) -> Plan:
    """Check a config against what the notebooks in a folder declare.

    Raises:
        ParameterError: a key that no notebook declares, a section's key that its notebook does not
            declare, or a value of a wrong type.
        MissingInputError: a notebook is not there.
    """
    declared = {
        stage: declared_parameters(folder / f"{name}.ipynb") for stage, name in NOTEBOOKS.items()
    }
    sections = {key: value for key, value in config.items() if key in NOTEBOOKS}
    shared = {key: value for key, value in config.items() if key not in NOTEBOOKS}
    everything = {name for own in declared.values() for name in own}
    _refuse_unknown(
        shared, everything | set(NOTEBOOKS), "no notebook has this parameter, and it is no section"
    )
    for stage, section in sections.items():
        if not isinstance(section, Mapping):
            raise ParameterError(
                f"{stage} = {section!r} must be a section that holds parameters of "
                f"{NOTEBOOKS[stage]}: indent them below it."
            )
        _refuse_unknown(
            section, declared[stage], f"{NOTEBOOKS[stage]} has no such parameter", section=stage
        )
    given = {
        stage: {
            name: _checked(name, {**shared, **sections.get(stage, {})}[name], *own[name])
            for name in own
            if name in {**shared, **sections.get(stage, {})}
        }
        for stage, own in declared.items()
    }
    return Plan(
        given,
        {
            stage: {name: default for name, (_, default) in own.items()}
            for stage, own in declared.items()
        },
    )


def declared_parameters(notebook: Path) -> dict[str, tuple[str, Any]]:
    """Return the type (as written) and the default of each parameter that a notebook declares.

    Raises:
        MissingInputError: the notebook is not there.
    """
    from papermill import inspect_notebook

    if not notebook.is_file():
        raise MissingInputError(
            f"The notebook {notebook} is not there: restore it, or start from the project's root."
        )
    found = inspect_notebook(str(notebook))
    return {
        name: (about["inferred_type_name"], literal(about["default"]))
        for name, about in found.items()
    }


def _refuse_unknown(
    given: Iterable[str], known: Iterable[str], what: str, *, section: str = ""
) -> None:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it can be {', '.join(sorted(known))}."
            raise ParameterError(
                f"The config gives {f'{section}: ' if section else ''}{name}, but {what}: {hint}"
            )


def _checked(name: str, value: Any, kind_name: str, default: Any) -> Any:
    kind = KINDS.get(kind_name, object)
    value = _from_text(value, kind, default)
    return getattr(read_parameters({"__annotations__": {name: kind}, name: value}), name)


def _from_text(value: Any, kind: Any, default: Any) -> Any:
    """Read what came as text but is none.

    YAML takes `1e-4` for text, and `--config "train_seg={folds: [0]}"` gives text only.
    """
    if isinstance(value, list) and not any(isinstance(item, str) for item in default or ()):
        return [_from_text(item, object, None) for item in value]
    if isinstance(value, dict):
        return {key: _from_text(item, object, None) for key, item in value.items()}
    if not isinstance(value, str) or kind in (str, list, dict):
        return value
    if re.fullmatch(r"[-+]?\d+(\.\d*)?([eE][-+]?\d+)?", value):
        return float(value) if kind is float or not re.fullmatch(r"[-+]?\d+", value) else int(value)
    return {"true": True, "false": False}.get(value.lower(), value)
