"""A run and its folder.

Checked notebook parameters, paths, and tables that are complete when they are there.

Every notebook begins with `parameters(globals())` and hands its results on through tables (Parquet)
and cards (JSON) below one run folder. A table is written last and atomically (temporary name, then
rename), and carries the parameters it was made with.
"""

from __future__ import annotations

import ast
import hashlib
import json
import platform
import typing
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from t4e_utils import T4EError
from t4e_utils.files import whole_file

ROOT_MARK = "Snakefile"
MADE_WITH = b"t4e_made_with"
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


class ParameterError(T4EError):
    """A parameter is unknown, has the wrong type or a value that makes no sense."""


class MissingInputError(T4EError):
    """Something that another notebook makes, or that the user provides, is not there or not
    usable.
    """


class StaleResultError(T4EError):
    """A finished result was made with other parameters than the present ones."""


def project_root() -> Path:
    """Return the folder above the working directory that holds the Snakefile, else the working
    directory itself.
    """
    here = Path.cwd()
    return next(
        (folder for folder in (here, *here.parents) if (folder / ROOT_MARK).is_file()), here
    )


def resolve(path: str | Path) -> Path:
    """Return `path` as it is when absolute, otherwise against the project root, wherever the
    kernel was started.
    """
    path = Path(path).expanduser()
    return path if path.is_absolute() else project_root() / path


def parameters(
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


def require_folder(path: str | Path, *, what: str, how: str) -> Path:
    """Return the resolved folder, or say what is missing and how to get it.

    Raises:
        MissingInputError: the folder does not exist.
    """
    folder = resolve(path)
    if not folder.is_dir():
        raise MissingInputError(f"The folder {path} ({what}) is not there: {how}.")
    return folder


def fingerprint(*parts: Any) -> str:
    """Return eight hexadecimal digits that change when any part (JSON-like values or tables)
    changes.
    """
    digest = hashlib.sha256()
    for part in parts:
        text = (
            part.to_csv(index=False)
            if isinstance(part, pd.DataFrame)
            else json.dumps(part, sort_keys=True, default=str)
        )
        digest.update(text.encode())
    return digest.hexdigest()[:8]


def write_table(
    table: pd.DataFrame, path: Path, *, made_with: Mapping[str, Any] | None = None
) -> Path:
    """Write a Parquet table atomically: if the file is there, it is complete."""
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    note = json.dumps(made_with or {}, sort_keys=True, default=str).encode()
    with whole_file(path) as temporary:
        pq.write_table(
            arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), MADE_WITH: note}),
            temporary,
        )
    return path


def read_table(path: Path, *, made_by: str, columns: Iterable[str] = ()) -> pd.DataFrame:
    """Read a table that a notebook made.

    Args:
        path: the Parquet file.
        made_by: the notebook that makes it, named in the error.
        columns: columns that must be there.

    Raises:
        MissingInputError: the file is missing, damaged, or lacks a column.
    """
    if not path.is_file():
        raise MissingInputError(
            f"{_shown(path)} is not there: run {made_by} with the same run_dir first, it makes "
            "this table."
        )
    try:
        table = pd.read_parquet(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise MissingInputError(
            f"{_shown(path)} cannot be read ({error}): delete it and run {made_by} again."
        ) from error
    if missing := [column for column in columns if column not in table.columns]:
        raise MissingInputError(
            f"{_shown(path)} has no column {', '.join(missing)} (it has "
            f"{', '.join(table.columns)}): run {made_by} again with overwrite = True."
        )
    return table


def is_finished(path: Path, made_with: Mapping[str, Any], *, overwrite: bool = False) -> bool:
    """Return whether the table is there and was made with these parameters.

    Raises:
        StaleResultError: it is there, but was made with other parameters and `overwrite` is off.
    """
    if overwrite or not path.is_file():
        return False
    before, now = made_with_of(path), json.loads(json.dumps(made_with, default=str))
    changed = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    if changed:
        differences = "; ".join(
            f"{name} was {before.get(name)!r}, is now {now.get(name)!r}" for name in changed
        )
        raise StaleResultError(
            f"{_shown(path)} was made with other parameters ({differences}): set overwrite = "
            "True to make it anew, or choose another run_dir."
        )
    return True


def is_current(path: Path, made_with: Mapping[str, Any]) -> bool:
    """Return whether the table is there and was made with these parameters.

    For what may be made anew without asking.
    """
    return path.is_file() and made_with_of(path) == json.loads(json.dumps(made_with, default=str))


def made_with_of(path: Path) -> dict[str, Any]:
    """Return the parameters that a table was made with.

    Raises:
        MissingInputError: the file is damaged.
    """
    try:
        return json.loads((pq.read_schema(path).metadata or {}).get(MADE_WITH, b"{}"))
    except pa.ArrowInvalid as error:
        raise MissingInputError(
            f"{_shown(path)} is damaged ({error}): delete it, it will be made anew."
        ) from error


def write_json(content: Mapping[str, Any], path: Path) -> Path:
    """Write a JSON card atomically, readable by a person; NaN becomes null."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(_plain(content), indent=2) + "\n", encoding="utf-8")
    return path


def read_json(path: Path, *, made_by: str) -> dict[str, Any]:
    """Read a JSON card that a notebook made.

    Raises:
        MissingInputError: the file is missing or damaged.
    """
    if not path.is_file():
        raise MissingInputError(
            f"{_shown(path)} is not there: run {made_by} with the same run_dir first, it makes "
            "this file."
        )
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise MissingInputError(
            f"{_shown(path)} is damaged ({error}): delete it and run {made_by} again."
        ) from error


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


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
    """Return one line for the end of a notebook's imports: versions, device, seed."""
    named = ", ".join(f"{name} {version}" for name, version in versions().items())
    return f"{named} | device: {device} | seed: {seed}"


def _shown(path: Path) -> str:
    root = project_root()
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
