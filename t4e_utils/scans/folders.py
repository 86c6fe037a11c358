"""The files of a series: in the order of the numbers in their names."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from t4e_utils.scans.problems import Problem, VolumeError


def last_number(path: Path) -> int | None:
    """Return the last number in the name of a file without its suffix: 12 of `Image-12.dcm`."""
    found = re.findall(r"\d+", path.stem)
    return int(found[-1]) if found else None


def no_images(where: str, problems: Sequence[Problem]) -> VolumeError:
    """Return the error for a series of which nothing was read, with the code of its files if
    they share one.
    """
    refused = [problem for problem in problems if problem.code not in ("warning", "bad_value")]
    if len(refused) == 1:
        return VolumeError(*refused[0])
    codes = {problem.code for problem in refused}
    code = codes.pop() if len(codes) == 1 else "no_images"
    return VolumeError(
        code,
        where,
        f"None of the {len(refused)} files is a readable image. The first: {refused[0].sentence}",
    )


def files_of(folder: str | Path, suffixes: Collection[str] = ()) -> list[Path]:
    """Return the files of a folder in the order of the numbers in their names.

    A file stands for itself.
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
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)
    ]
