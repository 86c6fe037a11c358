"""Parameters of a notebook, paths, and tables that are complete when they are there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from t4e_utils.tables import parameters, run, store

DECLARED = {
    "seed": int,
    "rate": float,
    "name": str,
    "folds": list,
    "types": list[str],
    "weights": dict,
    "on": bool,
}
VALUES = {
    "seed": 0,
    "rate": 0.5,
    "name": "a",
    "folds": [0],
    "types": ["x"],
    "weights": {"a": 1},
    "on": True,
}
TABLE = pd.DataFrame({"patient_id": ["00006", "00123"], "dice": [0.5, np.nan]})


def notebook(*injected: str, **changed) -> dict:
    """The `globals()` of a notebook: annotations, values, and the history of its cells."""
    return {
        "__annotations__": DECLARED,
        **VALUES,
        **changed,
        "In": ["", "seed: int = 0", *injected, "import os"],
        "other": 3,
    }


def test_declared_parameters_are_returned_and_nothing_else():
    assert vars(parameters.read_parameters(notebook())) == VALUES


def test_a_whole_number_may_be_given_for_a_float():
    rate = parameters.read_parameters(notebook(rate=1)).rate
    assert rate == 1.0
    assert isinstance(rate, float)


def test_a_list_or_dict_given_as_text_becomes_one():
    assert parameters.read_parameters(notebook(folds="[0, 1]")).folds == [0, 1]
    assert parameters.read_parameters(notebook(weights="{'a': {'b': 2}}")).weights == {
        "a": {"b": 2}
    }


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": "3"}, "seed = '3' is str, but it must be int"),
        ({"seed": True}, "seed = True is bool, but it must be int"),
        ({"seed": 1.5}, "seed = 1.5 is float, but it must be int"),
        ({"rate": "1e-4"}, "rate = '1e-4' is str, but it must be float"),
        ({"on": 1}, "on = 1 is int, but it must be bool"),
        ({"name": None}, "name = None is NoneType, but it must be str"),
        ({"folds": "0, 1]"}, 'folds = .* is text, but it must be a list, such as "'),
        ({"folds": 3}, "folds = 3 is int, but it must be list"),
        ({"weights": "a: 2"}, "weights = 'a: 2' is text, but it must be a dict, such as"),
        ({"weights": [2]}, r"weights = \[2\] is list, but it must be dict"),
        ({"types": ["x", 3]}, "an element of types = 3 is int, but it must be str"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(changed, message):
    with pytest.raises(parameters.ParameterError, match=message):
        parameters.read_parameters(notebook(**changed))


def test_an_injected_name_that_the_notebook_does_not_declare_is_refused():
    with pytest.raises(
        parameters.ParameterError,
        match="no parameter sead: its parameters are folds, name, on, rate, seed, types",
    ):
        parameters.read_parameters(notebook("# Parameters\nsead = 3\nseed = 1\n", sead=3))


def test_injected_names_that_are_declared_are_taken():
    assert parameters.read_parameters(notebook("# Parameters\nseed = 5\n", seed=5)).seed == 5


def test_values_outside_the_choices_are_refused_in_lists_too():
    with pytest.raises(
        parameters.ParameterError, match="types = 'y' is not known: choose from 'x', 'z'"
    ):
        parameters.read_parameters(notebook(types=["x", "y"]), choices={"types": ("x", "z")})
    with pytest.raises(parameters.ParameterError, match="name = 'a' is not known"):
        parameters.read_parameters(notebook(), choices={"name": ("b",)})


def test_a_number_below_its_bound_is_refused():
    assert parameters.read_parameters(notebook(seed=2), at_least={"seed": 2}).seed == 2
    with pytest.raises(
        parameters.ParameterError, match="seed = 1 is too small: it must be at least 2"
    ):
        parameters.read_parameters(notebook(seed=1), at_least={"seed": 2})


def test_relative_paths_are_resolved_against_the_project_from_any_folder_in_it(
    tmp_path, monkeypatch
):
    (tmp_path / "Snakefile").touch()
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert run.project_root() == tmp_path
    assert run.resolve("runs/demo") == tmp_path / "runs/demo"
    assert run.resolve("/elsewhere") == Path("/elsewhere")
    assert run.resolve("~/data") == Path.home() / "data"


def test_without_a_project_the_working_directory_is_the_root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run.resolve("x") == tmp_path / "x"


def test_a_missing_folder_is_named_with_what_to_do(tmp_path):
    assert run.require_folder(tmp_path, what="it", how="do") == tmp_path
    with pytest.raises(
        run.MissingInputError, match=r"nowhere \(the data\) is not there: fetch it\."
    ):
        run.require_folder(tmp_path / "nowhere", what="the data", how="fetch it")


def test_a_fingerprint_changes_with_every_part_and_with_nothing_else():
    base = store.fingerprint({"a": 1, "b": [0.1]}, TABLE)
    assert base == store.fingerprint({"b": [0.1], "a": 1}, TABLE.copy())
    others = [
        store.fingerprint({"a": 2, "b": [0.1]}, TABLE),
        store.fingerprint({"a": 1, "b": [0.2]}, TABLE),
        store.fingerprint({"a": 1, "b": [0.1]}, TABLE.assign(dice=0.4)),
        store.fingerprint({"a": 1, "b": [0.1]}),
    ]
    assert len({base, *others}) == 5
    assert len(base) == 8


def test_a_fingerprint_is_the_same_in_another_process():
    code = (
        "from t4e_utils.tables.store import fingerprint; print(fingerprint({'b': 1.5, 'a': ['x']}))"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1


def test_a_table_comes_back_as_it_was_with_text_ids_and_without_leftovers(tmp_path):
    path = store.write_table(TABLE, tmp_path / "a" / "t.parquet", provenance={"seed": 3})
    pd.testing.assert_frame_equal(store.read_table(path, made_by="01_eda", columns=["dice"]), TABLE)
    assert store.provenance_of(path) == {"seed": 3}
    assert [p.name for p in path.parent.iterdir()] == ["t.parquet"]


def test_a_table_that_cannot_be_used_says_which_notebook_makes_it(tmp_path):
    path = tmp_path / "t.parquet"
    with pytest.raises(
        run.MissingInputError,
        match=r"t\.parquet is not there: run 02_seg_data with the same run_dir first",
    ):
        store.read_table(path, made_by="02_seg_data")
    store.write_table(TABLE, path)
    with pytest.raises(
        run.MissingInputError,
        match=r"has no column fold \(it has patient_id, dice\): run 02_seg_data again",
    ):
        store.read_table(path, made_by="02_seg_data", columns=["dice", "fold"])
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(
        run.MissingInputError, match=r"cannot be read .*: delete it and run 02_seg_data again"
    ):
        store.read_table(path, made_by="02_seg_data")


def test_a_finished_table_is_used_and_one_made_with_other_parameters_is_neither_used_nor_lost(
    tmp_path,
):
    path = tmp_path / "t.parquet"
    assert not store.is_finished(path, {"seed": 1})
    assert not store.is_current(path, {"seed": 1})
    store.write_table(TABLE, path, provenance={"seed": 1, "planes": ("axial",)})
    assert store.is_finished(path, {"seed": 1, "planes": ["axial"]})
    assert store.is_current(path, {"seed": 1, "planes": ["axial"]})
    assert not store.is_current(path, {"seed": 2, "planes": ["axial"]})
    assert not store.is_finished(path, {"seed": 1}, overwrite=True)
    with pytest.raises(
        store.StaleResultError,
        match=r"seed was 1, is now 2\): set overwrite = True .* or choose another run_dir",
    ):
        store.is_finished(path, {"seed": 2, "planes": ["axial"]})
    pd.testing.assert_frame_equal(pd.read_parquet(path), TABLE)


def test_a_damaged_table_is_no_finished_one(tmp_path):
    path = tmp_path / "t.parquet"
    path.write_text("no table")
    with pytest.raises(
        run.MissingInputError, match=r"is damaged .*: delete it, it will be made anew"
    ):
        store.is_finished(path, {})


def test_a_card_is_plain_json_and_what_is_not_finite_is_null(tmp_path):
    content = {
        "auc": np.float64(0.5),
        "n": np.int64(3),
        "ci95": (float("nan"), float("inf")),
        "path": Path("a"),
        "inner": {1: True},
    }
    path = store.write_json(content, tmp_path / "a" / "card.json")
    expected = {"auc": 0.5, "n": 3, "ci95": [None, None], "path": "a", "inner": {"1": True}}
    assert store.read_json(path, made_by="05") == expected == json.loads(path.read_text())
    assert [p.name for p in path.parent.iterdir()] == ["card.json"]


def test_a_card_that_cannot_be_used_says_which_notebook_makes_it(tmp_path):
    path = tmp_path / "card.json"
    with pytest.raises(
        run.MissingInputError,
        match=r"card\.json is not there: run 03_train_seg with the same run_dir first",
    ):
        store.read_json(path, made_by="03_train_seg")
    path.write_text('{"a": ')
    with pytest.raises(
        run.MissingInputError,
        match=r"card\.json is damaged .*: delete it and run 03_train_seg again",
    ):
        store.read_json(path, made_by="03_train_seg")


def test_the_environment_line_names_versions_device_and_seed():
    line = run.environment(seed=7, device="cpu")
    assert f"python {sys.version.split()[0]}" in line
    assert f"numpy {np.__version__}" in line
    assert line.endswith("device: cpu | seed: 7")
    assert run.versions()["pandas"] == pd.__version__
