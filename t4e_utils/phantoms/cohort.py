"""A folder of phantoms: complete under its name or not there; it says how they were drawn."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from t4e_utils import T4EError
from t4e_utils.files import write_error

CARD = "phantoms.json"  # in the folder: what its phantoms were drawn from


class PhantomError(T4EError):
    """Phantoms cannot be drawn with these numbers, or not in this folder."""


def write_cohort(root: Path, card: Mapping[str, Any], draw: Callable[[Path], None]) -> bool:
    """Draw phantoms into a folder that appears under its name when it is complete.

    Args:
        root: folder to make; nothing that is there is ever changed.
        card: everything that decides what is drawn, as JSON can hold it. It is written beside the
            phantoms, and says later whether the same ones are there.
        draw: writes the phantoms into the folder it is given.

    Returns:
        True if drawn now, False if the same phantoms were there.

    Raises:
        PhantomError: `root` holds other phantoms, or something else.
        WriteError: there is no room for them, or the folder cannot be written to.
    """
    if _is_drawn(root, card):
        return False
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{root.name}.partial-", dir=root.parent))
    except OSError as error:
        raise write_error(root, error) from error
    try:
        draw(partial)
        (partial / CARD).write_text(json.dumps(card, indent=2) + "\n")
        return _publish(partial, root, card)
    except OSError as error:
        raise write_error(root, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _publish(partial: Path, root: Path, card: Mapping[str, Any]) -> bool:
    """Rename the complete folder; False if another process was faster with the same phantoms."""
    partial.chmod(0o755)
    try:
        partial.rename(root)
    except OSError:
        if not _is_drawn(root, card):
            raise
        return False
    return True


def _is_drawn(root: Path, card: Mapping[str, Any]) -> bool:
    """Return whether exactly these phantoms are there; a missing or empty folder is free."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    if not (root / CARD).is_file():
        raise PhantomError(
            f"{root} exists and has no {CARD}, so it holds no phantoms: choose another folder."
        )
    found = _read_card(root / CARD)
    if found != card:
        other = ", ".join(
            f"{name} = {found.get(name)} instead of {value}"
            for name, value in card.items()
            if found.get(name) != value
        )
        raise PhantomError(
            f"{root} holds other phantoms, {other}: choose another folder, or remove this one "
            "yourself."
        )
    return True


def _read_card(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise PhantomError(
            f"{path} is damaged ({error}): remove the folder yourself, or choose another one."
        ) from error
