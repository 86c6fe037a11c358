"""Executed notebooks, as papermill leaves them.

How long they took, with which parameters, where they failed, what there is to see.
"""

from __future__ import annotations

import ast
import base64
import json
import re
import warnings
from collections.abc import Mapping
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import mistune
import nbformat
from nbformat import NotebookNode

from t4e_utils import printable
from t4e_utils.files import atomic_write, open_file
from t4e_utils.workflow import PipelineError

REPORT_TAG = "report"  # cells whose pictures the report shows
IMAGE_TYPES = ("image/png", "image/jpeg", "image/svg+xml")  # the first that an output has is shown
# what a page may show of an output, the first that it has; all else is passed over
SHOWN_TYPES = ("text/html", "text/markdown", *IMAGE_TYPES, "text/plain")
# shown by a script that needs a kernel; reports have neither
WIDGET_TYPE = "application/vnd.jupyter.widget-view+json"
NO_SCRIPTS = (
    '<meta http-equiv="Content-Security-Policy" '
    "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'; font-src data:\">"
)
# what nbconvert's own words have beside the tags and attributes that nh3 takes for safe
MORE_TAGS = {"tfoot"}
ATTRIBUTES_OF_ALL = {"border", "class", "id", "title"}
to_html_text = mistune.create_markdown(escape=True)


class Shown(NamedTuple):
    """Pictures of one cell, with the words above it."""

    caption: str  # safe HTML
    images: list[str]  # data URIs


class Parameter(NamedTuple):
    """A parameter of an executed notebook."""

    name: str
    value: object
    is_given: bool  # by the caller; otherwise the notebook's default
    help: str  # the comment beside it


def read(path: Path) -> NotebookNode:
    """Read an executed copy.

    Raises:
        PipelineError: it is missing or no notebook.
    """
    wrong: dict[str, Exception] = {}
    try:
        with open_file(path) as file:
            text = file.read().decode("utf-8-sig")
        if "\\ud" in text.lower():  # halves of letters, which no page can hold
            whole = json.dumps(json.loads(text), ensure_ascii=False)
            text = whole.encode(errors="replace").decode()
        with warnings.catch_warnings(action="ignore"):  # cells without an id get one
            notebook = nbformat.reads(text, as_version=4, capture_validation_error=wrong)
    except FileNotFoundError as error:
        raise PipelineError(f"{path} is not there: the notebook has not started.") from error
    except Exception as error:  # nbformat has errors of many kinds, above all for older versions
        wrong["ValidationError"] = error
    if wrong:
        (error,) = wrong.values()
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise PipelineError(f"{path} is no complete notebook ({reason}): run it again.") from error
    return notebook


