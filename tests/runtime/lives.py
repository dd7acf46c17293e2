"""Actors whose lives are written down, and actors that ignore cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread

from papyra import Actor, ActorSystem
from papyra import events as ev
from papyra.persistence import InMemoryPersistence
from papyra.persistence.models import PersistedEvent, PersistedRecord

from .support import Runs


class Recording(InMemoryPersistence):
    """Keeps what it was given, also after it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[PersistedRecord] = []
        self.closes = 0

    async def record_batch(self, records: Sequence[PersistedRecord]) -> None:
        await anyio.lowlevel.checkpoint()
        await super().record_batch(records)
        self.kept.extend(records)

    async def aclose(self) -> None:
        self.closes += 1
        await super().aclose()

    def said(self) -> list[str]:
        return [
            f"{record.event_type} {record.actor_address.split(':')[1]}"
            if isinstance(record, PersistedEvent)
            else type(record).__name__
            for record in self.kept
            if not getattr(record, "event_type", "").startswith("System")
        ]


class Logged(Runs):
    """Note each step of its life."""

    steps: list[str]
    label: str

    async def on_start(self) -> None:
        self.steps.append(f"{self.label} on_start")

    async def on_stop(self) -> None:
        self.steps.append(f"{self.label} on_stop")


def logged(log: list[str], label: str, base: type[Logged] = Logged) -> type[Logged]:
    return type("Logged", (base,), {"steps": log, "label": label})


def stops(system: ActorSystem) -> list[tuple[int | str, str | None]]:
    """Return who stopped and why, in order."""
    return [
        (event.address["actor_id"], event.reason)
        for event in system.events()
        if isinstance(event, ev.ActorStopped)
    ]


class Stubborn(Actor):
    """Ignore ``times`` cancellations (None: all), then go on until the ``release``."""

    def __init__(self, release: anyio.Event, times: int | None = None) -> None:
        self.release = release
        self.times = times
        self.swallowed = 0
        self.inside = anyio.Event()
        self.stopped = False

    async def receive(self, message: Any) -> None:
        self.inside.set()
        while not self.release.is_set() and (self.times is None or self.swallowed < self.times):
            try:
                await self.release.wait()
            except BaseException as error:
                if not isinstance(error, anyio.get_cancelled_exc_class()):
                    raise
                self.swallowed += 1
        if self.times is not None:
            await anyio.sleep_forever()

    async def on_stop(self) -> None:
        self.stopped = True


def _on_asyncio() -> bool:
    try:
        return asyncio.current_task() is not None
    except RuntimeError:
        return False
