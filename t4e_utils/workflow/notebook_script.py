"""A notebook's code as a plain script, for launchers that start one process a GPU, on one machine
or on several.

    accelerate launch --num_processes 8 -m t4e_utils.workflow.notebook_script notebooks/03_train_seg.ipynb -y
    "{run_dir: runs/t4e, folds: [0]}"

All processes run the same cells; in `training.fit` they work together, elsewhere each does the
same. Only the first one prints. Nothing is drawn or kept of the outputs: run the notebook
afterwards, it shows what is finished.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import yaml

from t4e_utils import T4EError
from t4e_utils.learning.processes import leave_group


class NotebookScriptError(T4EError):
    """The notebook or its parameters cannot be used."""


def run_as_script(path: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Run the code cells of a notebook in this process.

    Args:
        path: of the notebook.
        given: parameters in place of the declared ones.

    Returns:
        The names that the cells left behind.

    Raises:
        NotebookScriptError: no such notebook, or none with a cell of parameters.
        Exception: whatever a cell raises, with the cell's number in the traceback.
    """
    if not path.is_file():
        raise NotebookScriptError(f"There is no notebook {path}: correct the path.")
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    place = next(
        (k for k, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", [])), None
    )
    if place is None:
        raise NotebookScriptError(
            f"{path} has no cell tagged parameters: take one of the notebooks of this project."
        )
    sources = [cell.source for cell in cells]
    sources.insert(
        place + 1,
        "\n".join(["# Parameters", *(f"{name} = {value!r}" for name, value in given.items())]),
    )
    namespace: dict[str, Any] = {
        "__name__": "__main__",
        "In": sources,
        "display": lambda *shown: None,
    }
    for number, source in enumerate(sources):
        exec(compile(source, f"{path}, code cell {number}", "exec", dont_inherit=True), namespace)
    return namespace


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("-y", "--parameters", default="{}", help="as papermill takes them, in YAML")
    options = parser.parse_args()
    given = yaml.safe_load(options.parameters)
    if not isinstance(given, dict):
        raise NotebookScriptError(
            f"The parameters {options.parameters!r} are no YAML mapping: write them as "
            f"'{{folds: [0]}}'."
        )
    os.environ.setdefault("MPLBACKEND", "agg")
    is_first = int(os.environ.get("RANK", "0")) == 0
    with contextlib.nullcontext() if is_first else contextlib.redirect_stdout(io.StringIO()):
        run_as_script(options.notebook, given)
    leave_group()  # not after an error: the others may wait in an exchange that never comes


if __name__ == "__main__":
    main()
