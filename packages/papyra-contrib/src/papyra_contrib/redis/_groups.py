"""Consumer groups: other programs share the records of a stream among them, and acknowledge each one."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import anyio

from papyra.exceptions import PersistenceError
from papyra.persistence.blocking import run_blocking
from papyra_contrib.redis._entries import read_entry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from papyra.persistence.blocking import Work
    from papyra.persistence.models import PersistedRecord
    from papyra_contrib.redis._connection import Server
    from papyra_contrib.redis._entries import Entry

__all__ = ["Delivery", "Groups", "PendingDelivery", "check_count"]

WAIT_SECONDS = 0.2  # for an entry, in the server; a consumer that is cancelled leaves after it
PAGE_ENTRIES = 500

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Delivery:
    """A record that was given to a consumer, and the ``id`` to acknowledge.

    ``record`` is None if it is damaged.
    """

    id: str
    record: PersistedRecord | None


@dataclass(frozen=True, slots=True)
class PendingDelivery:
    """A delivery that was not acknowledged yet.

    To which consumer, how many seconds ago, and how many times in all.
    """

    id: str
    consumer: str
    idle: float
    deliveries: int


def check_count(count: int) -> None:
    """Raise `ValueError` for a count of records that could never be returned."""
    if count < 1:
        raise ValueError(f"count must be at least 1, but is {count}")


class Groups:
    """The groups of one stream. Each call works in a thread of its own."""

    def __init__(self, server: Server, stream: str) -> None:
        self._server = server
        self._stream = stream

    async def consume(self, group: str, consumer: str, count: int, block: float | None) -> list[Delivery]:
        """Return new records, or an empty list after ``block`` seconds; None waits without an end."""
        deadline = None if block is None else time.monotonic() + block
        thread = anyio.CapacityLimiter(1)
        while True:
            left = WAIT_SECONDS if deadline is None else deadline - time.monotonic()
            wait = min(WAIT_SECONDS, self._server.timeout / 2, left)
            deliveries = await run_blocking(partial(self._read, group, consumer, count, wait), limiter=thread)
            if deliveries or left <= wait:
                return deliveries

    def _read(self, group: str, consumer: str, count: int, wait: float, _: Work) -> list[Delivery]:
        blocking = ("BLOCK", max(1, round(wait * 1000))) if wait > 0 else ()
        command = ("XREADGROUP", "GROUP", group, consumer, "COUNT", count, *blocking)
        answer = self._in_group(group, lambda: self._server.call(*command, "STREAMS", self._stream, ">"))
        return _deliveries(answer[0][1]) if answer else []

    def _in_group(self, group: str, call: Callable[[], _T]) -> _T:
        """Call, and make the group first if the server does not have it. It begins with the oldest record."""
        try:
            return call()
        except PersistenceError as error:
            if self._server.code_of(error) != "NOGROUP":
                raise
        try:
            self._server.call("XGROUP", "CREATE", self._stream, group, "0", "MKSTREAM")
        except PersistenceError as error:
            if self._server.code_of(error) != "BUSYGROUP":  # another consumer has made it meanwhile
                raise
        return call()

    def ack(self, group: str, ids: Sequence[str], _: Work) -> int:
        """Remove deliveries from those that are pending."""
        return int(self._server.call("XACK", self._stream, group, *ids)) if ids else 0

    def claim(self, group: str, consumer: str, min_idle: float, count: int, _: Work) -> list[Delivery]:
        """Take over pending deliveries, oldest first."""
        deliveries: list[Delivery] = []
        cursor: Any = "0-0"
        while len(deliveries) < count:
            command = ("XAUTOCLAIM", self._stream, group, consumer, round(min_idle * 1000), cursor)
            call = partial(self._server.call, *command, "COUNT", count - len(deliveries))
            cursor, entries = self._in_group(group, call)[:2]
            deliveries += _deliveries(entries)
            if cursor == b"0-0":
                break
        return deliveries

    def pending(self, group: str, work: Work) -> list[PendingDelivery]:
        """Return the deliveries that were not acknowledged, oldest first."""
        found: list[PendingDelivery] = []
        begin = "-"
        while True:
            work.check()
            rows = self._pending_page(group, begin)
            found += (
                PendingDelivery(identifier.decode(), consumer.decode(), idle / 1000, deliveries)
                for identifier, consumer, idle, deliveries in rows
            )
            if len(rows) < PAGE_ENTRIES:
                return found
            begin = f"({found[-1].id}"

    def _pending_page(self, group: str, begin: str) -> list[tuple[bytes, bytes, int, int]]:
        try:
            rows: list[tuple[bytes, bytes, int, int]] = self._server.call(
                "XPENDING", self._stream, group, begin, "+", PAGE_ENTRIES
            )
        except PersistenceError as error:
            if self._server.code_of(error) != "NOGROUP":
                raise
            return []  # nobody has consumed yet
        return rows


def _deliveries(entries: Sequence[Entry | None]) -> list[Delivery]:
    """Return the records of entries; Redis 6.2 has None for one that was deleted since it was delivered."""
    deliveries: list[Delivery] = []
    for entry in entries:
        if entry is not None and entry[1]:
            record = read_entry(entry)
            deliveries.append(Delivery(entry[0].decode(), None if record is None else record[0]))
    return deliveries
