"""The order of the rooms: imports point one way, and nobody pays for a library that is not used."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "t4e_utils"
# The way of a scan. A room may import only rooms that stand before it.
ORDER = [
    "files",
    "progress",
    "scans",
    "annotations",
    "metrics",
    "tables",
    "phantoms",
    "sampling",
    "learning",
    "prediction",
    "figures",
    "workflow",
    "competitions",
]
NETWORKS = {"torch", "torchvision", "timm", "segmentation_models_pytorch", "accelerate"}
NETWORKS |= {"albumentations", "safetensors"}
WITH_NETWORKS = {"learning", "prediction", "competitions"}
# What belongs to one competition, and to heads that are drawn.
FACTS = re.compile(
    r"\b(FLAIR|T1w|T1wCE|T2w|WT|ET|wt|et|BraTS\w*|brats\w*|RSNA\w*|rsna\w*|MGMT\w*|MICCAI)\b"
    r"|_(wt|et|brats|rsna)\b|\b(wt|et|brats|rsna)_|brain|methylated",
    re.IGNORECASE,
)


def imported(path: Path) -> set[str]:
    """Every module that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write imports in full"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def leaf_of(name: str) -> str:
    """The competition of a module, as in `t4e_utils.competitions.brain_tumor.data`."""
    return name.split(".")[2] if name.startswith("t4e_utils.competitions.") else ""


FILES = sorted(path for path in PACKAGE.rglob("*.py") if room_of(path) != "__init__")
every_file = pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))


def test_every_room_has_its_place_in_the_order():
    assert {room_of(path) for path in FILES} == set(ORDER)


@every_file
def test_a_room_imports_only_rooms_before_it(path):
    used = {name.split(".")[1] for name in imported(path) if name.startswith("t4e_utils.")}
    allowed = ORDER[: ORDER.index(room_of(path)) + 1]
    assert (used & set(ORDER)) <= set(allowed)


@every_file
def test_networks_and_pictures_stay_in_their_rooms(path):
    tops, room = {name.split(".")[0] for name in imported(path)}, room_of(path)
    rooms = {name.split(".")[1] for name in imported(path) if name.startswith("t4e_utils.")}
    assert room in WITH_NETWORKS or not tops & NETWORKS
    assert room in ("figures", "competitions") or "matplotlib" not in tops
    assert room != "figures" or not rooms & {"learning", "prediction"}


@every_file
def test_a_competition_is_imported_by_itself_alone(path):
    own = path.relative_to(PACKAGE).parts[1] if room_of(path) == "competitions" else ""
    assert {leaf_of(name) for name in imported(path)} <= {"", own}


def test_inside_a_room_no_two_modules_import_each_other():
    graph = {
        "t4e_utils." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts): imported(path)
        for path in FILES
    }
    graph = {
        name: {
            other
            for other in graph
            if other in used or any(u.startswith(f"{other}.") for u in used)
        }
        for name, used in graph.items()
    }
    while free := {name for name, used in graph.items() if not used & set(graph) - {name}}:
        graph = {name: used for name, used in graph.items() if name not in free}
    assert not graph


def code_of(path: Path) -> str:
    """The source of a module without docstrings and comments."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        first = body[0] if isinstance(body, list) and body else None
        text = first.value if isinstance(first, ast.Expr) else None
        if isinstance(text, ast.Constant) and isinstance(text.value, str):
            body[0] = ast.Pass()
    return ast.unparse(tree)


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in FILES
        if room_of(path) != "competitions" and not path.stem.startswith("head")
    ],
    ids=lambda p: str(p.relative_to(PACKAGE)),
)
def test_no_fact_of_one_competition_stands_in_a_room(path):
    assert not FACTS.findall(code_of(path))


@every_file
def test_a_module_is_short_and_so_are_its_functions(path):
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 350
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            has_docstring = ast.get_docstring(node) is not None
            first = node.body[1 if has_docstring and len(node.body) > 1 else 0]
            assert node.end_lineno - first.lineno + 1 <= 40, node.name


def loaded_by(code: str) -> set[str]:
    code = f"import sys; {code}; print(' '.join({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    return set(done.stdout.split())


def test_importing_the_package_imports_nothing_else():
    own = loaded_by("import t4e_utils") - sys.stdlib_module_names - {"t4e_utils"}
    assert own == loaded_by("pass") - sys.stdlib_module_names


def modules_of(*rooms: str) -> str:
    names = [
        ".".join(("t4e_utils", *path.relative_to(PACKAGE).with_suffix("").parts))
        for path in FILES
        if room_of(path) in rooms and path.stem != "__init__"
    ]
    return ", ".join(names)


def test_scans_tables_pictures_and_reports_work_without_the_libraries_of_networks():
    rooms = [room for room in ORDER if room not in WITH_NETWORKS]
    assert not loaded_by(f"import {modules_of(*rooms)}") & NETWORKS


def test_only_pictures_load_the_library_that_draws_them():
    rooms = [room for room in ORDER if room not in {*WITH_NETWORKS, "figures"}]
    assert "matplotlib" not in loaded_by(f"import {modules_of(*rooms)}")
