"""Collections are found by name."""

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
