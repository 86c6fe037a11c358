"""What a JSON file states, held against a dataclass: its keys, their types and their ranges.

A range is a `pydantic.Field` in the annotation of a field, such as `Annotated[int, Field(ge=1)]`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

SHOWN = 80  # characters of a wrong value in a sentence
Kind = TypeVar("Kind")


class SchemaError(ValueError):
    """One sentence on the first thing that is wrong; whoever reads the file names it."""


def conform(
    kind: type[Kind], stated: Any, *, is_part: bool = False, is_whole: bool = False
) -> Kind:
    """Return a dataclass with the values that a JSON file states.

    Nothing is converted: text is no number, 1 is not true, and 3.0 is not 3. A number with a range
    is finite.

    Args:
        kind: the dataclass.
        stated: read from JSON.
        is_part: other keys are left aside; otherwise they are refused.
        is_whole: what has a default must be stated too.

    Raises:
        SchemaError: a key is missing or not known, or a value has another type or is out of range.
    """
    names = [each.name for each in fields(kind)]
    if isinstance(stated, Mapping):
        if unknown := [str(key) for key in stated if key not in names and not is_part]:
            raise SchemaError(f"{unknown[0][:SHOWN]} is not known")
        if missing := [name for name in names if name not in stated and is_whole]:
            raise SchemaError(f"{', '.join(missing)} is missing")
        stated = {name: stated[name] for name in names if name in stated}
    try:
        return TypeAdapter(kind).validate_json(json.dumps(stated), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    if first["type"] == "missing":
        raise SchemaError(f"{where} is missing")
    said = first["msg"].removeprefix("Input ").removeprefix("Value error, ")
    raise SchemaError(f"{where or 'it'} is {_short(first['input'])}, and {said}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
