"""The ports without primitives: threads that anyio started, and a queue of turns in place of the stash."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass, field

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread

from papyra import Actor, ActorRef, ActorStopped, ActorSystem, Askable

# -- from Pykka: ThreadingActor with ask(block=True); here threads go through anyio


@dataclass(frozen=True)
class Add(Askable[int]):
    a: int
    b: int


class Adder(Actor):
    async def receive(self, message: Add) -> int:
        return message.a + message.b


def bookkeeping(adder: ActorRef[Add, int]) -> int:
    """Code of threads, as Pykka's users have it: it blocks until the answer is there."""
    total = 0
    for number in range(1, 5):
        total = anyio.from_thread.run(adder.ask, Add(total, number))
    return total


# -- from Akka: hakkers and chopsticks; a turn for each, and an actor that comes too early awaits it


@dataclass(eq=False)
class Turn:
    """A place in the queue for a chopstick."""

    who: str
    come: anyio.Event = field(default_factory=anyio.Event)
    stopped: bool = False


@dataclass(frozen=True)
class Take:
    """Use `take`, which waits for the turn."""

    turn: Turn


@dataclass(frozen=True)
class Put:
    turn: Turn


@dataclass(frozen=True)
class Look(Askable[str]):
    """Who has it?"""


class Chopstick(Actor):
    """Is in the hand of the first in the queue. It always answers who that is."""

    def __init__(self) -> None:
        self.turns: list[Turn] = []

    async def on_stop(self) -> None:
        for turn in self.turns:
            turn.stopped = True
            turn.come.set()

    async def receive(self, message: Take | Put | Look) -> str:
        match message:
            case Take(turn):
                self.turns.append(turn)
            case Put(turn) if turn in self.turns:
                self.turns.remove(turn)
            case _:
                pass
        if not self.turns:
            return "nobody"
        self.turns[0].come.set()
        return self.turns[0].who


async def take(stick: ActorRef[Take | Put | Look, str], who: str) -> Turn:
    turn = Turn(who)
    try:
        await stick.ask(Take(turn))
        await turn.come.wait()
    except BaseException:
        with anyio.CancelScope(shield=True), suppress(ActorStopped):
            await stick.tell(Put(turn))
        raise
    if turn.stopped:
        raise ActorStopped(stick)
    return turn


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
            turns = [await take(stick, self.name) for stick in self.sticks]
            await anyio.sleep(0.001)
            for stick, turn in zip(self.sticks, turns, strict=True):
                await stick.tell(Put(turn))
        return message.rounds


async def main() -> None:
    async with ActorSystem() as system:
        adder = system.spawn(Adder)
        print("sum:", await anyio.to_thread.run_sync(bookkeeping, adder))
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
