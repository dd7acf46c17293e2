"""Promise 1: the exceptions of a fixed table come as themselves, any other as a `RemoteFailure`."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from _world import remote, seeded, systems

from papyra import Actor
from papyra_contrib.cluster import RemoteFailure, _messages, message
from papyra_contrib.cluster._discovery import open_codec
from papyra_contrib.cluster._wire.values import WireValues
from papyra_contrib.cluster.testing import MemoryNetwork

TABLE = (
    ValueError,
    KeyError,
    TypeError,
    LookupError,
    RuntimeError,
    PermissionError,
    TimeoutError,
    NotImplementedError,
    ArithmeticError,
)
OTHERS = (IndexError, ZeroDivisionError, UnicodeError, FileNotFoundError, OSError, MemoryError, EOFError)


def named(name: str) -> type[Exception]:
    return type(name, (Exception,), {"__module__": "elsewhere"})


NAMESAKES = {name: named(name) for name in ("TimeoutError", "ActorStopped", "test.Refused")}


class Namesakes(Actor):
    """Raises an exception with the name of another class, and takes other messages."""

    async def receive(self, message: str) -> str:
        if message in NAMESAKES:
            raise NAMESAKES[message]("why")
        return message


@pytest.mark.parametrize("name", NAMESAKES)
@seeded(1)
async def test_c01_an_exception_does_not_come_as_its_namesake(name):
    async with systems(MemoryNetwork(1), "a", "b") as (a, b):
        ref = await remote(b, a.spawn(Namesakes, name="namesakes"), a)
        with pytest.raises(RemoteFailure, match="why") as raised:
            await ref.ask(name)
        assert raised.value.type_name == f"elsewhere.{name}"
        assert await ref.ask("alive") == "alive"


@message("test.Two")
class Two(Exception):
    def __init__(self, one: str, other: str) -> None:
        super().__init__(one, other)


class Unreadable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Rare(Actor):
    async def receive(self, message: str) -> None:
        raise Two("one", "other") if message == "two" else Unreadable()


@pytest.mark.parametrize(
    ("name", "type_name", "text"),
    [("two", "test.Two", "one.*other"), ("text", "Unreadable", "<the text of this exception raised>")],
)
@seeded(1)
async def test_c01_an_exception_that_cannot_be_made_or_shown_is_a_remote_failure(name, type_name, text):
    async with systems(MemoryNetwork(1), "a", "b") as (a, b):
        ref = await remote(b, a.spawn(Rare, name="rare"), a)
        with pytest.raises(RemoteFailure, match=text) as raised:
            await ref.ask(name)
        assert raised.value.type_name == type_name


class Raises(Actor):
    """Raises the exception whose name it gets."""

    async def receive(self, message: str) -> None:
        raise next(kind for kind in (*TABLE, *OTHERS) if kind.__name__ == message)("why")


@pytest.mark.parametrize("kind", [*TABLE, *OTHERS])
@seeded(1)
async def test_c01_an_exception_comes_as_itself_or_as_a_remote_failure(kind):
    async with systems(MemoryNetwork(1), "a", "b") as (a, b):
        ref = await remote(b, a.spawn(Raises, name="raises"), a)
        with pytest.raises(kind if kind in TABLE else RemoteFailure) as raised:
            await ref.ask(kind.__name__)
        if kind in TABLE:
            assert type(raised.value) is kind
            assert raised.value.args == ("why",)
        else:
            assert raised.value.type_name == kind.__name__
            assert "why" in str(raised.value)


@pytest.fixture
def own_registrations(monkeypatch):
    monkeypatch.setattr(_messages, "_by_name", dict(_messages._by_name))
    monkeypatch.setattr(_messages, "_by_type", dict(_messages._by_type))


def values():
    return WireValues(open_codec("msgspec"), None, 1000)


@pytest.mark.usefixtures("own_registrations")
@pytest.mark.parametrize("name", ["KeyError", "ActorStopped"])
def test_c01_no_other_exception_class_gets_the_name_of_a_fixed_one(name):
    """Or whether a `KeyError` came as itself would depend on what is registered where."""
    with pytest.raises(ValueError, match=f"{name}' is taken by <class"):
        message(name)(named(name))
    assert message(name)(dataclass(type(name, (), {}))).__name__ == name  # a message is not an error
    error = values().load_error(*values().dump_error(KeyError("why")), None)
    assert (type(error), error.args) == (KeyError, ("why",))


@pytest.mark.usefixtures("own_registrations")
def test_c01_an_exception_that_only_the_asker_has_registered_is_a_remote_failure():
    sent = values().dump_error(named("Late")("why"))
    message("Late")(named("Late"))
    error = values().load_error(*sent, None)
    assert isinstance(error, RemoteFailure)
    assert error.type_name == "Late"
    with pytest.raises(ValueError, match="and not begin with '-'"):
        message("-Late")
