"""Collections are found by name."""

import subprocess
import sys
from pathlib import Path

import pytest

from t4e_utils.workflow import PipelineError
from t4e_utils.workflow.collection import open_collection


def test_the_first_collection_has_the_folder_itself_and_needs_no_name():
    first = open_collection()
    assert first == open_collection("brain_tumor")
    assert (first.name, first.folder) == ("brain_tumor", "")
    assert next(iter(first.stages.values())).notebook == "01_eda"
    assert "brain tumour challenge" in first.about


def test_an_unknown_name_is_refused_with_those_that_are_there():
    with pytest.raises(PipelineError, match=r"no collection '../x': give one of .*brain_tumor"):
        open_collection("../x")


def test_a_leaf_elsewhere_is_found_by_its_module_and_a_missing_one_is_named():
    toy = open_collection("toy.data")
    assert (toy.name, toy.folder, list(toy.stages)) == ("toy.data", "toy.data", ["data", "train"])
    for name in ("toy.dat", "nothing.data"):
        with pytest.raises(
            PipelineError, match=f"no module '{name}': put its folder on PYTHONPATH"
        ):
            open_collection(name)


def test_the_facts_of_a_collection_load_nothing_that_kaggle_lacks():
    heavy = {"nh3", "nbconvert", "papermill", "snakemake", "torch", "matplotlib"}
    code = f"import t4e_utils.competitions.brain_tumor.data, sys; print({heavy} & set(sys.modules))"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )
    assert done.stdout == "set()\n"
