"""Executed copies for readers: made from phantoms only, small, and with the hash of their code."""

import base64
import io
import json
import re
from functools import partial
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from t4e_utils.tables.store import read_json, write_json, write_table
from t4e_utils.workflow import PipelineError, gallery
from t4e_utils.workflow.plan import Stage

ROOT = Path(__file__).parents[2]
WIDGET = "application/vnd.jupyter.widget-view+json"
INJECTED = "injected-parameters"


COPIES = sorted((ROOT / "docs" / "executed").rglob("*.ipynb"))
STAGES = {"look": Stage("01_look"), "train": Stage("02_train")}
every_copy = pytest.mark.parametrize("copy", COPIES, ids=lambda path: path.stem)


@every_copy
def test_the_hash_beside_an_executed_copy_is_that_of_its_code(copy):
    hashes = read_json(copy.with_name(gallery.SOURCES), made_by="make gallery")
    assert hashes[copy.stem] == gallery.code_hash(nbformat.read(copy, as_version=4))


def test_every_hash_has_its_copy():
    folders = {copy.parent for copy in COPIES}
    named = {
        folder / f"{name}.ipynb"
        for folder in folders
        for name in read_json(folder / gallery.SOURCES, made_by="make gallery")
    }
    assert named == set(COPIES)


@every_copy
def test_the_executed_copies_are_small_name_phantoms_and_no_folder_of_a_machine(copy):
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
    folder = tmp_path / "run"
    done = {"duration": 1.0, "start_time": "t", "exception": False, "status": "completed"}
    ran = {"papermill": done}
    table = pd.DataFrame({"series": ["a"]})
    write_table(table, folder / "eda" / "inventory.parquet", provenance={"data": "phantoms"})
    (folder / "notebooks").mkdir()
    picture = new_output(
        "display_data",
        data={"image/png": png(), "text/plain": "<Figure>", WIDGET: {"model_id": "1"}},
    )
    words = (
        "# Title\n\n[Index](README.md), [next](02_train.ipynb#work), [other](../vessels/a.md#b), "
        "[web](https://x.org/README.md), [here](#work)"
    )
    for stage in STAGES.values():
        cells = [
            new_markdown_cell(words, metadata=ran),
            new_code_cell("run_dir = 1", execution_count=1, metadata={"tags": ["parameters"]}),
            new_code_cell("run_dir = 2", execution_count=2, metadata={"tags": [INJECTED]}),
            new_code_cell(
                "draw()",
                execution_count=3,
                outputs=[new_output("stream", name="stderr", text="progress"), picture],
                metadata={**ran, "tags": ["report", "cover"]},
            ),
        ]
        metadata = {
            "papermill": {"input_path": "/home/me/x.ipynb"},
            "widgets": {"state": {}},
            "kernelspec": {"name": "python3", "display_name": "Python 3"},
        }
        nbformat.write(
            new_notebook(cells=cells, metadata=metadata),
            folder / "notebooks" / f"{stage.notebook}.ipynb",
        )
    return folder


@pytest.mark.parametrize(("folder", "up"), [("", "../../"), ("hearts", "../../../")])
def test_a_copy_has_a_note_and_nothing_that_only_a_machine_reads(run, tmp_path, folder, up):
    docs = tmp_path / "docs"
    paths = gallery.write_gallery(run, docs, stages=STAGES, folder=folder)
    assert paths == [
        docs / "executed" / folder / f"{name}.ipynb" for name in ("01_look", "02_train")
    ]
    note, title, *_, code = nbformat.read(paths[0], as_version=4).cells
    home = f"{up}notebooks/{folder}/".replace("//", "/")
    assert "phantoms" in note.source
    assert f"({home}01_look.ipynb)" in note.source
    assert f"[Index]({home}README.md), [next](02_train.ipynb#work)" in title.source
    other = f"{up}notebooks/vessels/a.md" if folder else f"{up}vessels/a.md"
    assert f"[other]({other}#b), [web](https://x.org/README.md), [here](#work)" in title.source
    assert [set(output.get("data", {})) for output in code.outputs] == [{"image/png", "text/plain"}]
    assert dict(code.metadata) == {"tags": ["report", "cover"]}
    text = paths[0].read_text()
    assert not [
        word for word in ("papermill", "/home/me", WIDGET, "widgets", "progress") if word in text
    ]
    with Image.open(docs / "figures" / folder / "01_look.png") as small:
        assert small.size == (640, 160)
    # the run stays as it was
    assert nbformat.read(run / "notebooks" / "01_look.ipynb", as_version=4).metadata.papermill


