"""Promise 17: wrong types are reported by mypy and pyright; and the test mode finds what can't travel."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass, field

import pytest
from _world import Add, Counter, Strange, Unregistered

from papyra import Actor, ActorSystem
from papyra_contrib.cluster import Cluster, MessageRejected, RemoteFailure, _messages, message
from papyra_contrib.cluster import testing as cluster_testing
from papyra_contrib.cluster._discovery import open_codec
from papyra_contrib.cluster._wire.values import WireValues
from papyra_contrib.cluster.testing import through_codec

PROGRAM = """
from papyra import Actor, ActorSystem
from papyra_contrib.cluster import Cluster, Fence, ServiceKey

KEY = ServiceKey[int, str]("key")


class Right(Actor):
    async def receive(self, message: int) -> str:
        return str(message)


class Wrong(Actor):
    async def receive(self, message: str) -> int:
        return len(message)


async def main(system: ActorSystem, cluster: Cluster) -> None:
    await cluster.register(KEY, system.spawn(Right))
    await cluster.register(KEY, system.spawn(Wrong))  # error
    (ref,) = cluster.find(KEY)
    await ref.tell(1)
    await ref.tell("x")  # error
    reply: str = await ref.ask(1)
    wrong: int = await ref.ask(1)  # error
    await system.cluster.register(KEY, system.spawn(Wrong))  # error
    held = cluster.lookup(KEY)
    if held is not None:
        await held.tell("x")  # error
    print(reply, wrong)
"""
ERRORS = {number for number, line in enumerate(PROGRAM.splitlines(), 1) if "# error" in line}


@pytest.mark.parametrize("checker", ["mypy", pytest.param("pyright", marks=pytest.mark.sweep)])
def test_c17_wrong_types_are_reported(checker, tmp_path):
    binary = shutil.which(checker, path=sysconfig.get_path("scripts"))
    if binary is None:
        pytest.skip(f"{checker} is not installed")
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    options = ["--strict", "--no-error-summary"] if checker == "mypy" else ["--pythonpath", sys.executable]
    ran = subprocess.run(
        [binary, *options, str(path)], capture_output=True, text=True, check=False, cwd=tmp_path, timeout=170
    )
    lines = [line for line in ran.stdout.splitlines() if "error" in line and "program.py:" in line]
    found = {int(line.split("program.py:")[1].split(":")[0]) for line in lines}
    assert found == ERRORS, ran.stdout


@message("test.Basket")
@dataclass
class Basket:
    items: list[str] = field(default_factory=list)


class Plain:
    pass


@message("test.Odd")
@dataclass
class Odd:
    field: object = None
    plain: Plain | None = None


class Keeper(Actor):
    def __init__(self) -> None:
        self.basket = Basket()

    async def receive(self, message: object) -> object:
        if isinstance(message, Basket):
            self.basket = message
            message.items.append("seen")
        if message == "strange":
            raise Strange("very")
        if message == "value error":
            raise ValueError("no good")
        return message if isinstance(message, Odd) else self.basket


async def test_through_codec_shows_what_cannot_travel_and_what_was_shared():
    async with ActorSystem() as system:
        with through_codec(system):
            counter = system.spawn(Counter, name="counter")
            with pytest.raises(MessageRejected):
                await counter.tell(Unregistered())
            assert await counter.ask(Add(2)) == 2
            with pytest.raises(MessageRejected):
                await counter.ask("unregistered")
            keeper = system.spawn(Keeper, name="keeper")
            mine = Basket(["a"])
            theirs = await keeper.ask(mine)
            assert (mine.items, theirs.items) == (["a"], ["a", "seen"])
            with pytest.raises(RemoteFailure):
                await keeper.ask("strange")
            with pytest.raises(ValueError, match="no good"):
                await keeper.ask("value error")
            with pytest.raises(MessageRejected, match=r"Odd can't be encoded.*Plain can't be encoded"):
                await keeper.ask(Odd(Plain()))
            gone = system.spawn(Counter)
            await system.stop(gone)
            with pytest.raises(MessageRejected, match=r"no actor has the address '.*' any more"):
                await counter.ask(Add(1, reply_to=gone))
            assert await counter.ask(Add(1, reply_to=counter)) in (3, 4)
        plain = system.spawn(Keeper)
        assert await plain.ask(mine) is mine


def test_c17_nats_without_its_extra_says_what_to_install():
    code = (
        "import sys; sys.modules['nats'] = None\n"
        "from papyra_contrib.cluster import Cluster\n"
        "Cluster('nats://127.0.0.1:4222/shop')"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "papyra-contrib[nats]" in ran.stderr
    code = "import papyra, sys; sys.modules['papyra_contrib'] = None\npapyra.ActorSystem(cluster='nope:x')"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "no cluster for the scheme 'nope'" in ran.stderr


async def test_c17_a_message_whose_types_are_not_known_at_run_time_fails_the_start(monkeypatch):
    for registrations in ("_by_name", "_by_type"):
        monkeypatch.setattr(_messages, registrations, getattr(_messages, registrations).copy())

    @message("test.Lost")
    @dataclass
    class Lost:
        value: "Nowhere"  # noqa: F821, UP037 - the point of the test

    system = ActorSystem(system_id="a", cluster=Cluster("memory:types"))
    with pytest.raises(TypeError, match=r"'test.Lost'.*can't be decoded.*outside of `if TYPE_CHECKING`"):
        await system.start()
    await system.aclose()


def test_c17_a_field_of_a_type_without_a_decoder_is_rejected_when_it_comes():
    values = WireValues(open_codec("msgspec"), None, 1000)
    assert values.load("test.Odd", b'{"plain": null}') == Odd()
    with pytest.raises(MessageRejected, match="Plain'> can't be decoded") as rejected:
        values.load("test.Odd", b'{"plain": {}}')
    assert rejected.value.code == "invalid"


def test_c17_a_message_needs_an_encoder_and_a_decoder_or_neither():
    with pytest.raises(ValueError, match="needs both encode= and decode=, or neither"):
        message("test.Half", encode=bytes)


def test_c17_the_names_of_the_test_tools_are_listed():
    assert dir(cluster_testing) == ["MemoryNetwork", "TransportConformance", "through_codec"]
    with pytest.raises(AttributeError, match="has no attribute 'nope'"):
        _ = cluster_testing.nope


def test_c17_the_codec_without_its_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "msgspec", None)
    monkeypatch.delitem(sys.modules, "papyra_contrib.cluster.codec")
    with pytest.raises(ImportError, match=r"papyra-contrib\[cluster\]"):
        importlib.import_module("papyra_contrib.cluster.codec")
