"""Imports point down only, and nobody pays for a heavy library that they do not use."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "t4e_utils"
# From the bottom up; a module may import what stands above it in this list, in its own layer too,
# and nothing below.
LAYERS = {
    "numbers": ["geometry", "intensity", "metrics"],
    "scans": [
        "files",
        "problems",
        "stacks",
        "decoding",
        "dicom_headers",
        "dicom",
        "dicom_writing",
        "nifti",
        "volumes",
        "annotations",
        "sampling",
        "phantom_anatomy",
        "phantom_scans",
        "phantoms",
        "synthetic_heads",
    ],
    "tables and tensors": ["runs", "catalog", "folds", "preparation", "datasets"],
    "learning": [
        "processes",
        "weights",
        "losses",
        "models",
        "checkpoints",
        "training_plan",
        "batches",
        "training",
        "cards",
        "inference",
        "segmentation",
        "classification",
        "fusion",
        "sequences",
        "prediction",
        "ensemble",
    ],
    "outside": [
        "submission",
        "kaggle_bundle",
        "executed",
        "notebook_script",
        "run_lock",
        "gpus",
        "pipeline",
        "report",
        "gallery",
        "download",
        "figures",
        "competitions",
    ],
}
ORDER = [module for layer in LAYERS.values() for module in layer]
HEAVY = {
    "torch",
    "torchvision",
    "timm",
    "segmentation_models_pytorch",
    "albumentations",
    "accelerate",
    "matplotlib",
    "skimage",
    "sklearn",
}
LEARNING = HEAVY - {"matplotlib", "skimage", "sklearn"}
WITHOUT_LEARNING = [
    "runs",
    "catalog",
    "preparation",
    "submission",
    "figures.scans",
    "figures.cohort",
    "competitions.brain_tumor",
    "executed",
    "run_lock",
    "pipeline",
    "report",
]


def imported(path: Path) -> set[str]:
    """Every module that a file imports, anywhere in it: `t4e_utils.x` for the package's own."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write imports in full"
            found |= (
                {f"{node.module}.{alias.name}" for alias in node.names}
                if node.module == PACKAGE.name
                else {node.module}
            )
    return found


def part_of(path: Path) -> str:
    """The module, or the folder of modules, that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = sorted(path for path in PACKAGE.rglob("*.py") if part_of(path) != "__init__")


def test_every_module_has_its_place_in_the_layers():
    assert {part_of(path) for path in FILES} == set(ORDER)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    own = part_of(path)
    used = {name.split(".")[1] for name in imported(path) if name.startswith("t4e_utils.")} & set(
        ORDER
    )
    wrong = {name for name in used if ORDER.index(name) > ORDER.index(own)}
    assert not wrong, f"{own} imports {sorted(wrong)}, which stand above it"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_libraries_stay_where_they_belong(path):
    tops = {name.split(".")[0] for name in imported(path)}
    learning = [*LAYERS["learning"], "datasets"]
    assert part_of(path) == "figures" or "matplotlib" not in tops, (
        "pictures are drawn in figures/ only"
    )
    assert part_of(path) in learning or not tops & LEARNING, (
        "networks live in datasets and in the layer of learning only"
    )
    assert part_of(path) not in LAYERS["numbers"] or tops <= {
        "__future__",
        "numpy",
        "scipy",
        "t4e_utils",
        *sys.stdlib_module_names,
    }


def test_a_competition_is_imported_by_no_module():
    assert not [
        path
        for path in FILES
        if part_of(path) != "competitions"
        and any("competitions" in name for name in imported(path))
    ]


def loaded_by(code: str) -> set[str]:
    code = f"import sys; {code}; print(' '.join({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    return set(done.stdout.split())


def test_importing_the_package_imports_nothing_else():
    assert (
        loaded_by("import t4e_utils") - sys.stdlib_module_names - {"t4e_utils"}
        == loaded_by("pass") - sys.stdlib_module_names
    )


def test_scans_tables_pictures_and_reports_work_without_the_libraries_of_networks():
    modules = ", ".join(f"t4e_utils.{name}" for name in WITHOUT_LEARNING)
    assert not loaded_by(f"import {modules}") & LEARNING


def test_only_pictures_load_the_library_that_draws_them():
    modules = ", ".join(
        f"t4e_utils.{name}" for name in WITHOUT_LEARNING if not name.startswith("figures")
    )
    assert not loaded_by(f"import {modules}") & {"matplotlib", "skimage", "sklearn"}
