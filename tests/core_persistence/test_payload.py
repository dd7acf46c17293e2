"""Payloads: any value becomes JSON, and no value makes trouble."""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from enum import IntEnum

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from papyra.persistence.payload import clean_text, json_payload, kept_identity


class Weird:
    """A message whose methods all misbehave."""

    def __init__(self, raises: BaseException | None = None, text: object = "weird") -> None:
        self.raises, self.text = raises, text

    def __repr__(self) -> str:
        if self.raises is not None:
            raise self.raises
        return self.text  # type: ignore[return-value]  # what is returned is what is tested


class Impostor:
    """Says that it is a str, or raises when asked."""

    def __init__(self, claimed: object) -> None:
        self.claimed = claimed

    @property
    def __class__(self):  # type: ignore[override]  # lying is the point
        if isinstance(self.claimed, BaseException):
            raise self.claimed
        return self.claimed

    def __repr__(self) -> str:
        return "impostor"


class LoudText(str):
    """A str that raises whatever is done with it."""

    def __str__(self) -> str:
        return self

    def __len__(self) -> int:
        raise RuntimeError

    def isascii(self) -> bool:
        raise RuntimeError


class Color(IntEnum):
    RED = 1


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary()
    | st.just(object())
)
anything = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text(st.characters()) | st.integers() | st.none(), inner)
        | st.tuples(inner, inner)
        | st.sets(st.integers())
    ),
    max_leaves=20,
)


@given(anything)
@example("\ud800")
@example({"\udfff": ["\ud83d\ude00", math.nan]})
@example([[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]])
@example({"big": 2**64})
def test_the_result_is_always_json_and_utf8(value):
    payload = json_payload(value)
    text = json.dumps(payload, allow_nan=False, ensure_ascii=False)
    assert json.loads(text.encode("utf-8")) == payload


@pytest.mark.parametrize(
    "make",
    [
        lambda: Weird(ValueError("x")),
        lambda: Weird(SystemExit(1)),
        lambda: Weird(text=LoudText("x\ud800")),
        lambda: Weird(text=5),
        lambda: Impostor(str),
        lambda: Impostor(RuntimeError("no class")),
        lambda: LoudText("x"),
    ],
)
def test_objects_that_misbehave_become_text_anywhere(make):
    for value in (make(), [make()], {"a": {"b": make()}}, (1, make())):
        payload = json_payload(value)
        assert type(payload) is str
        json.dumps(payload, allow_nan=False).encode("utf-8")


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(plain)
def test_json_is_kept_as_it_is(value):
    assert repr(json_payload(value)) == repr(value)


def test_the_result_is_a_copy():
    inner: list[int] = [1]
    payload = json_payload({"inner": inner})
    inner.append(2)
    assert payload == {"inner": [1]}


def test_tuples_become_lists():
    assert json_payload((1, (2,))) == [1, [2]]


@pytest.mark.parametrize(
    "value",
    [Color.RED, OrderedDict(a=1), {1: "a"}, {"a": {1, 2}}, b"bytes", 2**64, -(2**63) - 1, math.inf, 1j],
    ids=repr,
)
def test_what_is_not_quite_json_is_stored_as_its_repr(value):
    assert json_payload(value) == repr(value)


def test_depth_and_number_of_parts_are_limited():
    deep: list[object] = []
    for _ in range(31):
        deep = [deep]
    assert json_payload(deep) == deep
    assert isinstance(json_payload([deep]), str)
    assert json_payload([1] * 9_999) == [1] * 9_999
    assert isinstance(json_payload([1] * 10_000), str)


def test_a_circle_is_stored_as_its_repr():
    circle: list[object] = []
    circle.append(circle)
    assert json_payload(circle) == "[[...]]"


def test_a_long_repr_is_cut_with_a_note():
    assert json_payload({1, "x" * 5000}, limit=10).endswith("more characters)")
    assert json_payload(Weird(text="x" * 5000)) == "x" * 4096 + "... (904 more characters)"
    # what is JSON is not cut
    assert json_payload("x" * 5000) == "x" * 5000


@pytest.mark.parametrize("error", [ValueError(), SystemExit(), RecursionError(), GeneratorExit()])
def test_a_repr_that_raises_is_named(error):
    assert json_payload(Weird(error)) == f"<Weird whose repr raised {type(error).__name__}>"


def test_only_an_interrupt_by_the_user_gets_through():
    with pytest.raises(KeyboardInterrupt):
        json_payload(Weird(KeyboardInterrupt()))


def test_an_object_that_lies_about_its_class_is_not_asked():
    assert json_payload(Impostor(str)) == "impostor"
    assert json_payload(Impostor(RuntimeError("no class"))) == "impostor"


@given(st.text(st.characters()), st.none() | st.integers(0, 5))
def test_clean_text_is_utf8(text, limit):
    cleaned = clean_text(text, limit)
    cleaned.encode("utf-8")
    if limit is None and text == text.encode("utf-8", "ignore").decode():
        assert cleaned == text
    if limit is not None and len(text) > limit:
        assert cleaned.endswith(f"({len(text) - limit} more characters)")


@pytest.mark.parametrize(
    ("payload", "kept"), [({"type": "A", "more": 1}, {"type": "A"}), ([1], {}), (None, {})]
)
def test_the_class_of_a_payload_that_is_too_long_is_kept(payload: object, kept: object) -> None:
    assert kept_identity(payload) == kept
