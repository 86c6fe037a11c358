"""One collection of notebooks, found by name: the room knows none of them."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType

from t4e_utils.workflow import PipelineError
from t4e_utils.workflow.plan import Stage

LEAVES = "t4e_utils.competitions"


@dataclass(frozen=True)
class Collection:
    """A competition's notebooks and what is known about them."""

    name: str
    folder: str  # below notebooks/, docs/executed/, docs/figures/; "" for the first collection
    data: ModuleType  # STAGES, KAGGLE, PALETTE and the facts

    @property
    def stages(self) -> Mapping[str, Stage]:
        """The stages by the names of their sections in configs, in the order of the notebooks."""
        return self.data.STAGES

    @property
    def about(self) -> str:
        """One line that says which competition it is."""
        return (self.data.__doc__ or self.name).strip().splitlines()[0]


def open_collection(name: str = "") -> Collection:
    """Return a collection by the name of its folder below `competitions/`, the first one if empty.

    A name with a dot is that of a leaf's module elsewhere, such as `mine.data`.

    Raises:
        PipelineError: there is none of this name.
    """
    leaves = importlib.import_module(LEAVES)
    name = name or leaves.FIRST
    names = sorted(found.name for found in pkgutil.iter_modules(leaves.__path__) if found.ispkg)
    is_module = re.fullmatch(r"\w+(\.\w+)+", name)
    if name not in names and not is_module:
        raise PipelineError(
            f"There is no collection {name!r}: give one of {', '.join(names)}, or a module."
        )
    try:
        data = importlib.import_module(name if is_module else f"{LEAVES}.{name}.data")
    except ModuleNotFoundError as error:
        if not is_module or not name.startswith(error.name or " "):
            raise
        raise PipelineError(f"There is no module {name!r}: put its folder on PYTHONPATH.") from None
    return Collection(name, "" if name == leaves.FIRST else name, data)
