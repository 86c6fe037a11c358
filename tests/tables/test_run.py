"""The folder of a run, and the versions that it works with."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from t4e_utils.tables import run


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


@pytest.mark.parametrize("name", ["self/x", "x" * 300, "a\0b", "file/x", "dangling"])
def test_a_folder_that_cannot_be_is_not_there(tmp_path, name):
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "dangling").symlink_to("unmounted")
    (tmp_path / "file").write_text("")
    with pytest.raises(run.MissingInputError, match=r"\(the data\) is not there: fetch it\."):
        run.require_folder(f"{tmp_path}/{name}", what="the data", how="fetch it")


def test_a_path_that_is_no_text_or_of_nobody_is_refused(tmp_path):
    with pytest.raises(run.MissingInputError, match=r"caf\\udce9 is not UTF-8: rename"):
        run.resolve(tmp_path / "caf\udce9")
    with pytest.raises(run.MissingInputError, match=r"~nobody-of-this-name/x names nobody"):
        run.resolve("~nobody-of-this-name/x")


def test_a_folder_that_this_user_may_not_list_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(run.os, "access", lambda *_: False)  # root may list all
    with pytest.raises(run.MissingInputError, match="cannot be listed: make it readable"):
        run.require_folder(tmp_path, what="the data", how="fetch it")


def test_tables_show_dollar_signs_of_a_name_as_they_are():
    with pd.option_context("display.html.use_mathjax", True):
        run.environment(seed=0)
        assert "mathjax_ignore" in pd.DataFrame({"patient_id": ["$a_b$"]})._repr_html_()


def test_the_environment_line_names_versions_device_and_seed():
    line = run.environment(seed=7, device="cpu")
    assert f"python {sys.version.split()[0]}" in line
    assert f"numpy {np.__version__}" in line
    assert line.endswith("device: cpu | seed: 7")
    assert run.versions()["pandas"] == pd.__version__
