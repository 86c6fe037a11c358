"""Executed notebooks for people who read and do not run.

The copies of a demo run, and a picture of each for the index.

`python -m t4e_utils.workflow.gallery RUN_DIR` writes `docs/executed/*.ipynb` and `docs/figures/0*.png`. Only
runs on phantoms are taken: pictures of scans are not ours to publish. Copies stay small because
pictures are drawn with a palette (`figures.style.small_png`).
"""

from __future__ import annotations

import argparse
import base64
import io
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from PIL import Image

from t4e_utils import T4EError
from t4e_utils.tables.run import project_root, require_folder
from t4e_utils.workflow import executed
from t4e_utils.workflow.plan import NOTEBOOKS
from t4e_utils.workflow.report import data_kind

MAX_BYTES = 1_500_000  # of a copy; GitHub renders larger ones slowly or not at all
WIDTH = 640  # pixels of a picture in the index
# the cell whose picture stands for its notebook
PICTURES = {
    "01_eda": "01-12",
    "02_seg_data": "02-15b",
    "03_train_seg": "03-22",
    "04_cls_data": "04-17",
    "05_train_cls": "05-22",
    "06_submission": "06-12",
}
NOTE = (
    "**These patients are phantoms, drawn by a program: no scan is shown here, and no figure "
    "says anything about patients.** "
    "This is the executed copy of [{name}](../../notebooks/{name}.ipynb) from the demo, made "
    "by `make gallery`."
)


class GalleryError(T4EError):
    """A run cannot be shown."""


def write_gallery(run_dir: str | Path, docs: Path) -> list[Path]:
    """Write the executed copies of a demo run to `docs/executed` and their pictures to
    `docs/figures`; return the copies.

    Raises:
        MissingInputError: the run's folder is not there.
        ExecutedNotebookError: a notebook of the run is not there.
        GalleryError: the run shows scans, a notebook failed, or a copy is too large.
    """
    run = require_folder(
        run_dir,
        what="a run",
        how="run make demo first, or give the run_dir of another run on phantoms",
    )
    if data_kind(run) != "phantoms":
        raise GalleryError(
            f"The run {run.name} does not show phantoms: only these may be published, so give "
            "the run_dir of a demo."
        )
    written = []
    for name in NOTEBOOKS.values():
        path = run / "notebooks" / f"{name}.ipynb"
        if sentence := executed.failure(path):
            raise GalleryError(f"{sentence} Run make demo again before the gallery.")
        notebook = executed.read(path)
        text = nbformat.writes(readable(notebook, name)).replace(f"{project_root()}/", "")
        if len(text.encode()) > MAX_BYTES:
            raise GalleryError(
                f"The copy of {name} has {len(text.encode()):,} bytes, more than "
                f"{MAX_BYTES:,}: show fewer or smaller pictures in it."
            )
        written.append(docs / "executed" / f"{name}.ipynb")
        written[-1].parent.mkdir(parents=True, exist_ok=True)
        written[-1].write_text(text + "\n", encoding="utf-8")
        write_picture(notebook, PICTURES[name], docs / "figures" / f"{name}.png")
    return written


def readable(notebook: NotebookNode, name: str) -> NotebookNode:
    """Return a copy with a note on top and without what only a machine reads.

    Timings, widgets, progress bars.
    """
    copy = executed.without_widgets(notebook)
    copy.metadata.pop("papermill", None)
    for cell in copy.cells:
        tags = cell.metadata.get("tags", [])
        cell.metadata = NotebookNode({"tags": tags} if tags else {})
        cell.source = (
            cell.source.replace("](README.md)", "](../../notebooks/README.md)")
            if cell.cell_type == "markdown"
            else cell.source
        )
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    note = nbformat.v4.new_markdown_cell(NOTE.format(name=name))
    note.id = "note"
    copy.cells.insert(0, note)
    return copy


def write_picture(notebook: NotebookNode, cell_id: str, path: Path) -> Path:
    """Write the first picture of a cell as a PNG of at most `WIDTH` pixels and 64 colours.

    Raises:
        GalleryError: there is no such cell, or no picture in it.
    """
    found = [
        output.data["image/png"]
        for cell in notebook.cells
        if cell.id == cell_id
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    if not found:
        raise GalleryError(
            f"Cell {cell_id} of {path.stem} shows no picture for the index: name another one "
            "in PICTURES of t4e_utils/gallery.py."
        )
    with Image.open(io.BytesIO(base64.b64decode("".join(found[0])))) as picture:
        small = picture.convert("RGB")
    small.thumbnail((WIDTH, 10 * WIDTH))
    path.parent.mkdir(parents=True, exist_ok=True)
    small.quantize(64).save(path, optimize=True)
    return path


def main(arguments: list[str] | None = None) -> None:
    """Write the gallery of the run named on the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m t4e_utils.workflow.gallery",
        description="Write executed copies of a demo run for readers.",
    )
    parser.add_argument("run_dir", help="folder of the run, such as runs/demo")
    try:
        written = write_gallery(parser.parse_args(arguments).run_dir, project_root() / "docs")
    except T4EError as error:
        raise SystemExit(str(error)) from None
    for path in written:
        print(f"{path.stat().st_size / 1e6:.2f} MB  {path}")


if __name__ == "__main__":
    main()
