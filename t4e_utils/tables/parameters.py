"""The parameters of a notebook, checked before any work starts."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, TypeVar

from t4e_utils import T4EError

SIMPLE = {kind.__name__: kind for kind in (bool, int, float, str)}
# the types that a parameter can have, as they are written in a notebook
KINDS: dict[str, Any] = {**SIMPLE, "list": list, "dict": dict}
KINDS |= {f"list[{name}]": list[kind] for name, kind in SIMPLE.items()}
KINDS |= {f"dict[str, {name}]": dict[str, kind] for name, kind in SIMPLE.items()}
NUMBER, WHOLE_NUMBER = r"[-+]?\d+(\.\d*)?([eE][-+]?\d+)?", r"[-+]?\d+"
LOOKS_LIKE = {list: 'a list, such as "[0, 1]"', dict: """a dict, such as "{'a': {'b': 1}}\""""}
Kind = TypeVar("Kind")


class ParameterError(T4EError):
    """A parameter is unknown, has the wrong type or a value that makes no sense."""


class _NoParameterError(ParameterError, AttributeError):
    """An attribute error too, so that `hasattr`, copies and pickles of `Parameters` work."""


class Parameters(SimpleNamespace):
    """The parameters of a notebook by name, as in `p.seed`. They cannot be changed."""

    def __getattr__(self, name: str) -> typing.NoReturn:
        raise _NoParameterError(f"There is no parameter {name}: {_hint(name, vars(self))}")

    def __setattr__(self, name: str, value: Any) -> typing.NoReturn:
        raise ParameterError(
            f"{name} = {value!r} cannot be set here: set it in the notebook's parameter cell."
        )

    def pick(self, kind: type[Kind], /, **changes: Any) -> Kind:
        """Build a dataclass from the parameters that have the names of its fields.

        Args:
            kind: the dataclass. A list becomes a tuple where the field is one.
            changes: values in place of parameters. A field that is neither keeps its default.

        Raises:
            ParameterError: a change that is no field, or a field without any value.
        """
        fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
        for name in changes:
            if name not in fields:
                raise ParameterError(f"{kind.__name__} has no field {name}: {_hint(name, fields)}")
        values = {
            **{name: value for name, value in vars(self).items() if name in fields},
            **changes,
        }
        for name, field in fields.items():
            if isinstance(values.get(name), list) and "tuple" in str(field.type):
                values[name] = tuple(values[name])
            if name not in values and field.default is field.default_factory is dataclasses.MISSING:
                raise ParameterError(
                    f"{kind.__name__} needs {name}, which is no parameter and has no default: "
                    "declare it, or give it to pick."
                )
        return kind(**values)


def read_parameters(
    namespace: Mapping[str, Any],
    *,
    choices: Mapping[str, Sequence[Any]] | None = None,
    at_least: Mapping[str, float] | None = None,
) -> Parameters:
    """Check the parameters of a notebook and return them, before any work starts.

    What is declared, and what papermill injected, is read from the history of cells. So a misspelt
    name is an error and not a variable that nobody reads.

    Args:
        namespace: the notebook's `globals()`, with the sources of its cells in `In`.
        choices: allowed values of a parameter, or of the elements of a list.
        at_least: smallest allowed value of a number.

    Raises:
        ParameterError: nothing declared, unknown name, wrong type, value outside `choices` or below
            `at_least`.
    """
    history = namespace.get("In", ())
    if not (known := declared(history)):
        raise ParameterError(
            "No cell above declares parameters: run the one that has them, such as `seed: int = 0`."
        )
    if unknown := [name for name in _injected_names(history) if name not in known]:
        raise ParameterError(
            f"This notebook has no parameter {', '.join(unknown)}: its parameters are "
            f"{', '.join(sorted(known))}. Correct the name."
        )
    values = {
        name: typed(name, namespace.get(name, default), kind, default)
        for name, (kind, default) in known.items()
    }
    for name, allowed in (choices or {}).items():
        given = values[name] if isinstance(values[name], list) else [values[name]]
        if wrong := [value for value in given if value not in allowed]:
            raise ParameterError(
                f"{name} = {wrong[0]!r} is not known: choose from {', '.join(map(repr, allowed))}."
            )
    for name, bound in (at_least or {}).items():
        if values[name] < bound:
            raise ParameterError(
                f"{name} = {values[name]!r} is too small: it must be at least {bound}."
            )
    return Parameters(**values)


def declared(history: Iterable[str]) -> dict[str, tuple[str, Any]]:
    """Return type (as written) and default of the parameters that cells declare.

    A parameter is a line `name: type = literal`. Read from the source, since Python 3.14 leaves no
    `__annotations__` in a notebook's globals.

    >>> declared(["seed: int = 0  # order", "import os"])
    {'seed': ('int', 0)}
    """
    found = {}
    for line in (line for source in history for line in _lines(source)):
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and line.value:
            with suppress(ValueError):  # more than a literal
                default = ast.literal_eval(line.value)
                found[line.target.id] = ast.unparse(line.annotation), default
    return found


def typed(name: str, value: Any, kind: type | str, default: Any = None) -> Any:
    """Return a parameter's value in the type that it must have.

    Text is read where it stands for something else: YAML takes `1e-4` for text, and a command line
    gives text only.

    Args:
        name: for the error.
        value: from a notebook, from YAML or from a command line.
        kind: one of `KINDS`, or its name; `object` for any.
        default: elements of a list without a type are text if those of its default are.

    Raises:
        ParameterError: the value, or an element, is of another type; or no parameter has this type.
    """
    kind = KINDS.get(kind) if isinstance(kind, str) else kind
    if kind is None:
        raise ParameterError(
            f"{name} is declared with a type that no parameter has: write one of "
            f"{', '.join(KINDS)}."
        )
    base, elements = typing.get_origin(kind) or kind, typing.get_args(kind)
    if isinstance(value, str) and base is not str:
        value = _of_text(name, value, base)
    if base is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, base) or (isinstance(value, bool) and base in (int, float)):
        raise ParameterError(
            f"{name} = {value!r} is {type(value).__name__}, but it must be {base.__name__}: "
            "correct the value."
        )
    is_of_text = isinstance(default, list) and any(isinstance(item, str) for item in default)
    element = elements[-1] if elements else str if is_of_text else object
    if isinstance(value, list):
        return [typed(f"an element of {name}", item, element) for item in value]
    if isinstance(value, dict):
        return {key: typed(f"{key!r} of {name}", item, element) for key, item in value.items()}
    return value


def _of_text(name: str, text: str, kind: type) -> Any:
    if kind in LOOKS_LIKE:
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError) as error:
            raise ParameterError(
                f"{name} = {text!r} is text, but it must be {LOOKS_LIKE[kind]}: correct the value."
            ) from error
    if re.fullmatch(NUMBER, text):
        return int(text) if kind is not float and re.fullmatch(WHOLE_NUMBER, text) else float(text)
    return {"true": True, "false": False}.get(text.lower(), text)


def _injected_names(history: Iterable[str]) -> list[str]:
    """Return what papermill's last cell sets; the cell begins with "# Parameters"."""
    cells = [source for source in history if source.lstrip().startswith("# Parameters")]
    lines = [line for line in _lines(cells[-1] if cells else "") if isinstance(line, ast.Assign)]
    return [name.id for line in lines for name in line.targets if isinstance(name, ast.Name)]


def _lines(source: str) -> list[ast.stmt]:
    try:
        return ast.parse(source).body
    except SyntaxError:  # a cell that did not run is in the history too
        return []


def _hint(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"it can be {', '.join(sorted(known))}."
