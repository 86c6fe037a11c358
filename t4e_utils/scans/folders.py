"""The files of a series, in the order of the numbers in their names."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path

from t4e_utils.scans.problems import VolumeError


def last_number(path: Path) -> int | None:
    """Return the last number in the name of a file without its suffix: 12 of `Image-12.dcm`."""
    found = re.findall(r"\d+", path.stem)
    return int(found[-1]) if found else None


def files_of(folder: str | Path, suffixes: Collection[str] = ()) -> list[Path]:
    """Return the files of a folder in the order of the numbers in their names.

    Args:
        folder: hidden files and folders in it are passed over; a file stands for itself.
        suffixes: only files of these, in small letters; all files if empty.

    Raises:
        VolumeError: no such folder, or no such files in it.
    """
    folder = Path(folder)
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise VolumeError("no_files", folder, "There is no such folder: correct the path.")
    with os.scandir(folder) as entries:
        names = [
            entry.name for entry in entries if entry.is_file() and not entry.name.startswith(".")
        ]
    names = [name for name in names if not suffixes or Path(name).suffix.lower() in suffixes]
    if not names:
        kind = "/".join(suffixes) or "readable"
        raise VolumeError("no_files", folder, f"The folder has no {kind} files: correct the path.")
    return [folder / name for name in sorted(names, key=_natural)]


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts numbers in names as numbers: Image-9 before Image-10."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)
    ]
