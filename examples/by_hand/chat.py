"""The chat without primitives: a task that measures idleness, and an actor that stops slow sessions.

It promises less than its twin: a slow client makes its room wait for 10 ms, once.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from papyra import Actor, ActorRef, ActorSystem, ActorTerminated, MailboxClosed
from papyra.events import ActorStopped

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Join:
    session: ActorRef[Line | Said | Idle, None]


@dataclass(frozen=True)
class Said:
    who: str
    text: str


@dataclass(frozen=True)
class Line:
    """What a client has typed."""

    text: str


class Idle:
    """A session asks itself: is it still idle?"""


class Reaper(Actor):
    """Stops sessions, so that the room need not wait for their end."""

    async def receive(self, message: ActorRef[Line | Said | Idle, None]) -> None:
        self.context.stop_self()  # after this message
        await self.context.stop(message, timeout=1.0)


class Room(Actor):
    """Passes on what is said; a session that does not keep up is dropped, not waited for."""

    def __init__(self) -> None:
        self.sessions: list[ActorRef[Line | Said | Idle, None]] = []

    async def receive(self, message: Join | Said | ActorTerminated) -> None:
        match message:
            case Join(session):
                self.context.watch(session)
                self.sessions.append(session)
            case Said():
                for session in list(self.sessions):
                    # If it has ended, the message that says so is on the way.
                    with anyio.move_on_after(0.01) as sending, suppress(MailboxClosed):
                        await session.tell(message)
                    if sending.cancelled_caught:
                        self.sessions.remove(session)
                        await self.context.spawn_child(Reaper).tell(session)
            case ActorTerminated(ref):
                self.sessions = [session for session in self.sessions if session != ref]
                if not self.sessions:
                    self.context.stop_self()


class Session(Actor):
    """One client. It leaves when it was idle for too long."""

    own_task = True

    def __init__(self, who: str, room: str, write: Callable[[str], None], idle_seconds: float) -> None:
        self.who, self.room_name, self.write, self.idle_seconds = who, room, write, idle_seconds

    async def on_start(self) -> None:
        system, name = self.context.system, f"room {self.room_name}"
        self.room = system.ref_for_name(name) or system.spawn(Room, name=name)
        await self.room.tell(Join(self.context.self_ref))
        self.idle_at = anyio.current_time() + self.idle_seconds
        self.tasks = await anyio.create_task_group().__aenter__()
        self.tasks.start_soon(self.measure)

    async def on_stop(self) -> None:
        self.tasks.cancel_scope.cancel()
        await self.tasks.__aexit__(None, None, None)

    async def measure(self) -> None:
        with suppress(MailboxClosed):
            while True:
                await anyio.sleep_until(self.idle_at)
                await self.context.self_ref.ask(Idle())  # behind the messages that wait

    async def receive(self, message: Line | Said | Idle) -> None:
        match message:
            case Line(text):
                await self.room.tell(Said(self.who, text))
            case Said(who, text):
                self.write(f"[{self.room_name}] {who}: {text}")
            case Idle():
                if anyio.current_time() >= self.idle_at:
                    self.write(f"[{self.room_name}] {self.who} was idle and leaves")
                    self.context.stop_self()
                return
        self.idle_at = anyio.current_time() + self.idle_seconds


async def main() -> None:
    async with ActorSystem() as system:
        shown: dict[str, list[str]] = {who: [] for who in ("ann", "ben")}
        ann = system.spawn(Session, "ann", "garden", shown["ann"].append, 0.2)
        await ann.tell(Line("hello?"))
        ben = system.spawn(Session, "ben", "garden", shown["ben"].append, 0.1)
        await anyio.sleep(0.01)
        await ben.tell(Line("hello, ann"))
        # Both leave when they were idle, and then the room is empty.
        room = system.ref_for_name("room garden")
        assert room is not None
        await system.wait_for_event(
            lambda event: isinstance(event, ActorStopped) and event.address == room.address.to_dict(),
            timeout=10,
        )
    for lines in shown.values():
        print(*lines, sep="\n")


if __name__ == "__main__":
    anyio.run(main, backend=sys.argv[1] if len(sys.argv) > 1 else "asyncio")
