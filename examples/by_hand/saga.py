"""The saga without primitives: an actor for each trip in place of a deferred reply, and refusals as values.

It promises less than its twin: a caller that is cancelled at a bad moment leaves an idle actor behind.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import anyio

from papyra import Actor, ActorRef, ActorSystem, Askable, AskTimeout


class Refused(Exception):
    """A service has no place left."""


@dataclass(frozen=True)
class Book(Askable[str | Refused]):
    trip: str


@dataclass(frozen=True)
class Cancel(Askable[bool]):
    trip: str


@dataclass(frozen=True)
class Booked(Askable[list[str]]):
    pass


class Service(Actor):
    """Books places, one per trip."""

    def __init__(self, name: str, places: int, seconds: float = 0.0) -> None:
        self.name, self.places, self.seconds = name, places, seconds
        self.booked: set[str] = set()

    async def receive(self, message: Book | Cancel | Booked) -> str | bool | list[str] | Refused:
        match message:
            case Book(trip):
                await anyio.sleep(self.seconds)
                if len(self.booked) == self.places:
                    return Refused(f"{self.name} is full")  # raised, it would be this actor's failure
                self.booked.add(trip)
                return f"{self.name} for {trip}"
            case Cancel(trip):
                booked = trip in self.booked
                self.booked.discard(trip)
                return booked
            case Booked():
                return list(self.booked)


ServiceRef = ActorRef[Book | Cancel | Booked, str | bool | list[str] | Refused]


class Trip(Actor):
    """Books one trip, and ends."""

    def __init__(self, *services: ServiceRef) -> None:
        self.services = services

    async def receive(self, message: str) -> list[str] | Refused | AskTimeout:
        self.context.stop_self()  # after this message
        done: list[str] = []
        for step, service in enumerate(self.services):
            booked: str | Refused | AskTimeout
            try:
                booked = await service.ask(Book(message), timeout=0.2)
            except AskTimeout as error:
                booked = error
            if isinstance(booked, Exception):
                # Also the step that timed out: it may have been booked after all.
                async with anyio.create_task_group() as tasks:
                    for each in self.services[: step + 1]:
                        tasks.start_soon(each.ask, Cancel(message))
                return booked
            done.append(booked)
        return done


@dataclass(frozen=True)
class Travel(Askable[ActorRef[str, list[str] | Refused | AskTimeout]]):
    """Use `travel`: the reply to this is the actor to ask for the trip."""


class Agency(Actor):
    """Spawns an actor for each trip, so trips run side by side."""

    def __init__(self, *services: ServiceRef) -> None:
        self.services = services

    async def receive(self, message: Travel) -> ActorRef[str, list[str] | Refused | AskTimeout]:
        return self.context.spawn_child(Trip, *self.services)


async def travel(agency: ActorRef[Travel, object], trip: str) -> list[str]:
    done = await (await agency.ask(Travel())).ask(trip)
    if isinstance(done, Exception):
        raise done
    return done


async def main() -> None:
    async with ActorSystem() as system:
        flight = system.spawn(Service, "flight", 5)
        hotel = system.spawn(Service, "hotel", 1)
        slow = system.spawn(Service, "slow hotel", 5, 0.5)
        agency = system.spawn(Agency, flight, hotel)
        late = system.spawn(Agency, flight, slow)
        print(await travel(agency, "Rome"))
        for who, trip in ((agency, "Oslo"), (late, "Lima")):
            try:
                await travel(who, trip)
            except (Refused, AskTimeout) as error:
                print(trip, "was undone:", type(error).__name__)
        print("booked flights:", *await flight.ask(Booked()))


if __name__ == "__main__":
    anyio.run(main, backend=sys.argv[1] if len(sys.argv) > 1 else "asyncio")
