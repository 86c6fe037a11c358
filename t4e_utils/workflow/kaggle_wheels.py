"""The wheels that a submission on Kaggle needs: this package, and what Kaggle's image lacks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from t4e_utils.workflow import PipelineError

KAGGLE_PYTHON = "312"
KAGGLE_PLATFORMS = (
    "manylinux_2_28_x86_64",
    "manylinux_2_27_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux2014_x86_64",
    "any",
)
KAGGLE_LACKS = ("segmentation-models-pytorch", "python-gdcm")
PACKAGE_FILES = ("pyproject.toml", "README.md", "LICENSE", "requirements.txt", "t4e_utils")


def build_package(project: Path, folder: Path) -> Path:
    """Build this package's wheel from a copy of its sources, without network.

    Links among them are left out: they may lead anywhere. Wheels of other versions are removed.

    Raises:
        PipelineError: pip refuses.
    """
    for old in folder.glob("t4e_utils-*.whl"):
        old.unlink()
    options = ["--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    with tempfile.TemporaryDirectory() as copy:
        for source in (project / name for name in PACKAGE_FILES):
            if source.is_dir():
                shutil.copytree(source, Path(copy, source.name), ignore=_not_packed)
            else:
                shutil.copy(source, copy)
        _pip("wheel", *options, copy, what="this package's wheel")
    return next(folder.glob("t4e_utils-*.whl"))


def _not_packed(folder: str, names: list[str]) -> list[str]:
    return [n for n in names if n == "__pycache__" or os.path.islink(os.path.join(folder, n))]


def fetch_wheels(folder: Path, *, packages: Sequence[str] = KAGGLE_LACKS) -> list[Path]:
    """Download wheels for Kaggle's Python, in the versions installed here.

    What is there is not fetched again.

    Raises:
        PipelineError: pip cannot find or reach one.
    """
    options = ["--only-binary=:all:", "--no-deps", "--dest", str(folder)]
    options += ["--implementation", "cp", "--python-version", KAGGLE_PYTHON]
    options += [word for name in KAGGLE_PLATFORMS for word in ("--platform", name)]
    found = []
    for package in packages:
        version = metadata.version(package)
        pattern = f"{package.replace('-', '_')}-{version}-*.whl"
        if not list(folder.glob(pattern)):
            _pip("download", *options, f"{package}=={version}", what=f"the wheel of {package}")
        found += sorted(folder.glob(pattern))[:1]
    return found


def _pip(command: str, *arguments: str, what: str) -> None:
    pip = [sys.executable, "-m", "pip", command, "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*pip, *arguments], capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise PipelineError(f"pip cannot make {what} ({last}): is there a network? Run this again.")