def notebook_of(code, *, words="# Title", outputs=()):
    parameters = new_code_cell("run_dir = 1", metadata={"tags": ["parameters"]})
    cells = [new_markdown_cell(words), parameters, new_code_cell(code, outputs=list(outputs))]
    return new_notebook(cells=cells)


def test_the_hash_changes_with_the_code_alone():
    before = gallery.code_hash(notebook_of("draw()"))
    shown = new_output("stream", text="shown")
    assert gallery.code_hash(notebook_of("draw()", words="# Other", outputs=[shown])) == before
    assert gallery.code_hash(notebook_of("draw(1)")) != before
    moved = notebook_of("draw()")
    moved.cells.reverse()
    assert gallery.code_hash(moved) != before
    run = notebook_of("draw()")
    run.cells.insert(2, new_code_cell("run_dir = 2", metadata={"tags": [INJECTED]}))
    assert gallery.code_hash(run) == before


@pytest.mark.parametrize("folder", ["", "hearts"])
def test_copies_are_stale_once_the_code_of_their_notebooks_changes(run, tmp_path, folder):
    docs, notebooks = tmp_path / "docs", tmp_path / "notebooks"
    (notebooks / folder).mkdir(parents=True)
    assert gallery.stale_copies(docs, notebooks) == []
    gallery.write_gallery(run, docs, stages=STAGES, folder=folder)
    prefix = f"{folder}/" if folder else ""
    for name, code in (("01_look", "draw()"), ("02_train", "draw(2)")):
        nbformat.write(notebook_of(code), notebooks / folder / f"{name}.ipynb")
    assert gallery.stale_copies(docs, notebooks) == [f"{prefix}02_train"]
    (notebooks / folder / "01_look.ipynb").unlink()
    assert gallery.stale_copies(docs, notebooks) == [f"{prefix}01_look", f"{prefix}02_train"]


def test_the_command_names_stale_copies_and_is_content(tmp_path, monkeypatch, capsys):
    (tmp_path / "Snakefile").touch()
    monkeypatch.chdir(tmp_path)
    write_json({"01_look": "0"}, tmp_path / "docs" / "executed" / "hearts" / gallery.SOURCES)
    gallery.main([])
    words = "Stale: docs/executed/hearts/01_look.ipynb. Its notebook's code has changed since.\n"
    assert capsys.readouterr().out == words


def change(run, name, edit):
    path = run / "notebooks" / f"{name}.ipynb"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def test_what_cannot_be_shown_is_refused_with_a_sentence(run, tmp_path):
    def huge(content):
        content["cells"][3]["outputs"][1]["data"]["text/plain"] = "x" * gallery.MAX_BYTES

    def failed(content):
        content["cells"][3]["metadata"]["papermill"]["exception"] = True

    def shows(content, png):
        content["cells"][3]["outputs"][1]["data"] = {"image/png": png}

    def refused(match):
        with pytest.raises(PipelineError, match=match):
            gallery.write_gallery(run, tmp_path / "docs", stages=STAGES)

    change(run, "02_train", lambda content: content["cells"][3]["metadata"].update(tags=[]))
    refused("02_train has no picture for the index: give the tag 'cover' to a cell")
    svg = {"image/svg+xml": "<svg/>"}
    change(run, "01_look", lambda content: content["cells"][3]["outputs"][1].update(data=svg))
    refused("01_look has no picture for the index")
    for damaged in ("iVBOR", "aGVsbG8gd29ybGQ="):  # no base64, no picture
        change(run, "01_look", partial(shows, png=damaged))
        refused(r"picture of 01_look for the index is damaged \(.+\): run the notebook again")
    change(run, "01_look", huge)
    refused(r"copy of 01_look has [\d,]+ bytes, more than 1,500,000: show fewer")
    change(run, "01_look", failed)
    refused(r"01_look stopped in cell.*make demo again")
    (run / "notebooks" / "01_look.ipynb").unlink()
    refused("is not there")


def test_a_run_on_scans_is_not_published(run, tmp_path):
    write_table(
        pd.DataFrame({"series": ["a"]}),
        run / "train" / "patients.parquet",
        provenance={"data": "scans"},
    )
    with pytest.raises(PipelineError, match="does not show phantoms: only these may be published"):
        gallery.write_gallery(run, tmp_path / "docs", stages=STAGES)
    assert not (tmp_path / "docs").exists()


def test_the_command_says_what_is_wrong_in_one_line(tmp_path):
    with pytest.raises(SystemExit, match=r"\(a run\) is not there: run make demo first"):
        gallery.main([str(tmp_path / "none")])
