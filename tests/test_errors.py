"""Errors can be printed, stored and shown whatever the names in them are."""

import json
import pickle

import pytest

from t4e_utils import T4EError, printable
from t4e_utils.scans.problems import VolumeError
from t4e_utils.tables.catalog import CatalogError


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\x1b[31m\x1b]0;t\x07", r"a\x1b[31m\x1b]0;t\x07"),  # colours and the window's title
        ("a\rb\x08\x7f\x9b2J", r"a\rb\x08\x7f\x9b2J"),  # written over, deleted, C1
        ("a\u202egnp.exe\u2066\u200f", r"a\u202egnp.exe\u2066\u200f"),  # another direction
        ("caf\udce9", r"caf\udce9"),  # bytes that are not UTF-8
        ("a\u2028b\u200b\ufeff", r"a\u2028b\u200b\ufeff"),
        ("Müller 山田 – 1 µm", "Müller 山田 – 1 µm"),
    ],
)
def test_what_steers_a_terminal_is_written_out(name, shown):
    assert printable(name) == shown
    for error in (CatalogError(f"The table {name} is odd."), VolumeError("gap", name, f"{name}.")):
        assert shown in str(error)
        assert name.isprintable() or name not in str(error)
        assert str(pickle.loads(pickle.dumps(error))) == str(error)
        json.dumps(str(error), ensure_ascii=False).encode()
    assert VolumeError("gap", name, "x").as_problem().path == shown


def test_lines_and_tabulators_of_a_sentence_stay_and_those_of_a_path_do_not():
    assert str(T4EError("one\n\ttwo")) == "one\n\ttwo"
    assert str(VolumeError("gap", "a\nb", "one\ntwo")) == "a\\nb: one\ntwo"
    assert T4EError(3).args == (3,)
