"""Addresses: what they look like, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from papyra import ActorAddress

SYSTEMS = st.text(min_size=1).filter(lambda text: re.fullmatch(r"[^:/\s]+", text) is not None)
ADDRESSES = st.builds(ActorAddress, SYSTEMS, st.integers(min_value=0))
FORM = re.compile(r"([^:/\s]+):(//)?([0-9]+)")


@given(ADDRESSES)
def test_an_address_comes_back_from_its_text_and_its_dict(address: ActorAddress) -> None:
    assert ActorAddress.parse(str(address)) == address
    assert ActorAddress.parse(f"{address.system}://{address.actor_id}") == address
    assert ActorAddress.from_dict(address.to_dict()) == address
    assert ActorAddress.from_dict(json.loads(json.dumps(address.to_dict()))) == address
    assert str(address) == f"{address.system}:{address.actor_id}"


@given(st.one_of(st.text(), st.from_regex(r"[a:/ ]{0,3}:?(//)?[0-9٣x]{0,3}\n?")))
def test_any_text_is_an_address_or_a_value_error_that_shows_it(text: str) -> None:
    match = FORM.fullmatch(text)
    if match is not None:
        assume(len(match[3]) < 4_000)
        assert ActorAddress.parse(text) == ActorAddress(match[1], int(match[3]))
        return
    with pytest.raises(ValueError, match="not an actor address") as caught:
        ActorAddress.parse(text)
    assert repr(text) in str(caught.value)


@given(ADDRESSES, ADDRESSES)
def test_addresses_are_equal_and_hash_by_value(one: ActorAddress, other: ActorAddress) -> None:
    assert (one == other) == (one.to_dict() == other.to_dict())
    assert hash(one) == hash(ActorAddress(one.system, one.actor_id))
    assert len({one, other}) == (1 if one == other else 2)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "has no ':'"),
        ("local", "has no ':'"),
        (":1", "names no system"),
        ("://1", "names no system"),
        ("local:", "has no number"),
        ("local://", "has no number"),
        ("local:x", "has 'x' where the number belongs"),
        ("local:-1", "where the number belongs"),
        ("local:1.0", "where the number belongs"),
        ("local: 1", "where the number belongs"),
        ("local:1 ", "where the number belongs"),
        ("local:1\n", "where the number belongs"),
        ("local:/1", "where the number belongs"),
        ("local:////1", "where the number belongs"),
        ("a:b:1", "where the number belongs"),
        ("a b:1", "white space"),
        ("a/b:1", "'/'"),
    ],
)
def test_the_error_says_what_is_wrong(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)):
        ActorAddress.parse(text)


@pytest.mark.parametrize("text", ["local:٣", "local:²", "local://٣"])
def test_digits_of_other_scripts_are_refused_and_named(text: str) -> None:
    with pytest.raises(ValueError, match="where the number belongs"):
        ActorAddress.parse(text)


@pytest.mark.parametrize("text", [None, 1, b"local:1", ActorAddress("local", 1), ["local:1"]])
def test_an_object_that_is_not_a_text_is_a_value_error_too(text: Any) -> None:
    with pytest.raises(ValueError, match="an actor address is a string"):
        ActorAddress.parse(text)


def test_a_number_of_very_many_digits_is_a_value_error() -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - Python's own text or ours
        ActorAddress.parse("local:" + "9" * 10_000)


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"system": "local"},
        {"actor_id": 1},
        {"system": "local", "actor_id": 1, "more": 2},
        {"system": 1, "actor_id": 1},
        {"system": "local", "actor_id": "1"},
        {"system": "local", "actor_id": True},
        {"system": "local", "actor_id": None},
        {"system": "local", "actor_id": 1.0},
    ],
)
def test_a_dict_with_other_keys_or_types_is_a_value_error(data: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="actor address"):
        ActorAddress.from_dict(data)


def test_an_address_is_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ActorAddress("local", 1).actor_id = 2  # type: ignore[misc]  # on purpose
