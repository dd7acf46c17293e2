"""A saga: book several things one after the other, and undo what was booked if a later step fails or takes
too long.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import anyio

from papyra import Actor, ActorRef, ActorSystem, Askable, AskTimeout, Reject, ask_all


@dataclass(frozen=True)
class Book(Askable[str]):
    trip: str


@dataclass(frozen=True)
class Cancel(Askable[bool]):
    trip: str


class Refused(Exception):
    """A service has no place left."""


class Service(Actor):
    """Books places, one per trip."""

    def __init__(self, name: str, places: int, seconds: float = 0.0) -> None:
        self.name, self.places, self.seconds = name, places, seconds
        self.booked: set[str] = set()

    async def receive(self, message: Book | Cancel) -> str | bool:
        match message:
            case Book(trip):
                await anyio.sleep(self.seconds)
                if len(self.booked) == self.places:
                    raise Reject(Refused(f"{self.name} is full"))  # the asker's problem, not this actor's
                self.booked.add(trip)
                return f"{self.name} for {trip}"
            case Cancel(trip):
                booked = trip in self.booked
                self.booked.discard(trip)
                return booked


@dataclass(frozen=True)
class Travel(Askable[list[str]]):
    trip: str


class Agency(Actor):
    """Runs each trip in a task of its own, and answers when it is over; so trips run side by side."""

    def __init__(self, *services: ActorRef[Book | Cancel, str | bool]) -> None:
        self.services = services

    async def receive(self, message: Travel) -> list[str]:
        handle = self.context.reply_later()
        self.context.pipe_to_self(lambda: self.book(message.trip), then=handle.send, catch=handle.fail)
        return handle.later

    async def book(self, trip: str) -> list[str]:
        done: list[str] = []
        for step, service in enumerate(self.services):
            try:
                done.append(await service.ask(Book(trip), timeout=0.2))
            except (Refused, AskTimeout):
                # Also the step that timed out: it may have been booked after all.
                await ask_all(*(each.request(Cancel(trip)) for each in self.services[: step + 1]))
                raise
        return done


async def main() -> None:
    async with ActorSystem() as system:
        flight = system.spawn(Service, "flight", 5)
        hotel = system.spawn(Service, "hotel", 1)
        slow = system.spawn(Service, "slow hotel", 5, 0.5)
        agency = system.spawn(Agency, flight, hotel)
        late = system.spawn(Agency, flight, slow)
        print(await agency.ask(Travel("Rome")))
        for who, trip in ((agency, "Oslo"), (late, "Lima")):
            try:
                await who.ask(Travel(trip))
            except (Refused, AskTimeout) as error:
                print(trip, "was undone:", type(error).__name__)
        left = await flight.proxy().booked
        print("booked flights:", *left)


if __name__ == "__main__":
    anyio.run(main, backend=sys.argv[1] if len(sys.argv) > 1 else "asyncio")
