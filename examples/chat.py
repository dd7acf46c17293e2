"""A chat server's core: rooms that are made when first joined, sessions that time out, and slow clients that
hurt nobody.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from papyra import Actor, ActorRef, ActorSystem, ActorTerminated, MailboxClosed, MailboxFull
from papyra.events import ActorStopped

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Join:
    session: ActorRef[Line | Said, None]


@dataclass(frozen=True)
class Said:
    who: str
    text: str


@dataclass(frozen=True)
class Line:
    """What a client has typed."""

    text: str


class Room(Actor):
    """Passes on what is said; a session that does not keep up is dropped, not waited for."""

    def __init__(self) -> None:
        self.sessions: list[ActorRef[Line | Said, None]] = []

    async def receive(self, message: Join | Said | ActorTerminated) -> None:
        match message:
            case Join(session):
                self.context.watch(session)
                self.sessions.append(session)
            case Said():
                for session in list(self.sessions):
                    try:
                        session.tell_nowait(message)
                    except MailboxClosed:
                        pass  # that it has ended is on the way
                    except MailboxFull:
                        self.sessions.remove(session)
                        self.context.start_soon(self.drop, session)
            case ActorTerminated(ref):
                self.sessions = [session for session in self.sessions if session != ref]
                if not self.sessions:
                    self.context.stop_self()

    async def drop(self, session: ActorRef[Line | Said, None]) -> None:
        await session.stop(timeout=1.0)


class Session(Actor):
    """One client. It leaves when it was idle for too long."""

    def __init__(self, who: str, room: str, write: Callable[[str], None], idle_seconds: float) -> None:
        self.who, self.room_name, self.write, self.idle_seconds = who, room, write, idle_seconds

    async def on_start(self) -> None:
        self.room = self.context.system.spawn_or_get(Room, name=f"room {self.room_name}")
        await self.room.tell(Join(self.context.self_ref))
        self.context.set_receive_timeout(self.idle_seconds, call=self.leave)

    async def receive(self, message: Line | Said) -> None:
        match message:
            case Line(text):
                await self.room.tell(Said(self.who, text))
            case Said(who, text):
                self.write(f"[{self.room_name}] {who}: {text}")

    def leave(self) -> None:
        self.write(f"[{self.room_name}] {self.who} was idle and leaves")
        self.context.stop_self()


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
