"""The first cell of a bundled notebook finds its inputs in every layout that Kaggle has had."""

import pytest

from t4e_utils.workflow.kaggle_notebook import BOOTSTRAP


def folder_with(root):
    """The function as the cell defines it."""
    code = BOOTSTRAP.format(root=root, mark="mark.json", dataset="me/data", deepest=6)
    names = {}
    exec(code.split("\n\n\nbundle =")[0], names)
    return names["folder_with"]


@pytest.mark.parametrize(
    "place", ["data", "datasets/me/data", "competitions/some", "models/me/net/pytorch/small/1"]
)
def test_a_folder_is_found_at_any_depth(tmp_path, place):
    folder = tmp_path / "input" / place
    folder.mkdir(parents=True)
    (folder / "mark.json").touch()
    assert folder_with(tmp_path)("mark.json") == str(folder)


def test_the_outermost_of_several_is_taken_and_none_is_one_sentence(tmp_path):
    for place in ("b/c/d", "z"):
        (tmp_path / "input" / place).mkdir(parents=True)
        (tmp_path / "input" / place / "mark.json").touch()
    assert folder_with(tmp_path)("mark.json") == str(tmp_path / "input" / "z")
    with pytest.raises(
        FileNotFoundError, match=r"No x\.json below .*the data set me/data as inputs"
    ):
        folder_with(tmp_path)("x.json")
