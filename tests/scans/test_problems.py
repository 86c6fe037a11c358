"""Problems of many files are one; errors keep their code on every way."""

from __future__ import annotations

import pickle
import warnings

import pytest
from helpers.dicom_series import array_of, written

from t4e_utils.scans.dicom_series import read_dicom_series
from t4e_utils.scans.problems import VolumeError, merged, warnings_as_problems


def test_an_error_comes_back_whole_from_another_process():
    error = VolumeError("damaged", "a/b", "It is damaged.")
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.code, copy.path, str(copy)) == ("damaged", "a/b", "a/b: It is damaged.")


def test_one_problem_stands_for_all_files_that_have_it_however_often():
    problems = [VolumeError("damaged", path, "It is damaged.").as_problem() for path in "abacb"]
    assert [problem.sentence for problem in merged(problems)] == [
        "It is damaged. (and 2 more files)"
    ]


def test_only_what_a_reader_says_to_its_user_becomes_a_problem(tmp_path):
    problems = []

    def read() -> None:
        with warnings_as_problems(tmp_path, problems):
            warnings.warn("padded\n  twice", UserWarning, stacklevel=1)
            warnings.warn("old", DeprecationWarning, stacklevel=1)

    with pytest.warns(DeprecationWarning, match="old"):
        read()
    assert [problem.sentence for problem in problems] == ["The reader warned: padded twice"]


def test_equal_problems_of_many_files_are_one(tmp_path):
    folder = written(tmp_path / "s", array_of())
    for i in (1, 3, 4):
        (folder / f"Image-{i}.dcm").write_bytes(b"text")
    problems = read_dicom_series(folder).meta["problems"]
    assert len(problems) == 1
    assert problems[0].sentence.endswith("(and 2 more files)")


def test_different_kinds_of_refusal_have_one_code_for_the_series(tmp_path):
    folder = written(tmp_path / "s", array_of((2, 3, 4)))
    (folder / "Image-1.dcm").write_bytes(b"text")
    (folder / "Image-2.dcm").write_bytes((folder / "Image-2.dcm").read_bytes()[:-3])
    with pytest.raises(VolumeError, match="None of the 2 files is a readable image") as refused:
        read_dicom_series(folder)
    assert (refused.value.code, refused.value.path) == ("no_images", str(folder))
