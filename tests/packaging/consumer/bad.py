"""Mistakes: every line with the word ERROR must be reported by mypy and by pyright, and no other line."""

from __future__ import annotations

import papyra
from papyra import Actor, ActorRef, ActorSystem
from papyra.persistence import open_backend


class Doubler(Actor):
    async def receive(self, message: int) -> int:
        return 2 * message


class Needy(Actor):
    def __init__(self, name: str) -> None:
        self.name = name

    async def receive(self, message: str) -> str:
        return self.name + message


async def main(system: ActorSystem) -> None:
    doubler = system.spawn(Doubler)
    await doubler.tell("two")  # ERROR
    await doubler.ask(b"two")  # ERROR
    text: str = await doubler.ask(2)  # ERROR
    wrong: ActorRef[str, int] = doubler  # ERROR
    system.spawn(42)  # ERROR
    system.spawn(Doubler())  # ERROR
    system.spawn(Needy)  # ERROR
    system.spawn(Needy, 5)  # ERROR
    system.spawn(Needy, "a", "b")  # ERROR
    system.spawn(Doubler, 5)  # ERROR
    system.spawn(Doubler, nome="d")  # ERROR
    system.spawn(Doubler, policy="restart")  # ERROR
    await system.stop("doubler")  # ERROR
    open_backend(None)  # ERROR
    print(papyra.Actr)  # ERROR
    from papyra import Actr  # noqa: F401 - it is not there  # ERROR

    print(text, wrong)
