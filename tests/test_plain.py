"""Records come back from their plain JSON, and nothing else is taken for one."""

import dataclasses
import enum
import json
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vit_edge import plain
from vit_edge.plain import Mark, Within


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass(frozen=True)
class Inner:
    text: str
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Everything:
    count: int
    share: Annotated[float, Within(0, 1)]
    ratio: Annotated[float, Mark.INFINITE]
    sure: bool
    colour: Colour | None
    bits: Literal[4, 8]
    digest: Annotated[str, Mark.SHA256]
    pair: tuple[int, str]
    several: tuple[Inner, ...]
    named: Mapping[str, Annotated[float, Within(-1, 1)]]
    flat: Annotated[Inner, Mark.FLAT]
    later: Annotated[int, Mark.ABSENT] = 7
    rare: Annotated[str | None, Mark.OMITTED] = None
    made: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "made", self.count + 1)


FULL = Everything(
    count=3,
    share=0.5,
    ratio=math.inf,
    sure=True,
    colour=Colour.BLUE,
    bits=4,
    digest="0" * 64,
    pair=(1, "one"),
    several=(Inner("a"), Inner("b", "c")),
    named={"x": -0.25},
    flat=Inner("flat"),
)


def raw(**changes: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(plain.of(FULL), allow_nan=False))
    return found | changes


def test_a_record_comes_back_from_json() -> None:
    assert plain.read(Everything, raw(), "it") == FULL


def test_marks_say_how_a_value_is_written() -> None:
    found = plain.of(FULL)
    assert found["ratio"] is None
    assert found["colour"] == "blue"
    assert (found["text"], found["note"]) == ("flat", "")
    assert "rare" not in found
    assert plain.of(dataclasses.replace(FULL, rare="x"))["rare"] == "x"
    assert found["made"] == 4


@given(
    count=st.integers(0, 2**53),
    share=st.floats(0, 1),
    ratio=st.floats(allow_nan=False),
    names=st.dictionaries(st.text(), st.floats(-1, 1), max_size=3),
    text=st.text(min_size=1),
    rare=st.none() | st.text(min_size=1),
)
def test_whatever_its_fields_allow_comes_back(
    count: int, share: float, ratio: float, names: dict[str, float], text: str, rare: str | None
) -> None:
    ratio = abs(ratio)  # minus infinity has no null of its own
    record = dataclasses.replace(
        FULL, count=count, share=share, ratio=ratio, named=names, flat=Inner(text), rare=rare
    )
    assert plain.read(Everything, json.loads(json.dumps(plain.of(record))), "it") == record


def test_keys_that_older_files_lack_have_their_defaults() -> None:
    old = raw()
    del old["later"]
    assert plain.read(Everything, old, "it").later == 7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": -1}, "it count must be an integer from 0"),
        ({"count": 1.0}, "it count must be an integer"),
        ({"count": True}, "it count must be an integer"),
        ({"share": 1.5}, "it share must be from 0 to 1, got 1.5"),
        ({"share": None}, "it share must be a finite number"),
        ({"ratio": "much"}, "it ratio must be a finite number"),
        ({"sure": 1}, "it sure must be true or false"),
        ({"colour": "green"}, "it colour must be one of red, blue"),
        ({"bits": 7}, "it bits must be one of 4, 8"),
        ({"bits": 4.0}, "it bits must be one of 4, 8"),
        ({"digest": "0"}, "it digest must be 64"),
        ({"pair": [1]}, "it pair must be a list of 2"),
        ({"pair": ["one", "one"]}, "each item of it pair must be an integer"),
        ({"several": {}}, "it several must be a list"),
        ({"several": [{"text": "a", "note": "", "more": 1}]}, "each item of it several has the unknown key"),
        ({"several": [{"text": "", "note": ""}]}, "each item of it several text must be a non-empty string"),
        ({"several": [{"text": "a"}]}, "each item of it several lacks the key 'note'"),
        ({"named": {"x": 2}}, "it named 'x' must be from -1 to 1"),
        ({"text": 3}, "it text must be a non-empty string"),
        ({"rare": ""}, "it rare must be a non-empty string"),
        ({"more": 1}, "it has the unknown key 'more'"),
    ],
)
def test_what_a_field_cannot_be_is_refused_by_name(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plain.read(Everything, raw(**changes), "it")


@pytest.mark.parametrize("name", [name for name in raw() if name not in ("later", "made")])
def test_every_other_key_is_required(name: str) -> None:
    cut = raw()
    del cut[name]
    with pytest.raises(ValueError, match=f"lacks the key '{name}'"):
        plain.read(Everything, cut, "it")


@pytest.mark.parametrize("whole", [None, [], "text", 3, {1: 2}])
def test_what_is_no_object_is_refused(whole: object) -> None:
    with pytest.raises(ValueError, match="it must be an object"):
        plain.read(Everything, whole, "it")


def test_where_further_keys_are_allowed_they_are_skipped_and_defaults_stand_in() -> None:
    later = raw(more=1, several=[{"text": "a", "colour": "red"}])
    assert plain.read(Everything, later, "it", further=True).several == (Inner("a"),)
    with pytest.raises(ValueError, match="lacks the key 'bits'"):
        plain.read(Everything, {"text": "a"}, "it", further=True)


def test_every_key_is_named() -> None:
    assert plain.key_names(Everything) == set(raw()) | {"rare", "text", "note"}
