"""Which notebook gets which parameters.

From a flat config to papermill's arguments, checked before any job starts.

A config's top-level keys are shared: every notebook that declares such a parameter gets it. A
section named like a stage (`train:`) holds what only this stage's notebook gets. The Snakefile and
the files in `workflow/` ask here and hold nothing but rules.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from t4e_utils import T4EError, printable
from t4e_utils.tables.parameters import ParameterError, typed
from t4e_utils.tables.run import MissingInputError
from t4e_utils.tables.store import read_json, write_json

# in a folder's name: wildcards and variables of Snakemake, and what commands take for an option
MISREAD = re.compile(r"[{}]|<[a-z][a-z0-9_]*>|^-")


@dataclass(frozen=True)
class Stage:
    """One notebook of a collection; its name is that of its section in a config."""

    notebook: str  # the file without its ending, such as "01_eda"
    folds_from: str = ""  # the stage that deals the patients into the folds that this one trains
    uses_gpu: bool = False


@dataclass(frozen=True)
class Plan:
    """What a config means for the notebooks of a collection."""

    stages: Mapping[str, Stage]  # in their order
    given: Mapping[str, Mapping[str, Any]]  # parameters that the config gives to a stage
    defaults: Mapping[str, Mapping[str, Any]]  # what the notebooks declare

    def value(self, stage: str, name: str) -> Any:
        """Return the value that a stage runs with."""
        return self.given[stage].get(name, self.defaults[stage][name])

    def processes(self, stage: str) -> int:
        """Return how many processes of a stage train together, one on each GPU."""
        return self.value(stage, "num_processes") if "num_processes" in self.defaults[stage] else 1

    def arguments(self, stage: str, **overrides: Any) -> str:
        """Return a stage's parameters as one line of YAML, for `papermill -y`."""
        return yaml.safe_dump(
            {**self.given[stage], **overrides},
            default_flow_style=True,
            sort_keys=True,
            width=float("inf"),
        ).strip()

    def sources(
        self,
        stage: str,
        collect: Callable[..., Mapping[str, str]],
        record: Path,
        *,
        keep: bool = True,
    ) -> str:
        """Return what the data of a user look like to a stage, as one line.

        As a parameter of its rule it makes Snakemake run the stage again when, and only when, it
        changes: times of change alone would miss an older file put in place of a newer one.

        Args:
            stage: of this plan.
            collect: takes the stage, and a function that gives the value of its parameters; gives
                digits by name, see `tables.provenance`.
            record: file of the run with what was found last.
            keep: write what is found there.

        Returns:
            What was found last where the data are not there or not usable, as on a disk that is not
            there: nothing is made again then, since Snakemake deletes results first. "" if nothing
            was: the notebook says why.
        """
        try:
            last = read_json(record, made_by="")
        except MissingInputError:
            last = {}
        try:
            found = collect(stage, partial(self.value, stage))
        except (T4EError, OSError):
            return str(last.get(stage, ""))
        said = ", ".join(f"{name}: {digits}" for name, digits in found.items())
        if keep and last.get(stage) != said:
            write_json({**last, stage: said}, record)
        return said

    @property
    def run_dir(self) -> str:
        """Folder that the run writes to.

        Raises:
            ParameterError: its name is empty or cannot be used.
        """
        folder = self.folder(next(iter(self.stages)), "run_dir")
        if folder in ("", "/"):
            raise ParameterError(f"run_dir = {folder!r} is no folder of a run: give it a name.")
        return folder

    def folder(self, stage: str, name: str) -> str:
        """Return a parameter that is a folder which rules name, "" if it is empty.

        It is written as Snakemake compares paths (`runs/a` for `./runs//a/`), and `~` is the user's
        folder, as in the notebooks.

        Raises:
            ParameterError: Snakemake, a command or a notebook could not read its name as it is.
        """
        value = self.value(stage, name)
        if MISREAD.search(value) or printable(value, kept="") != value:
            raise ParameterError(
                f"{name} = {value!r} holds a brace or a word like <this>, which Snakemake takes "
                "for a wildcard, or begins with a dash, or has a letter that is not UTF-8 or "
                "cannot be printed: choose another name."
            )
        try:
            return str(Path(value).expanduser()) if value else ""
        except RuntimeError as error:
            raise ParameterError(
                f"{name} = {value!r} names nobody of this machine: correct it."
            ) from error

    def is_default(self, *names: str) -> bool:
        """Return whether the first stage runs with the notebook's values of these parameters."""
        first = next(iter(self.stages))
        return all(self.value(first, name) == self.defaults[first][name] for name in names)

    def folds(self, stage: str) -> list[int]:
        """Return the folds that a training stage trains; an empty list in the config means all.

        Raises:
            ParameterError: a fold that does not exist.
        """
        n_folds = self.value(self.stages[stage].folds_from, "n_folds")
        folds = self.value(stage, "folds")
        if wrong := [fold for fold in folds if fold not in range(n_folds)]:
            raise ParameterError(
                f"{stage}: fold {wrong[0]!r} does not exist: with n_folds = {n_folds} give 0 "
                f"to {n_folds - 1}, or [] for all."
            )
        return list(folds) or list(range(n_folds))


