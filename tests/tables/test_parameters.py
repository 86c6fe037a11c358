"""Parameters of a notebook: what is declared, what is given, and dataclasses made of them."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass, field

import pytest

from t4e_utils.tables.parameters import ParameterError, declared, read_parameters, typed

CELL = """seed: int = 0  # order
rate: float = 0.5
name: str = "a"
folds: list = [0]
types: list[str] = ["x"]
names: list = ["x"]
weights: dict = {"a": 1}
on: bool = True
"""
VALUES = {
    "seed": 0,
    "rate": 0.5,
    "name": "a",
    "folds": [0],
    "types": ["x"],
    "names": ["x"],
    "weights": {"a": 1},
    "on": True,
}


def notebook(*injected: str, **changed) -> dict:
    """The `globals()` of a notebook: values, and the history of its cells; no annotations."""
    history = ["", "import os\nos.sep", "def broken(", CELL, *injected, "p = read_parameters()"]
    return {**VALUES, **changed, "In": history, "other": 3}


def test_declared_parameters_are_returned_and_nothing_else():
    assert vars(read_parameters(notebook())) == VALUES


def test_what_is_declared_is_read_from_the_source_whatever_python_keeps_of_it():
    cells = [CELL, "size: dict[str, int] = {'a': -1}\nfolder: str = 'a' 'b'\nrate: float = 1e-3"]
    cells.append("total: int = len(cells)\nx.y: int = 3\nlater: int\nplain = 3")
    found = declared(cells)
    assert list(found) == [*VALUES, "size", "folder"]
    assert found["types"] == ("list[str]", ["x"])
    assert found["size"] == ("dict[str, int]", {"a": -1})
    assert found["folder"] == ("str", "ab")
    assert found["rate"] == ("float", 0.001)


def test_the_history_of_a_real_notebook_is_read(tmp_path):
    code = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell()
cells = ["%config Application.log_level = 30", "seed: int = 0", "# Parameters\\nseed = 5\\n",
         "from t4e_utils.tables.parameters import read_parameters\\np = read_parameters(globals())"]
for cell in cells:
    shell.run_cell(cell, store_history=True).raise_error()
print(vars(shell.user_ns["p"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "IPYTHONDIR": str(tmp_path)},
    )
    assert done.stdout.splitlines()[-1] == "{'seed': 5}"


@pytest.mark.parametrize("history", [{}, {"In": []}, {"In": ["seed = 3", "x ="]}])
def test_without_declared_parameters_it_says_so(history):
    with pytest.raises(ParameterError, match="No cell above declares parameters: run the one that"):
        read_parameters({"seed": 3, **history})


def test_an_injected_name_that_the_notebook_does_not_declare_is_refused():
    with pytest.raises(
        ParameterError,
        match="no parameter sead: its parameters are folds, name, names, on, rate, seed, types",
    ):
        read_parameters(notebook("# Parameters\nsead = 3\nseed = 1\n", sead=3))


def test_injected_names_that_are_declared_are_taken_and_only_the_last_cell_counts():
    cells = "# Parameters\nsead = 3\n", "# Parameters\nseed = 5\n"
    assert read_parameters(notebook(*cells, seed=5)).seed == 5


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("float", 1, 1.0),
        ("float", "1", 1.0),
        ("float", "1e-4", 1e-4),
        ("float", "-2.", -2.0),
        ("int", "5", 5),
        ("bool", "true", True),
        ("bool", "False", False),
        ("str", "1", "1"),
        ("str", "[0]", "[0]"),
        ("list", "[0, 1]", [0, 1]),
        ("list", ["0", "1e-4", "b"], [0, 1e-4, "b"]),
        ("list", [[0, "1"]], [[0, 1]]),
        ("list[int]", ["0", 1], [0, 1]),
        ("list[float]", [1, 0.5], [1.0, 0.5]),
        ("list[str]", ["007"], ["007"]),
        ("dict", "{'a': {'b': 2}}", {"a": {"b": 2}}),
        ("dict", {"a": {"b": "3", "c": "0.5", "d": ["1"]}}, {"a": {"b": 3, "c": 0.5, "d": [1]}}),
        ("dict[str, float]", {"a": "3"}, {"a": 3.0}),
        (list[int], "[3]", [3]),
        (object, "x", "x"),
    ],
)
def test_a_value_gets_the_type_that_is_declared(kind, given, expected):
    found = typed("name", given, kind)
    assert found == expected
    assert repr(found) == repr(expected)  # 1 is no 1.0


def test_the_elements_of_a_list_are_text_where_those_of_its_default_are():
    assert typed("planes", ["007"], "list", ["axial"]) == ["007"]
    assert typed("planes", [], "list", ["axial"]) == []
    assert typed("n", 3, "int", 5) == 3
    with pytest.raises(ParameterError, match="an element of planes = 7 is int, but it must be str"):
        typed("planes", [7], "list", ["axial"])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": "many"}, "seed = 'many' is str, but it must be int"),
        ({"seed": True}, "seed = True is bool, but it must be int"),
        ({"seed": 1.5}, "seed = 1.5 is float, but it must be int"),
        ({"rate": "fast"}, "rate = 'fast' is str, but it must be float"),
        ({"rate": True}, "rate = True is bool, but it must be float"),
        ({"on": 1}, "on = 1 is int, but it must be bool"),
        ({"name": None}, "name = None is NoneType, but it must be str"),
        ({"name": 7}, "name = 7 is int, but it must be str"),
        ({"folds": "0, 1]"}, 'folds = .* is text, but it must be a list, such as "'),
        ({"folds": 3}, "folds = 3 is int, but it must be list"),
        ({"weights": "a: 2"}, "weights = 'a: 2' is text, but it must be a dict, such as"),
        ({"weights": [2]}, r"weights = \[2\] is list, but it must be dict"),
        ({"types": ["x", 3]}, "an element of types = 3 is int, but it must be str"),
        ({"names": [3]}, "an element of names = 3 is int, but it must be str"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(changed, message):
    with pytest.raises(ParameterError, match=message):
        read_parameters(notebook(**changed))


def test_an_element_of_a_dict_is_named():
    with pytest.raises(ParameterError, match="'a' of weights = 'x' is str, but it must be float"):
        typed("weights", {"a": "x"}, "dict[str, float]")


def test_a_type_that_no_parameter_has_is_refused():
    with pytest.raises(ParameterError, match=r"size is declared with .*: write one of bool, int,"):
        typed("size", 3, "Path")


def test_values_outside_the_choices_are_refused_in_lists_too():
    with pytest.raises(ParameterError, match="types = 'y' is not known: choose from 'x', 'z'"):
        read_parameters(notebook(types=["x", "y"]), choices={"types": ("x", "z")})
    with pytest.raises(ParameterError, match="name = 'a' is not known"):
        read_parameters(notebook(), choices={"name": ("b",)})


def test_a_number_below_its_bound_is_refused():
    assert read_parameters(notebook(seed=2), at_least={"seed": 2}).seed == 2
    with pytest.raises(ParameterError, match="seed = 1 is too small: it must be at least 2"):
        read_parameters(notebook(seed=1), at_least={"seed": 2})


def test_parameters_are_met_by_name_and_stay_as_they_are():
    p = read_parameters(notebook())
    with pytest.raises(ParameterError, match=r"no parameter sead: did you mean seed\?"):
        p.sead  # noqa: B018
    with pytest.raises(ParameterError, match="no parameter zzz: it can be folds, name, names, on,"):
        p.zzz  # noqa: B018
    with pytest.raises(ParameterError, match="seed = 3 cannot be set here: set it in the notebook"):
        p.seed = 3
    assert p.seed == 0
    assert not hasattr(p, "zzz")
    assert copy.deepcopy(p) == p == pickle.loads(pickle.dumps(p))


@dataclass(frozen=True)
class Base:
    seed: int
    rate: float = 0.1


@dataclass(frozen=True)
class Config(Base):
    epochs: int = 9
    folds: tuple[int, ...] = ()
    names: list[str] = field(default_factory=list)
    derived: int = field(default=0, init=False)


def test_a_dataclass_is_built_from_parameters_of_the_same_names_and_a_change_wins():
    p = read_parameters(notebook())
    assert p.pick(Base) == Base(seed=0, rate=0.5)
    assert p.pick(Config) == Config(seed=0, rate=0.5, epochs=9, folds=(0,), names=["x"])
    assert p.pick(Config, rate=2.0, epochs=1) == Config(0, 2.0, 1, (0,), ["x"])
    assert hash(p.pick(Config, names=())) is not None


def test_a_dataclass_that_cannot_be_built_is_refused():
    p = read_parameters({"In": ["rate: float = 0.5"]})
    with pytest.raises(ParameterError, match="Base needs seed, which is no parameter and has no d"):
        p.pick(Base)
    with pytest.raises(ParameterError, match=r"Config has no field epoch: did you mean epochs\?"):
        p.pick(Config, seed=1, epoch=3)
    with pytest.raises(ParameterError, match="Config has no field derived: it can be"):
        p.pick(Config, seed=1, derived=3)
