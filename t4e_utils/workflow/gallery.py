"""Executed notebooks for people who read and do not run: copies of a demo run, and their pictures.

`python -m t4e_utils.workflow.gallery RUN_DIR [--collection NAME]` writes `docs/executed/*.ipynb`
and `docs/figures/*.png`; all collections but the first one have a folder NAME there. Only runs on
phantoms are taken: pictures of scans are not ours to publish. Copies stay small because pictures
are drawn with a palette (`figures.style.small_png`).

`sources.json` beside the copies holds a hash of the code that they ran. By it `stale_copies` names
those whose notebooks have changed since; without RUN_DIR the command only does that.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import os
import re
from collections.abc import Mapping
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from PIL import Image

from t4e_utils import T4EError, printable
from t4e_utils.tables.run import project_root, require_folder
from t4e_utils.tables.store import read_json, write_json
from t4e_utils.workflow import PipelineError, executed
from t4e_utils.workflow.collection import open_collection
from t4e_utils.workflow.plan import Stage
from t4e_utils.workflow.report import data_kind

COVER_TAG = "cover"  # of the cell whose picture stands for its notebook
SOURCES = "sources.json"
MAX_BYTES = 1_500_000  # of a copy; GitHub renders larger ones slowly or not at all
WIDTH = 640  # pixels of a picture in the index
NOTE = (
    "**These patients are phantoms, drawn by a program: no scan is shown here, and no figure "
    "says anything about patients.** "
    "This is the executed copy of [{name}]({link}) from the demo, made by `make gallery`."
)


def write_gallery(
    run_dir: str | Path, docs: Path, *, stages: Mapping[str, Stage], folder: str = ""
) -> list[Path]:
    """Write the executed copies of a demo run and their pictures.

    Args:
        run_dir: of the demo.
        docs: the copies go to `executed/`, their pictures to `figures/`; notebooks are beside it.
        stages: of the collection.
        folder: of the collection below `executed/`, `figures/` and the notebooks' folder.

    Returns:
        The copies.

    Raises:
        MissingInputError: the run's folder is not there.
        PipelineError: a notebook of the run is not there or failed, the run shows scans, a copy is
            too large, or a notebook has no picture tagged `cover`.
    """
    how = "run make demo first, or give the run_dir of another run on phantoms"
    run = require_folder(run_dir, what="a run", how=how)
    if data_kind(run) != "phantoms":
        raise PipelineError(
            f"The run {run.name} does not show phantoms: only these may be published, so give "
            "the run_dir of a demo."
        )
    copies, pictures, hashes = docs / "executed" / folder, docs / "figures" / folder, {}
    for name in (stage.notebook for stage in stages.values()):
        path = run / "notebooks" / f"{name}.ipynb"
        if sentence := executed.failure(path):
            raise PipelineError(f"{sentence} Run make demo again before the gallery.")
        notebook = executed.read(path)
        hashes[name] = code_hash(notebook)
        shown = readable(notebook, docs.parent / "notebooks" / folder / path.name, copies)
        text = nbformat.writes(shown).replace(f"{project_root()}/", "")
        if len(text.encode()) > MAX_BYTES:
            raise PipelineError(
                f"The copy of {name} has {len(text.encode()):,} bytes, more than "
                f"{MAX_BYTES:,}: show fewer or smaller pictures in it."
            )
        copies.mkdir(parents=True, exist_ok=True)
        (copies / path.name).write_text(text + "\n", encoding="utf-8")
        write_cover(notebook, pictures / f"{name}.png")
    write_json(hashes, copies / SOURCES)
    return [copies / f"{name}.ipynb" for name in hashes]


def readable(notebook: NotebookNode, source: Path, folder: Path) -> NotebookNode:
    """Return a copy with a note on top and without what only a machine reads.

    Timings, widgets and progress bars are left out; links lead where those of the notebook do.

    Args:
        notebook: as it was executed.
        source: the notebook it is a copy of.
        folder: of the copy; links to notebooks beside the source stay, their copies are there.
    """
    copy = executed.without_widgets(notebook)
    copy.metadata.pop("papermill", None)

    def moved(found: re.Match) -> str:
        return f"]({os.path.relpath(source.parent / found[1], folder)}"

    for cell in copy.cells:
        tags = cell.metadata.get("tags", [])
        cell.metadata = NotebookNode({"tags": tags} if tags else {})
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"\]\((?![\w-]+\.ipynb)([^)#:]+)(?=[#)])", moved, cell.source)
        elif cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    link = os.path.relpath(source, folder)
    note = nbformat.v4.new_markdown_cell(NOTE.format(name=source.stem, link=link), id="note")
    copy.cells.insert(0, note)
    return copy


def write_cover(notebook: NotebookNode, path: Path) -> Path:
    """Write the picture of the cell tagged `cover`: a PNG of at most `WIDTH` pixels, 256 colours.

    Raises:
        PipelineError: there is no such cell, or no picture in it, or a damaged one.
    """
    shown = executed.tagged_pictures(notebook, tag=COVER_TAG)
    kind, _, content = shown[0].images[0].partition(",") if shown else ("", "", "")
    if not kind.startswith("data:image/png"):
        raise PipelineError(
            f"{path.stem} has no picture for the index: give the tag {COVER_TAG!r} to a cell that "
            "draws one as a PNG."
        )
    try:
        with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
            small = picture.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PipelineError(
            f"The picture of {path.stem} for the index is damaged ({error}): run the notebook "
            "again."
        ) from error
    small.thumbnail((WIDTH, 10 * WIDTH))
    path.parent.mkdir(parents=True, exist_ok=True)
    # small regions keep their colours, which the median cut gives away
    small.quantize(256, Image.Quantize.MAXCOVERAGE).save(path, optimize=True)
    return path


def code_hash(notebook: NotebookNode) -> str:
    """Return 16 hexadecimal digits that change with the code of a notebook.

    Words, outputs and the cell that papermill adds have no part in it, so that an executed copy has
    the hash of its notebook.
    """
    digest = hashlib.sha256()
    for cell in notebook.cells:
        if cell.cell_type == "code" and "injected-parameters" not in cell.metadata.get("tags", []):
            digest.update(cell.source.strip().encode() + b"\0")
    return digest.hexdigest()[:16]


def stale_copies(docs: Path, notebooks: Path) -> list[str]:
    """Return the copies whose notebooks have other code now, or are gone, such as "vessels/01_eda".

    Args:
        docs: with `executed/`.
        notebooks: folder of the notebooks, of the same structure as `executed/`.
    """
    executed_folder, stale = docs / "executed", []
    for path in sorted(executed_folder.rglob(SOURCES)):
        folder = path.parent.relative_to(executed_folder)
        for name, before in read_json(path, made_by="make gallery").items():
            source = notebooks / folder / f"{name}.ipynb"
            if not source.is_file() or code_hash(executed.read(source)) != before:
                stale.append((folder / name).as_posix())
    return stale


def main(arguments: list[str] | None = None) -> None:
    """Write the gallery of the run named on the command line, and name copies that are stale."""
    parser = argparse.ArgumentParser(
        prog="python -m t4e_utils.workflow.gallery",
        description="Write executed copies of a demo run for readers; name those that are stale.",
    )
    parser.add_argument("run_dir", nargs="?", help="folder of the run, such as runs/demo")
    parser.add_argument("--collection", default="", help="the notebooks' collection")
    asked, root, written = parser.parse_args(arguments), project_root(), []
    try:
        collection = open_collection(asked.collection)
        if asked.run_dir:
            written = write_gallery(
                asked.run_dir, root / "docs", stages=collection.stages, folder=collection.folder
            )
        stale = stale_copies(root / "docs", root / "notebooks")
    except T4EError as error:
        raise SystemExit(str(error)) from None
    for path in written:
        print(printable(f"{path.stat().st_size / 1e6:.2f} MB  {path}"))
    for name in stale:
        print(f"Stale: docs/executed/{name}.ipynb. Its notebook's code has changed since.")


if __name__ == "__main__":
    main()
