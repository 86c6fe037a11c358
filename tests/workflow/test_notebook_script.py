"""Notebooks as scripts.

The same cells, the given parameters, in one process or in several that work together.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from t4e_utils.tables.parameters import ParameterError
from t4e_utils.workflow.notebook_script import NotebookScriptError, run_as_script

CELLS = (
    "import json\nimport torch\nfrom accelerate import Accelerator\nfrom pathlib import "
    "Path\nfrom t4e_utils import runs\n"
    "p = runs.parameters(globals(), at_least={'n': 1})",
    "accelerator = Accelerator()\n"
    "total = accelerator.reduce(torch.tensor(float(p.n + accelerator.process_index)), 'sum')\n"
    "display(total)",
    "Path(p.folder, f'{accelerator.process_index}.json').write_text(json.dumps([float(total), "
    "accelerator.num_processes]));\n"
    "print('process', accelerator.process_index)",
)


def write_notebook(path, *, tags=("parameters",)):
    declared = nbformat.v4.new_code_cell(
        'n: int = 1  # a number\nfolder: str = ""  # for results', metadata={"tags": list(tags)}
    )
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_markdown_cell("# A notebook"),
            declared,
            *map(nbformat.v4.new_code_cell, CELLS),
        ]
    )
    nbformat.write(notebook, path)
    return path


def test_processes_of_a_launcher_share_the_work_and_one_prints(tmp_path):
    path = write_notebook(tmp_path / "a.ipynb")
    # What `accelerate launch` calls for several GPUs; on a CPU it would want MPI.
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
    ]
    command = [
        *launcher,
        "-m",
        "t4e_utils.workflow.notebook_script",
        str(path),
        "-y",
        f"{{n: 5, folder: '{tmp_path}'}}",
    ]
    settings = {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "ACCELERATE_USE_CPU": "true",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    environment = {**os.environ, **settings}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert [json.loads((tmp_path / f"{k}.json").read_text()) for k in (0, 1)] == [
        [11.0, 2],
        [11.0, 2],
    ]
    assert [line for line in done.stdout.splitlines() if line.startswith("process")] == [
        "process 0"
    ]


def test_a_misspelt_parameter_is_refused(tmp_path):
    with pytest.raises(ParameterError, match="no parameter m: its parameters are folder, n"):
        run_as_script(write_notebook(tmp_path / "a.ipynb"), {"m": 3})


def test_what_is_no_such_notebook_is_refused(tmp_path):
    with pytest.raises(NotebookScriptError, match=r"There is no notebook .*b\.ipynb: correct"):
        run_as_script(tmp_path / "b.ipynb", {})
    with pytest.raises(NotebookScriptError, match="has no cell tagged parameters"):
        run_as_script(write_notebook(tmp_path / "c.ipynb", tags=()), {})
