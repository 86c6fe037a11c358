"""A run: where its folder is, and with which versions it works."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

from t4e_utils import T4EError

ROOT_MARK = "Snakefile"
REPORTED_PACKAGES = (
    "torch",
    "timm",
    "segmentation-models-pytorch",
    "albumentations",
    "pydicom",
    "nibabel",
    "numpy",
    "pandas",
)


class MissingInputError(T4EError):
    """What another notebook makes, or the user provides, is not there or not usable."""


def project_root() -> Path:
    """Return the nearest folder that holds the Snakefile, else the working directory.

    Looked for from the working directory upwards.
    """
    here = Path.cwd()
    return next(
        (folder for folder in (here, *here.parents) if (folder / ROOT_MARK).is_file()), here
    )


def resolve(path: str | Path) -> Path:
    """Return a path against the project root, wherever the kernel was started.

    An absolute path stays as it is; `~` is the user's folder.

    Raises:
        MissingInputError: it is not UTF-8, so that no table or notebook can hold it, or it begins
            with the folder of a user who is not there.
    """
    try:
        path = Path(path).expanduser()
        path = path if path.is_absolute() else project_root() / path
        str(path).encode()
    except (RuntimeError, UnicodeEncodeError) as error:
        what = "is not UTF-8" if isinstance(error, ValueError) else "names nobody of this machine"
        raise MissingInputError(f"The path {path} {what}: rename or correct it.") from error
    return path


def require_folder(path: str | Path, *, what: str, how: str) -> Path:
    """Return the resolved folder, or say what is missing and how to get it.

    Raises:
        MissingInputError: the folder does not exist, or this user may not look into it.
    """
    folder = resolve(path)
    if not os.path.isdir(folder):  # not of Path, which raises for a name that is too long
        raise MissingInputError(f"The folder {path} ({what}) is not there: {how}.")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise MissingInputError(f"The folder {path} ({what}) cannot be listed: make it readable.")
    return folder


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide the results."""
    found = {"python": platform.python_version()}
    for package in REPORTED_PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def environment(*, seed: int, device: str = "cpu") -> str:
    """Return one line for the end of a notebook's imports: versions, device, seed.

    From then on tables are shown as they are: pandas lets pages typeset a name with dollar signs.
    """
    import pandas as pd  # not above: importing this room is light

    pd.set_option("display.html.use_mathjax", False)
    named = ", ".join(f"{name} {version}" for name, version in versions().items())
    return f"{named} | device: {device} | seed: {seed}"
