"""Ports: Pykka's plain calculator with threads around it, and Akka's classic dining hakkers with stash and
behaviours.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import anyio
import anyio.lowlevel
import anyio.to_thread

from papyra import Actor, ActorRef, ActorSystem, Askable, Portal

# -- from Pykka: ThreadingActor with ask(block=True); here threads go through a portal


@dataclass(frozen=True)
class Add(Askable[int]):
    a: int
    b: int


class Adder(Actor):
    async def receive(self, message: Add) -> int:
        return message.a + message.b


def bookkeeping(portal: Portal, adder: ActorRef[Add, int]) -> int:
    """Code of threads, as Pykka's users have it: it blocks until the answer is there."""
    total = 0
    for number in range(1, 5):
        total = portal.ask(adder, Add(total, number))
    return total


# -- from Akka: hakkers and chopsticks; become() for states, stash() for messages that come too early


@dataclass(frozen=True)
class Take(Askable[str]):
    who: str


@dataclass(frozen=True)
class Put:
    who: str


@dataclass(frozen=True)
class Look(Askable[str]):
    """Who has it?"""


class Chopstick(Actor):
    """Is on the table, or in a hand; then others wait in the stash. It always answers who has it."""

    async def receive(self, message: Take | Put | Look) -> str:
        match message:
            case Take(who):
                self.who = who
                self.become(self.taken)
                return who
            case Look():
                return "nobody"
            case Put():
                return self.context.unhandled(message)

    async def taken(self, message: Take | Put | Look) -> str:
        match message:
            case Put(who) if who == self.who:
                self.unbecome()
                self.context.unstash_all()
            case Take():
                return self.context.stash(message)
            case Put():
                return self.context.unhandled(message)
            case Look():
                pass
        return self.who


@dataclass(frozen=True)
class Dine(Askable[int]):
    rounds: int


class Hakker(Actor):
    """Thinks and eats. The lower chopstick comes first, so nobody starves in a circle."""

    def __init__(self, name: str, *sticks: ActorRef[Take | Put | Look, str]) -> None:
        self.name = name
        self.sticks = sorted(sticks, key=lambda ref: ref.address.actor_id)

    async def receive(self, message: Dine) -> int:
        for _ in range(message.rounds):
            for stick in self.sticks:
                await stick.ask(Take(self.name))
            await anyio.sleep(0.001)
            for stick in self.sticks:
                await stick.tell(Put(self.name))
        return message.rounds


async def main() -> None:
    async with ActorSystem() as system:
        adder = system.spawn(Adder)
        print("sum:", await anyio.to_thread.run_sync(bookkeeping, system.portal(), adder))
        sticks = [system.spawn(Chopstick) for _ in range(5)]
        names = ["Ghosh", "Boner", "Klang", "Krasser", "Manie"]
        hakkers = [
            system.spawn(Hakker, name, sticks[place], sticks[(place + 1) % 5])
            for place, name in enumerate(names)
        ]
        meals: list[int] = []

        async def dine(hakker: ActorRef[Dine, int]) -> None:
            meals.append(await hakker.ask(Dine(3)))

        async with anyio.create_task_group() as tasks:
            for hakker in hakkers:
                tasks.start_soon(dine, hakker)
            while (eater := await sticks[0].ask(Look())) == "nobody":
                await anyio.lowlevel.checkpoint()
            print("somebody eats:", eater in names)
        print("meals:", sum(meals), "letters:", system.dead_letters.count)


if __name__ == "__main__":
    anyio.run(main, backend=sys.argv[1] if len(sys.argv) > 1 else "asyncio")
