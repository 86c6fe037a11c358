"""6, 00006 and 6.0 are one patient, as long as no two folders share the number."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t4e_utils.tables import CatalogError
from t4e_utils.tables.ids import are_among, key_of, spelled_as


@given(st.integers(0, 10**20), st.integers(0, 8), st.sampled_from(["", ".", ".0", ".00", ",0"]))
def test_every_spelling_of_a_number_has_one_key(value, zeros, end):
    assert key_of(f" {'0' * zeros}{value}{end} ") == str(value) == key_of(value)


@pytest.mark.parametrize(
    "name", ["6.5", "-6", "6a", "ID_06", "1.2.840", "6e0", "NA", "nan", "ID_²"]
)
def test_what_is_no_number_is_its_text(name):
    assert key_of(name) == name


@pytest.mark.parametrize("name", ["６", "００００６", "٠٠٦", "６.0"])
def test_digits_of_other_keyboards_are_the_same_number(name):
    assert key_of(name) == "6"


def test_accents_are_compared_in_one_form():
    assert key_of(unicodedata.normalize("NFD", "José")) == unicodedata.normalize("NFC", "José")


def test_ids_are_among_others_by_their_keys():
    assert are_among(["6", "00007", "ID_8"], ["00006", 7, "ID_08"]) == [True, True, False]


def test_ids_take_the_spelling_of_the_folders_and_one_problem_says_so():
    spelled, problems = spelled_as(
        ["6", "00008", "NA", "13.0"], ["00006", "00008", "00013"], path="sample.csv"
    )
    assert spelled == ["00006", "00008", "NA", "00013"]
    [problem] = problems
    assert (problem.code, problem.path) == ("id_spelling", "sample.csv")
    assert problem.sentence.startswith(
        "2 of 4 ids are spelled otherwise than their folders, such as 6 for 00006"
    )


def test_folders_of_one_number_stay_apart_and_a_third_spelling_is_refused():
    folders = ["6", "00006"]
    assert spelled_as(["00006", "6"], folders, path="t.csv") == (["00006", "6"], [])
    with pytest.raises(
        CatalogError, match=r"t\.csv names 006, which can be any of the folders 00006, 6: write"
    ):
        spelled_as(["006"], folders, path="t.csv")


def test_two_ids_of_one_folder_are_refused():
    with pytest.raises(CatalogError, match=r"t\.csv names one patient twice, as 6 and as 00006"):
        spelled_as(["6", "00006"], ["00006"], path="t.csv")
    with pytest.raises(CatalogError, match=r"as 00006 and as 6\.0: keep one row"):
        spelled_as(["00006", "6.0"], ["00006"], path="t.csv")
    assert spelled_as(["6", "00006"], ["00007"], path="t.csv") == (["6", "00006"], [])
