"""Executed copies for readers.

Made from phantoms only, small, and of the code that the notebooks have now.
"""

import base64
import io
import json
import re
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from t4e_utils.tables.store import write_table
from t4e_utils.workflow import executed, gallery
from t4e_utils.workflow.plan import NOTEBOOKS

ROOT = Path(__file__).parents[2]
WIDGET = "application/vnd.jupyter.widget-view+json"


def code_of(path):
    cells = nbformat.read(path, as_version=4).cells
    return [
        cell.source
        for cell in cells
        if cell.cell_type == "code" and "injected-parameters" not in cell.metadata.get("tags", [])
    ]


@pytest.mark.parametrize("name", NOTEBOOKS.values())
def test_the_executed_copies_have_the_code_of_the_notebooks(name):
    copy = ROOT / "docs" / "executed" / f"{name}.ipynb"
    assert copy.is_file(), f"{copy.name} is missing: run make gallery"
    assert code_of(copy) == code_of(ROOT / "notebooks" / f"{name}.ipynb"), (
        f"The code of {name} has changed: run make gallery and commit docs/executed"
    )


@pytest.mark.parametrize("name", NOTEBOOKS.values())
def test_the_executed_copies_are_small_name_phantoms_and_no_folder_of_a_machine(name):
    copy = ROOT / "docs" / "executed" / f"{name}.ipynb"
    notebook, text = nbformat.read(copy, as_version=4), copy.read_text(encoding="utf-8")
    assert copy.stat().st_size < gallery.MAX_BYTES
    assert "phantoms, drawn by a program" in notebook.cells[0].source
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    assert not re.search(r'["\s\'](/home|/root|/tmp|/work|/Users)/', text)
    assert WIDGET not in text
    links = re.findall(
        r"\]\(([^)#:]+)\)",
        "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown"),
    )
    assert links
    assert all((copy.parent / link).exists() for link in links)


def test_every_picture_of_the_index_and_the_readme_is_there_and_small():
    for page in (ROOT / "README.md", ROOT / "notebooks" / "README.md"):
        shown = re.findall(
            r'!\[[^\]]+\]\(([^)]+)\)|src="([^"]+)"', page.read_text(encoding="utf-8")
        )
        assert len(shown) >= 5
        for path in (page.parent / (first or second) for first, second in shown):
            assert path.stat().st_size < 300_000


def png(width=1200, height=300):
    buffer = io.BytesIO()
    Image.fromarray(
        np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    ).save(buffer, format="png")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture
def run(tmp_path):
    """A finished run on phantoms, its notebooks cut down to a few cells."""
    folder, ran = (
        tmp_path / "run",
        {
            "papermill": {
                "duration": 1.0,
                "start_time": "t",
                "exception": False,
                "status": "completed",
            }
        },
    )
    write_table(
        pd.DataFrame({"series": ["FLAIR"]}),
        folder / "eda" / "inventory.parquet",
        provenance={"rsna_dir": "data/phantoms/rsna"},
    )
    (folder / "notebooks").mkdir()
    picture = new_output(
        "display_data",
        data={"image/png": png(), "text/plain": "<Figure>", WIDGET: {"model_id": "1"}},
    )
    for name, cell_id in gallery.PICTURES.items():
        cells = [
            new_markdown_cell("# Title\n\n[Index](README.md)", metadata=ran),
            new_code_cell(
                "draw()",
                id=cell_id,
                execution_count=1,
                outputs=[new_output("stream", name="stderr", text="progress"), picture],
                metadata={**ran, "tags": ["report"]},
            ),
        ]
        metadata = {
            "papermill": {"input_path": "/home/me/x.ipynb"},
            "widgets": {"state": {}},
            "kernelspec": {"name": "python3", "display_name": "Python 3"},
        }
        nbformat.write(
            new_notebook(cells=cells, metadata=metadata), folder / "notebooks" / f"{name}.ipynb"
        )
    return folder


def test_a_copy_has_a_note_and_nothing_that_only_a_machine_reads(run, tmp_path):
    paths = gallery.write_gallery(run, tmp_path / "docs")
    assert [path.stem for path in paths] == list(NOTEBOOKS.values())
    note, title, code = nbformat.read(paths[0], as_version=4).cells
    assert "phantoms" in note.source
    assert "(../../notebooks/01_eda.ipynb)" in note.source
    assert "[Index](../../notebooks/README.md)" in title.source
    assert [set(output.get("data", {})) for output in code.outputs] == [{"image/png", "text/plain"}]
    assert dict(code.metadata) == {"tags": ["report"]}
    text = paths[0].read_text()
    assert not [
        word for word in ("papermill", "/home/me", WIDGET, "widgets", "progress") if word in text
    ]
    with Image.open(tmp_path / "docs" / "figures" / "01_eda.png") as small:
        assert small.size == (640, 160)
    # the run stays as it was
    assert nbformat.read(run / "notebooks" / "01_eda.ipynb", as_version=4).metadata.papermill


def change(run, name, edit):
    path = run / "notebooks" / f"{name}.ipynb"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def test_what_cannot_be_shown_is_refused_with_a_sentence(run, tmp_path):
    def huge(content):
        content["cells"][1]["outputs"][1]["data"]["text/plain"] = "x" * gallery.MAX_BYTES

    def failed(content):
        content["cells"][1]["metadata"]["papermill"]["exception"] = True

    change(run, "02_seg_data", lambda content: content["cells"][1].update(id="other"))
    with pytest.raises(
        gallery.GalleryError, match=r"Cell 02-15b of 02_seg_data shows no picture.*PICTURES"
    ):
        gallery.write_gallery(run, tmp_path / "docs")
    change(run, "01_eda", huge)
    with pytest.raises(
        gallery.GalleryError,
        match=r"copy of 01_eda has [\d,]+ bytes, more than 1,500,000: show fewer",
    ):
        gallery.write_gallery(run, tmp_path / "docs")
    change(run, "01_eda", failed)
    with pytest.raises(gallery.GalleryError, match=r"01_eda stopped in cell.*make demo again"):
        gallery.write_gallery(run, tmp_path / "docs")
    (run / "notebooks" / "01_eda.ipynb").unlink()
    with pytest.raises(executed.ExecutedNotebookError, match="is not there"):
        gallery.write_gallery(run, tmp_path / "docs")


def test_a_run_on_scans_is_not_published(run, tmp_path):
    write_table(
        pd.DataFrame({"series": ["FLAIR"]}),
        run / "eda" / "inventory.parquet",
        provenance={"rsna_dir": str(tmp_path / "rsna")},
    )
    with pytest.raises(
        gallery.GalleryError, match="does not show phantoms: only these may be published"
    ):
        gallery.write_gallery(run, tmp_path / "docs")
    assert not (tmp_path / "docs").exists()


def test_the_command_says_what_is_wrong_in_one_line(tmp_path):
    with pytest.raises(SystemExit, match=r"\(a run\) is not there: run make demo first"):
        gallery.main([str(tmp_path / "none")])
