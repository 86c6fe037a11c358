"""The Makefile in a folder of any name: a stand-in for Python says which words it was given."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from snakemake.cli import parse_config

ROOT = Path(__file__).parents[2]
ODD = 'it\'s "my" $HOME `x`; (a) & #b {c}'
SAY = """#!/usr/bin/env python3
import json, os, sys
print(json.dumps([sys.argv[1:], os.environ.get("JUPYTER_CONFIG_PATH")]))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """What `make` needs of the project, in a folder with letters that a shell reads."""
    folder = tmp_path_factory.mktemp("make") / ODD
    binaries = folder / ".venv" / "bin"
    binaries.mkdir(parents=True)
    (folder / "configs").mkdir()
    for name in ("requirements.txt", "requirements-dev.txt", "constraints.txt", "pyproject.toml"):
        (folder / name).touch()
    shutil.copy(ROOT / "Makefile", folder)
    for name in ("python", "ruff"):
        (binaries / name).write_text(SAY)
        (binaries / name).chmod(0o755)
    (folder / ".venv" / "installed").touch()
    return folder


def made(project, *words, **environment):
    """Run make: the words that its stand-in was given, and what else was printed."""
    known = {name: value for name, value in os.environ.items() if name != "RUN"}
    command = ["make", "--silent", "--no-print-directory", *words]
    done = subprocess.run(
        command, cwd=project, env=known | environment, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    return [json.loads(line) for line in lines if line[0] == "["], [
        line for line in lines if line[0] != "["
    ]


@pytest.mark.parametrize("run", [ODD, "runs/demo", "a: b", "123", "true", "'quoted'", "a\\b"])
def test_the_run_folder_reaches_snakemake_as_it_was_given(project, run):
    (((*_, config), _),), printed = made(project, "demo", f"RUN={run}")
    assert parse_config([config]) == {"run_dir": run}
    assert printed[0] == f"Submission: {run}/submission.csv"
    (((*_, config), _),), _ = made(project, "demo", RUN=run)
    assert parse_config([config]) == {"run_dir": run}


@pytest.mark.parametrize("target", ["report", "gallery"])
def test_the_run_folder_reaches_the_commands_as_it_was_given(project, target):
    said, _ = made(project, target, f"RUN={ODD}")
    assert said[-1][0] == ["-m", f"t4e_utils.workflow.{target}", ODD]


def test_without_a_name_the_run_is_the_demo(project):
    (((*_, config), _),), _ = made(project, "demo")
    assert parse_config([config]) == {"run_dir": "runs/demo"}


def test_no_command_is_a_script_whose_first_line_would_name_the_folder(project):
    (lint, form, tests), _ = made(project, "test")
    assert (lint[0][0], form[0][0], tests[0][:2]) == ("check", "format", ["-m", "pytest"])
    ((words, settings),), _ = made(project, "lab")
    assert words[:2] == ["-m", "jupyterlab"]
    assert words[2] == f"--ServerApp.root_dir={project}"
    assert settings == f"{project}/configs/jupyter"


@pytest.mark.parametrize("name", ["{x}", "a$b", "a:b"])
def test_a_folder_that_pip_cannot_install_into_is_said_before_anything_is_fetched(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    for needed in ("requirements.txt", "requirements-dev.txt", "constraints.txt", "pyproject.toml"):
        (folder / needed).touch()
    shutil.copy(ROOT / "Makefile", folder)
    done = subprocess.run(
        ["make", "--no-print-directory", "demo"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert done.stdout.endswith(
        f"into {folder}, because of its brace, dollar sign or colon: rename that folder.\n"
    )
    assert not (folder / ".venv").exists()
