"""The parameters of a notebook, checked before any work starts."""

from __future__ import annotations

import ast
import json
import typing
from collections.abc import Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from t4e_utils import T4EError

KINDS = {"bool": bool, "int": int, "float": float, "str": str, "list": list, "dict": dict}
KINDS |= {f"list[{name}]": list[KINDS[name]] for name in ("bool", "int", "float", "str")}
LIKE = {list: 'a list, such as "[0, 1]"', dict: 'a dict, such as "{a: {b: 1}}"'}


class ParameterError(T4EError):
    """A parameter is unknown, has the wrong type or a value that makes no sense."""


def read_parameters(
    namespace: Mapping[str, Any],
    *,
    choices: Mapping[str, Sequence[Any]] | None = None,
    at_least: Mapping[str, float] | None = None,
) -> SimpleNamespace:
    """Check the parameters of a notebook and return them, before any work starts.

    The declared parameters are the annotated names of the notebook (`name: type = value`). What
    papermill injected is read from the cell history, so that a misspelt name is an error and not a
    silently ignored variable.

    Args:
        namespace: the notebook's `globals()`.
        choices: allowed values of a parameter, or of the elements of a list.
        at_least: smallest allowed value of a number.

    Returns:
        The values by name; text given for a list or dict (`-p folds "[0, 1]"`) is turned into it.

    Raises:
        ParameterError: unknown name, wrong type, value outside `choices` or below `at_least`.
    """
    declared = dict(namespace.get("__annotations__", {}))
    _refuse_unknown(_injected_names(namespace.get("In", ())), declared)
    values = {name: _typed(name, namespace[name], kind) for name, kind in declared.items()}
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
    return SimpleNamespace(**values)


def _injected_names(history: Iterable[str]) -> list[str]:
    cells = [source for source in history if source.lstrip().startswith("# Parameters")]
    if not cells:
        return []
    statements = ast.parse(cells[-1]).body
    return [
        target.id
        for s in statements
        if isinstance(s, ast.Assign)
        for target in s.targets
        if isinstance(target, ast.Name)
    ]


def _refuse_unknown(names: Iterable[str], declared: Mapping[str, Any]) -> None:
    unknown = [name for name in names if name not in declared]
    if unknown:
        raise ParameterError(
            f"This notebook has no parameter {', '.join(unknown)}: its parameters are "
            f"{', '.join(sorted(declared))}. Correct the name."
        )


def _typed(name: str, value: Any, kind: Any) -> Any:
    base, element = typing.get_origin(kind) or kind, (typing.get_args(kind) or (object,))[0]
    if base in (list, dict) and isinstance(value, str):
        value = _value_of_text(name, value, base)
    if base is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    is_right = isinstance(value, base) and not (base in (int, float) and isinstance(value, bool))
    if not is_right:
        raise ParameterError(
            f"{name} = {value!r} is {type(value).__name__}, but it must be {base.__name__}: "
            "correct the value."
        )
    if base is list:
        return [
            _typed(f"an element of {name}", item, element) if element is not object else item
            for item in value
        ]
    return value


def _value_of_text(name: str, text: str, kind: type) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError) as error:
        like = {
            list: 'a list, such as "[0, 1]"',
            dict: """a dict, such as "{'WT': {'FLAIR': 1}}\"""",
        }[kind]
        raise ParameterError(
            f"{name} = {text!r} is text, but it must be {like}: correct the value."
        ) from error


def typed(name: str, value: Any, kind: type | str, default: Any = None) -> Any:
    """Return a parameter's value as the type that is declared for it.

    Text stands for something else where no text is declared: YAML takes `1e-4` for text, and
    `--config "train={folds: [0]}"` gives text only.

    Args:
        name: of the parameter, for the sentence.
        value: as it was given.
        kind: a type, or its name as in a cell of parameters ("list[int]"); an unknown name is any.
        default: the declared value. The elements of a list stay text if those of the default are.

    Raises:
        ParameterError: the value is of another type.
    """
    kind = KINDS.get(kind, object) if isinstance(kind, str) else kind
    base, (element, *_) = typing.get_origin(kind) or kind, typing.get_args(kind) or (object,)
    if default and base is list and all(isinstance(item, str) for item in default):
        element = str
    if isinstance(value, str) and base in LIKE:
        value = _structure(name, value, base)
    elif isinstance(value, str) and base is object:
        value = _scalar(value)
    try:
        if base is not object:
            value = TypeAdapter(base).validate_python(value, strict=not isinstance(value, str))
    except ValidationError as error:
        raise ParameterError(
            f"{name} = {value!r} is {type(value).__name__}, but it must be {base.__name__}: "
            "correct the value."
        ) from error
    if isinstance(value, list):
        return [typed(f"an element of {name}", item, element) for item in value]
    if isinstance(value, dict):
        return {key: typed(f"{key} of {name}", item, object) for key, item in value.items()}
    return value


def _structure(name: str, text: str, base: type) -> Any:
    for read in (ast.literal_eval, yaml.safe_load):  # as Python or as YAML writes it
        try:
            value = read(text)
        except (ValueError, SyntaxError, yaml.YAMLError):
            continue
        if isinstance(value, base):
            return value
    raise ParameterError(
        f"{name} = {text!r} is text, but it must be {LIKE[base]}: correct the value."
    )


def _scalar(text: str) -> Any:
    try:
        value = json.loads(text.lower())
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float) else text