def read_plan(config: Mapping[str, Any], folder: Path, stages: Mapping[str, Stage]) -> Plan:
    """Check a config against what the notebooks of a collection declare.

    Args:
        config: shared parameters, and sections named like stages.
        folder: of the notebooks.
        stages: of the collection, in their order.

    Raises:
        ParameterError: a key that no notebook declares, a section's key that its notebook does not
            declare, a value of a wrong type or not UTF-8, or a fold that does not exist.
        MissingInputError: a notebook is not there.
    """
    declared = {
        name: declared_parameters(folder / f"{stage.notebook}.ipynb")
        for name, stage in stages.items()
    }
    shared = {key: value for key, value in config.items() if key not in stages}
    everything = {name for own in declared.values() for name in own}
    _refuse_unknown(
        shared, everything | set(stages), "no notebook has this parameter, and it is no section"
    )
    given = {}
    for stage, own in declared.items():
        section, notebook = config.get(stage, {}), stages[stage].notebook
        if not isinstance(section, Mapping):
            raise ParameterError(
                f"{stage} = {section!r} must be a section that holds parameters of {notebook}: "
                "indent them below it."
            )
        _refuse_unknown(section, own, f"{notebook} has no such parameter", section=stage)
        values = {**shared, **section}
        given[stage] = {
            name: typed(name, values[name], *own[name]) for name in own if name in values
        }
    _refuse_bytes(given)
    defaults = {
        stage: {name: default for name, (_, default) in own.items()}
        for stage, own in declared.items()
    }
    plan = Plan(stages, given, defaults)
    for stage, about in stages.items():
        if about.folds_from:
            plan.folds(stage)
    return plan


def declared_parameters(notebook: Path) -> dict[str, tuple[str, Any]]:
    """Return the type (as written) and the default of each parameter that a notebook declares.

    Raises:
        MissingInputError: the notebook is not there.
        PipelineError: it is no notebook.
    """
    from papermill import inspect_notebook

    # not above: a leaf imports `Stage` where what shows notebooks may not be installed
    from t4e_utils.workflow.executed import literal, read

    if not notebook.is_file():
        raise MissingInputError(
            f"The notebook {notebook} is not there: restore it, or start from the project's root."
        )
    found = inspect_notebook(read(notebook))  # papermill takes braces in a path for parameters
    return {
        name: (about["inferred_type_name"], literal(about["default"]))
        for name, about in found.items()
    }


def _refuse_bytes(given: Mapping[str, Mapping[str, Any]]) -> None:
    for values in given.values():
        for name, value in values.items():
            try:
                json.dumps(value, ensure_ascii=False, default=str).encode()
            except UnicodeEncodeError:
                raise ParameterError(
                    f"{name} = {value!r} is not UTF-8, so that no notebook can hold it: rename it."
                ) from None


def _refuse_unknown(
    given: Iterable[str], known: Iterable[str], what: str, *, section: str = ""
) -> None:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)  # YAML has keys like 1 and on
            hint = f"did you mean {near[0]}?" if near else f"it can be {', '.join(sorted(known))}."
            raise ParameterError(
                f"The config gives {f'{section}: ' if section else ''}{name}, but {what}: {hint}"
            )
