"""The smallest useful program: a counter, with everything that happens to it on record in ./papyra.ndjson."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import anyio

from papyra import Actor, ActorSystem
from papyra.persistence.json import JsonFilePersistence


@dataclass(slots=True)
class Increment:
    by: int = 1


class Counter(Actor):
    def __init__(self) -> None:
        self.value = 0

    async def receive(self, message: Increment | Literal["get"]) -> int:
        if isinstance(message, Increment):
            self.value += message.by
        return self.value


async def main() -> None:
    persistence = JsonFilePersistence("./papyra.ndjson")
    async with ActorSystem(persistence=persistence) as system:
        counter = system.spawn(Counter, name="counter")
        await counter.tell(Increment())
        await counter.tell(Increment(by=2))
        print("counter =", await counter.ask("get"))
        system.audit()


if __name__ == "__main__":
    anyio.run(main)