def _noted(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what papermill notes of a notebook or a cell."""
    found = metadata.get("papermill")
    return found if isinstance(found, Mapping) else {}


def span(notebook: NotebookNode) -> tuple[datetime, datetime] | None:
    """Return when the notebook began and ended, or nothing where that is not recorded.

    A time without a zone is in UTC, as old versions of papermill write it.
    """
    noted = _noted(notebook.metadata)
    try:
        begin, end = (datetime.fromisoformat(noted[name]) for name in ("start_time", "end_time"))
    except (LookupError, TypeError, ValueError):
        return None
    begin, end = (time if time.tzinfo else time.replace(tzinfo=UTC) for time in (begin, end))
    return (begin, end) if begin <= end else None


def seconds_covered(spans: list[tuple[datetime, datetime]]) -> float:
    """Return for how many seconds at least one of the spans was running.

    Side by side counts once, pauses do not count.
    """
    covered, reached = 0.0, None
    for begin, end in sorted(spans):
        begin = begin if reached is None else max(begin, reached)
        covered += max(0.0, (end - begin).total_seconds())
        reached = end if reached is None else max(end, reached)
    return covered


def parameters_used(path: Path) -> list[Parameter]:
    """Return the parameters of an executed copy, in their order, with the values it ran with.

    Raises:
        PipelineError: papermill cannot tell them.
    """
    from papermill import inspect_notebook

    notebook = read(path)
    given = _noted(notebook.metadata).get("parameters")
    given = given if isinstance(given, Mapping) else {}
    try:
        declared = inspect_notebook(notebook)  # not by its path, in which braces have a meaning
    except Exception as error:  # papermill and its translators have errors of many kinds
        raise PipelineError(
            f"{path} does not say its parameters ({error}): run it again."
        ) from error
    return [
        Parameter(name, given.get(name, literal(about["default"])), name in given, about["help"])
        for name, about in declared.items()
    ]


def literal(source: str) -> object:
    """Return the value of a literal, or its source where it is more than a literal."""
    try:
        return ast.literal_eval(source)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return source


def failure(path: Path) -> str:
    """Say where and why an executed copy stopped, in one sentence; "" if it ran to its end."""
    notebook, heading, stopped = read(path), "", None
    is_unfinished = any(_noted(cell.metadata).get("duration", 0) is None for cell in notebook.cells)
    for number, cell in enumerate(notebook.cells, start=1):
        heading = heading_of(cell) or heading
        status = _noted(cell.metadata)
        if status.get("exception") or (is_unfinished and status.get("start_time")):
            name = (
                f"In [{cell.execution_count}]"
                if cell.get("execution_count")
                else f"number {number}"
            )
            stopped = (
                f"{path.stem} stopped in cell {name}"
                + (f' under "{heading}"' if heading else "")
                + f": {_reason(cell)}"
            )
        if status.get("exception"):
            break
    return printable(stopped or "")


def _reason(cell: NotebookNode) -> str:
    errors = [output for output in cell.get("outputs", []) if output.output_type == "error"]
    if not errors:
        return (
            "no message is there, so it is still running, or was killed, perhaps for lack "
            "of memory."
        )
    message = re.sub(r"\x1b\[[0-9;]*m", "", str(errors[-1].evalue)).strip()
    return f"{errors[-1].ename}: {message}" + ("" if message.endswith((".", "!", "?")) else ".")


def without_widgets(notebook: NotebookNode) -> NotebookNode:
    """Return a copy in which a widget is what it gives pages without a kernel.

    Its still picture or its text.
    """
    copy = deepcopy(notebook)
    copy.metadata.pop("widgets", None)
    for cell in copy.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET_TYPE, None)
    return copy


def title_of(notebook: NotebookNode) -> str:
    """Return the first heading of a notebook, "" if there is none."""
    return next((heading for cell in notebook.cells if (heading := heading_of(cell))), "")


def heading_of(cell: NotebookNode) -> str:
    """Return the last heading of a markdown cell without its marks, "" if there is none."""
    is_text = cell.cell_type == "markdown" and "papermill-error-cell-tag" not in cell.metadata.get(
        "tags", []
    )
    found = re.findall(r"^#{1,6}\s+(.+?)\s*#*$", cell.source, flags=re.MULTILINE) if is_text else []
    return found[-1] if found else ""


def tagged_pictures(notebook: NotebookNode, *, tag: str = REPORT_TAG) -> list[Shown]:
    """Return the pictures of the code cells with a tag, each with the nearest text above it."""
    shown, caption = [], ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            caption = re.sub(r"^#{1,6}\s.*$", "", cell.source, flags=re.MULTILINE).strip()
        elif tag in cell.metadata.get("tags", []):
            images = [uri for output in cell.get("outputs", []) if (uri := _data_uri(output))]
            if images:
                shown.append(Shown(clean_html(to_html_text(caption)), images))
    return shown


def _data_uri(output: NotebookNode) -> str:
    data = output.get("data", {})
    kind = next((kind for kind in IMAGE_TYPES if kind in data), None)
    if kind is None:
        return ""
    content = data[kind] if isinstance(data[kind], str) else "".join(data[kind])
    if kind == "image/svg+xml":
        content = base64.b64encode(content.encode()).decode()
    return f"data:{kind};base64,{''.join(content.split())}"


def clean_html(source: str | bytes) -> str:
    """Keep what text, tables and pictures are made of.

    Scripts and styles are dropped with what they hold; of any other tag the words inside it stay.
    Without styles a page looks the same wherever its words came from.
    """
    import nh3  # here, since Kaggle's image lacks it and its notebooks clean nothing

    return nh3.clean(
        source.decode() if isinstance(source, bytes) else str(source),
        tags=nh3.ALLOWED_TAGS | MORE_TAGS,
        attributes={**nh3.ALLOWED_ATTRIBUTES, "*": ATTRIBUTES_OF_ALL},
        attribute_filter=_safe_value,
        url_schemes={"http", "https", "mailto", "data"},
        link_rel=None,
    )


def _safe_value(tag: str, name: str, value: str) -> str | None:
    """Return an attribute's value; None where it is a picture from elsewhere or a page as a link.

    Browsers skip blanks and control characters in addresses.
    """
    address = "".join(letter for letter in value if letter > " ").lower()
    is_refused = {"src": not address.startswith("data:image/"), "href": address.startswith("data:")}
    return None if is_refused.get(name) else value


def safe_copy(notebook: NotebookNode) -> NotebookNode:
    """Return a copy that holds nothing but words, code and outputs of types that are known.

    It is made of what is named here, so what is not named cannot reach a page: metadata, which
    become attributes, and the types of outputs that bring their own markup.
    """
    cells = []
    for number, cell in enumerate(notebook.cells):
        kept = {"source": cell.source, "id": cell.get("id", f"cell-{number}")}
        if cell.cell_type == "markdown":
            attached = {"attachments": cell.attachments} if "attachments" in cell else {}
            cells.append(nbformat.v4.new_markdown_cell(**kept, **attached))
        elif cell.cell_type == "code":
            kept["execution_count"] = cell.execution_count
            outputs = [_safe_output(output) for output in cell.outputs]
            cells.append(nbformat.v4.new_code_cell(**kept, outputs=outputs))
    language = {"name": "python", "pygments_lexer": "ipython3"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"language_info": language})


def _safe_output(output: NotebookNode) -> NotebookNode:
    kind, made = output.output_type, nbformat.v4.new_output
    if kind == "stream":
        return made(kind, name="stderr" if output.name == "stderr" else "stdout", text=output.text)
    if kind == "error":
        said = output.traceback or [f"{output.ename}: {output.evalue}"]
        return made(kind, ename=output.ename, evalue=output.evalue, traceback=said)
    shown = next((name for name in SHOWN_TYPES if name in output.data), None)
    content = output.data.get(shown)
    if shown == "image/svg+xml":  # as a picture: what it holds cannot act in it
        shown, content = "text/html", f'<img src="{_data_uri(output)}">'
    if shown is None:
        names = ", ".join(map(printable, output.data)) or "no type"
        shown, content = "text/plain", f"An output that a page cannot show ({names})."
    count = {"execution_count": output.execution_count} if kind == "execute_result" else {}
    return made(kind, data={shown: content}, **count)


def write_html(path: Path, target: Path, *, title: str) -> Path:
    """Write an executed copy as one HTML page without scripts, with links to others beside it.

    Raises:
        PipelineError: it is no notebook, or cannot be shown.
    """
    from nbconvert import HTMLExporter

    notebook, filters = safe_copy(read(path)), {"clean_html": clean_html}
    try:
        exporter = HTMLExporter(sanitize_html=True, theme="light", filters=filters)
        page, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"name": title}})
    except Exception as error:  # of the template, of markdown, of the lexer
        raise PipelineError(f"{path} cannot be shown ({error}): open it in Jupyter.") from error
    page = re.sub(r"<script\b.*?</script>", "", page, flags=re.DOTALL | re.IGNORECASE)
    page = re.sub(r'href="([\w-]+)\.ipynb"', r'href="\1.html"', page).replace(
        'href="README.md"', 'href="../index.html"'
    )
    page = page.replace("<head>", f"<head>{NO_SCRIPTS}", 1)
    with atomic_write(target) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")
    return target
