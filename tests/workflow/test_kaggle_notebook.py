"""The first cell of a bundled notebook finds its inputs in every layout that Kaggle has had."""

import os
from pathlib import Path

import pytest

from t4e_utils.workflow.kaggle_notebook import BOOTSTRAP

SAMPLE, OWN = "sample_submission.csv", "some-competition"


def folder_with(root):
    """The function as the cell defines it."""
    code = BOOTSTRAP.format(root=root, mark="mark.json", dataset="me/data")
    names = {}
    exec(code.split("\n\n\nbundle =")[0], names)
    return names["folder_with"]


@pytest.fixture
def put(tmp_path):
    """Put a file below Kaggle's inputs, and a folder test beside it if asked, and return where."""

    def put(place, name="mark.json", *, with_test=False):
        folder = tmp_path / "input" / place
        (folder / "test" if with_test else folder).mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
        return str(folder)

    return put


@pytest.mark.parametrize(
    "place",
    ["data", "datasets/me/data", "competitions/some", "models/me/net/pytorch/small/1"]
    + ["datasets/me/data/versions/1/a/b/c"],
)
def test_a_folder_is_found_at_any_depth(tmp_path, put, place):
    folder = put(place)
    put("datasets/me/other", "other.json")
    assert folder_with(tmp_path)("mark.json") == folder


def test_no_folder_is_one_sentence(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"No x\.json below .*the data set me/data as inputs"
    ):
        folder_with(tmp_path)("x.json")


def test_of_several_the_competition_wins_and_then_the_one_with_test_beside_it(tmp_path, put):
    find = folder_with(tmp_path)
    put("a-mirror", SAMPLE)
    with_test = put("datasets/x/b-mirror", SAMPLE, with_test=True)
    assert find(SAMPLE, OWN) == find(SAMPLE) == with_test
    own = put(f"competitions/{OWN}", SAMPLE)
    assert find(SAMPLE, OWN) == own
    assert find(SAMPLE) == with_test
    put(f"competitions/{OWN}", SAMPLE, with_test=True)
    put(f"competitions/{OWN}/copy", SAMPLE, with_test=True)  # below it: a part of the same input
    assert find(SAMPLE, OWN) == own


def test_of_two_data_sets_of_one_name_that_of_the_owner_wins(tmp_path, put):
    others = put("datasets/you/data"), put("datasets/me/older")
    own = put("datasets/me/data")
    assert folder_with(tmp_path)("mark.json", "me/data") == own
    named = " and ".join([own, others[1], others[0]])
    with pytest.raises(FileNotFoundError, match=f"^{named} hold a mark"):
        folder_with(tmp_path)("mark.json", "he/another")


def test_a_link_of_the_likely_name_is_taken_though_it_leads_elsewhere(tmp_path, put):
    put("datasets/you/mirror", SAMPLE, with_test=True)
    mounted = tmp_path / "mounted" / "17"
    (mounted / "test").mkdir(parents=True)
    (mounted / SAMPLE).touch()
    (tmp_path / "input" / OWN).symlink_to(mounted)
    assert folder_with(tmp_path)(SAMPLE, OWN) == str(tmp_path / "input" / OWN)


def test_a_tie_names_both_at_whatever_depth(tmp_path, put):
    places = put("a/b/c", SAMPLE, with_test=True), put("z", SAMPLE, with_test=True)
    put("y", SAMPLE)
    with pytest.raises(
        FileNotFoundError, match=f"^{places[0]} and {places[1]} hold a {SAMPLE} each: remove all"
    ):
        folder_with(tmp_path)(SAMPLE, OWN)


def test_links_are_followed_once_and_loops_end(tmp_path, put):
    own = put(f"competitions/{OWN}", SAMPLE, with_test=True)
    inputs = tmp_path / "input"
    (inputs / OWN).symlink_to(own)  # the old layout beside the new one
    (inputs / "competitions" / "up").symlink_to(inputs)
    (inputs / "self").symlink_to(inputs / "self")
    put(f"competitions/{OWN}/deep", "other.json")
    (inputs / "competitions" / OWN / "deep" / "round").symlink_to(inputs / "competitions")
    find = folder_with(tmp_path)
    assert Path(find(SAMPLE, OWN)).samefile(own)
    assert Path(find("other.json")).samefile(inputs / "competitions" / OWN / "deep")
    outside = tmp_path / "cache"
    outside.mkdir()
    (outside / "mark.json").touch()
    (inputs / "data").symlink_to(outside)
    assert find("mark.json") == str(inputs / "data")


def test_scans_of_a_data_set_are_not_walked_through(tmp_path, put, monkeypatch):
    put("competitions/some/train/00001/FLAIR", "Image-1.dcm")
    put("competitions/some", SAMPLE)
    put("datasets/train/data")
    seen, scan = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: seen.append(str(path)) or scan(path))
    assert folder_with(tmp_path)("mark.json").endswith("input/datasets/train/data")
    assert not [path for path in seen if "some/train" in path]
