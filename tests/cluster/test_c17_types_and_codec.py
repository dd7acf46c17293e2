"""Promise 17: wrong types are reported by mypy and pyright; and the test mode finds what can't travel."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass, field

import pytest
from _world import Add, Counter, Strange, Unregistered

from papyra import Actor, ActorSystem
from papyra_contrib.cluster import MessageRejected, RemoteFailure, message
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


class Keeper(Actor):
    def __init__(self) -> None:
        self.basket = Basket()

    async def receive(self, message: object) -> object:
        if isinstance(message, Basket):
            self.basket = message
            message.items.append("seen")
        if message == "strange":
            raise Strange("very")
        return self.basket


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
