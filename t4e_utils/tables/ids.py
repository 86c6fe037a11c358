"""Ids that are spelled in several ways: 6, 00006 and 6.0 are one patient.

A spreadsheet takes the zeros of an id away, and an integer column with a gap becomes 6.0. So ids of
two sources are compared by `key_of`, and where both are kept the spelling of the folders wins.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from t4e_utils.scans.problems import Problem
from t4e_utils.tables import CatalogError

NUMBER = re.compile(r"0*([0-9]+)(?:[.,]0*)?")


def key_of(identifier: Any) -> str:
    """Return what all spellings of an id have in common: its number, else its text.

    The text has no blanks around it, accents in one form (folders of macOS have them apart), and
    digits in one form (Japanese and Arabic keyboards have their own).

    >>> [key_of(name) for name in ("00006", "6.0", 6, "６", "ID_06", "000")]
    ['6', '6', '6', '6', 'ID_06', '0']
    """
    text = unicodedata.normalize("NFC", str(identifier)).strip()
    if not text.isascii():
        text = re.sub(r"\d", lambda digit: str(int(digit[0])), text)
    number = NUMBER.fullmatch(text)
    return number.group(1) if number else text


def are_among(ids: Iterable[Any], others: Iterable[Any]) -> list[bool]:
    """Return for each id whether the others have it in any spelling."""
    known = {key_of(other) for other in others}
    return [key_of(identifier) in known for identifier in ids]


def spelled_as(
    ids: Iterable[str], names: Iterable[str], *, path: str | Path
) -> tuple[list[str], list[Problem]]:
    """Return the ids of a table as the folders spell them.

    An id that is the name of a folder stays as it is; so do the folders 6 and 00006 stay apart.
    Another one takes the name with the same number; without any it stays.

    Args:
        ids: of the table, each once.
        names: of the folders.
        path: of the table, for messages.

    Returns:
        The ids in their order, and one problem if some were spelled otherwise.

    Raises:
        CatalogError: several folders have the number of an id, or two ids are one folder.
    """
    ids, names = list(ids), set(names)
    by_key = defaultdict(list)
    for name in sorted(names):
        by_key[key_of(name)].append(name)
    spelled, origin = [], {}
    for one in ids:
        alike = [one] if one in names else by_key.get(key_of(one), [one])
        if len(alike) > 1:
            raise CatalogError(
                f"{path} names {one}, which can be any of the folders {', '.join(alike)}: write "
                "the id as its folder is called."
            )
        if alike[0] in origin:
            raise CatalogError(
                f"{path} names one patient twice, as {origin[alike[0]]} and as {one}: keep one row."
            )
        origin[alike[0]] = one
        spelled += alike
    changed = [(old, new) for old, new in zip(ids, spelled, strict=True) if old != new]
    if not changed:
        return spelled, []
    (old, new), n = changed[0], len(changed)
    sentence = (
        f"{n} of {len(ids)} ids are spelled otherwise than their folders, such as {old} for {new} "
        "(zeros are lost in spreadsheets); they were matched by number."
    )
    return spelled, [Problem("id_spelling", str(path), sentence)]
