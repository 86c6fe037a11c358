"""The submission notebook as Kaggle runs it: a first cell that installs, and the parameters."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import nbformat
from nbformat import NotebookNode

INJECTED = "injected-parameters"  # papermill's tag
PLAIN = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
MARK = "t4e_bundle.json"  # marks the folder of the uploaded data set
BOOTSTRAP = """\
# Installs what this image lacks, without network, and finds the input folders.
import importlib
import os
import subprocess
import sys
from pathlib import Path


def folder_with(name, likely=""):
    # of several the one in a folder of the likely owner and name, then the one with test/ beside it
    found, seen = {{}}, set()
    for folder, folders, files in os.walk("{root}/input", followlinks=True):
        place = Path(folder).resolve()
        if name in files and place not in seen:
            parts = {{*Path(folder).parts, *place.parts}}  # of a link both names count
            found[folder] = len(parts & {{*likely.split("/")}}), Path(folder, "test").is_dir()
        if name in files or place in seen:  # not below it; a link can lead back
            folders.clear()
        elif files:  # a data set: its scans are many, and no inputs
            folders[:] = set(folders) - {{"train", "test"}}
        seen.add(place)
        folders.sort()
    best = [folder for folder in found if found[folder] == max(found.values())]
    if len(best) == 1:
        return best[0]
    raise FileNotFoundError(
        f"{{' and '.join(best)}} hold a {{name}} each: remove all inputs but one of them."
        if best
        else f"No {{name}} below {root}/input: add the competition and the data set {dataset} "
        "as inputs of this notebook."
    )


bundle = Path(folder_with("{mark}", "{dataset}"))
installed = importlib.metadata.distributions()
present = {{found.metadata["Name"].lower().replace("_", "-") for found in installed}}
options = ["--quiet", "--force-reinstall", "--no-index", "--no-deps"]
for wheel in sorted(bundle.glob("*.whl")):
    name = wheel.name.split("-")[0].lower().replace("_", "-")
    if name == "t4e-utils" or name not in present:
        done = subprocess.run([sys.executable, "-m", "pip", "install", *options, str(wheel)])
        print(wheel.name, "does not fit this image" if done.returncode else "installed")
importlib.invalidate_caches()
"""


def bundled_notebook(
    notebook: NotebookNode,
    given: Mapping[str, Any],
    *,
    parameters: Mapping[str, str],
    dataset: str,
    root: str,
) -> NotebookNode:
    """Return the notebook with two more cells, and without outputs and traces of its runs.

    Args:
        notebook: the submission notebook, with a cell tagged `parameters`.
        given: values of its parameters.
        parameters: source text of the parameters that are set here, whatever is given; `{root}`
            in it is replaced.
        dataset: owner and name of the uploaded data set, for the message if it is not there.
        root: the folder that holds Kaggle's `input` and `working`.
    """
    bundled = deepcopy(notebook)
    bundled.metadata = deepcopy(PLAIN)
    bundled.cells = [c for c in bundled.cells if INJECTED not in c.metadata.get("tags", [])]
    for cell in bundled.cells:
        # papermill and editors leave paths and times behind
        cell.metadata = {name: cell.metadata[name] for name in ("tags",) if name in cell.metadata}
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    place = next(
        k for k, cell in enumerate(bundled.cells) if "parameters" in cell.metadata.get("tags", [])
    )
    values = {name: repr(value) for name, value in given.items() if name not in parameters}
    values |= {name: source.replace("{root}", root) for name, source in parameters.items()}
    lines = ["# Parameters", *[f"{name} = {value}" for name, value in values.items()]]
    injected = {"id": "injected", "metadata": {"tags": [INJECTED]}}
    bundled.cells.insert(place + 1, nbformat.v4.new_code_cell("\n".join(lines), **injected))
    install = BOOTSTRAP.format(root=root, mark=MARK, dataset=dataset).rstrip()
    bundled.cells.insert(1, nbformat.v4.new_code_cell(install, id="install"))
    return bundled
