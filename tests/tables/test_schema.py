"""What a file states against a dataclass: nothing is converted, and the first fault is named."""

import json
from dataclasses import dataclass, field
from typing import Annotated

import pytest
from pydantic import Field

from t4e_utils.tables.schema import SchemaError, conform


@dataclass(frozen=True)
class Inner:
    name: str


@dataclass(frozen=True)
class Stated:
    size: Annotated[int, Field(ge=1, le=100)]
    share: Annotated[float, Field(ge=0, le=1)] = 0.5
    is_flat: bool = False
    window: tuple[float, float] = (0.0, 1.0)
    inner: list[Inner] = field(default_factory=list)


def test_values_come_back_as_the_dataclass():
    stated = {"size": 3, "share": 1, "window": [2, 3.5], "inner": [{"name": "a"}]}
    assert conform(Stated, stated) == Stated(3, 1.0, window=(2.0, 3.5), inner=[Inner("a")])
    assert conform(Stated, {"size": 3}) == Stated(3)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"size": 3.0}, r"size is 3\.0, and should be a valid integer"),
        ({"size": True}, r"size is True, and should be a valid integer"),
        ({"size": "3"}, r"size is '3', and should be a valid integer"),
        ({"size": None}, "size is None, and should be a valid integer"),
        ({"size": 10**9}, "size is 1000000000, and should be less than or equal to 100"),
        ({"size": 10**400}, r"size is '?10{70,80}.*\.\.\., and should be"),
        ({"share": float("nan")}, "share is nan, and should be"),
        ({"share": float("inf")}, "share is inf, and should be less"),
        ({"share": -0.1}, r"share is -0\.1, and should be greater"),
        ({"is_flat": 1}, "is_flat is 1, and should be a valid boolean"),
        ({"window": [1]}, r"window\.1 is missing"),
        ({"window": {"a": 1}}, "window is {'a': 1}, and should be"),
        ({"inner": [{"name": "a"}, {}]}, r"inner\.1\.name is missing"),
        ({"seize": 3}, "seize is not known"),
    ],
)
def test_the_first_fault_is_named_with_its_value(changes, sentence):
    with pytest.raises(SchemaError, match=sentence):
        conform(Stated, {"size": 3, **changes})


@pytest.mark.parametrize("stated", [None, 3, "text", [{"size": 3}], []])
def test_what_is_no_object_is_refused(stated):
    with pytest.raises(SchemaError, match=r"it is .*, and should be an object"):
        conform(Stated, stated)


def test_infinity_as_json_may_write_it_is_refused():
    with pytest.raises(SchemaError, match="share is inf"):
        conform(Stated, json.loads('{"size": 3, "share": 1e999}'))


def test_other_keys_can_be_left_aside_and_defaults_can_be_asked_for():
    assert conform(Stated, {"size": 3, "more": object}, is_part=True) == Stated(3)
    with pytest.raises(SchemaError, match="share, is_flat, window, inner is missing"):
        conform(Stated, {"size": 3}, is_whole=True)
    with pytest.raises(SchemaError, match="size is missing"):
        conform(Stated, {})
