"""The files of a series, in the order of the numbers in their names."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection
from pathlib import Path

from t4e_utils.scans.problems import VolumeError


def last_number(path: Path) -> int | None:
    """Return the last number in the name of a file without its suffix: 12 of `Image-12.dcm`."""
    found = re.findall(r"\d+", path.stem)
    return int(found[-1]) if found else None


def files_of(folder: str | Path, suffixes: Collection[str] = ()) -> list[Path]:
    """Return the files of a folder in the order of the numbers in their names.

    A link that leads nowhere, or where nobody may look, is listed too: whoever reads it says that
    a slice is missing.

    Args:
        folder: hidden files and folders in it are passed over; a file stands for itself.
        suffixes: only files of these, in small letters; all files if empty.

    Raises:
        VolumeError: no such folder, it cannot be listed, or no such files in it.
    """
    folder = Path(folder)
    try:
        if stat.S_ISREG(os.stat(folder).st_mode):
            return [folder]
        with os.scandir(folder) as entries:
            names = [
                entry.name for entry in entries if entry.name[0] != "." and _may_be_file(entry)
            ]
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        reason = getattr(error, "strerror", None) or error
        raise VolumeError(
            "no_files", folder, f"There is no such folder to read ({reason}): correct the path."
        ) from error
    names = [name for name in names if not suffixes or Path(name).suffix.lower() in suffixes]
    if not names:
        kind = "/".join(suffixes) or "readable"
        raise VolumeError("no_files", folder, f"The folder has no {kind} files: correct the path.")
    return [folder / name for name in sorted(names, key=_natural)]


def _may_be_file(entry: os.DirEntry) -> bool:
    try:
        return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))
    except OSError:  # a link to itself
        return True


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts numbers in names as numbers: Image-9 before Image-10."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)
    ]
