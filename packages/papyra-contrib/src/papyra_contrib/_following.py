"""Follow a store on a server that reports new records."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import anyio

from papyra.exceptions import PersistenceError
from papyra.persistence.blocking import run_blocking
from papyra.persistence.following import following_of
from papyra.persistence.query import Query

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from papyra.persistence.blocking import Work
    from papyra.persistence.models import PersistedRecord
    from papyra.persistence.retention import RetentionPolicy
    from papyra.persistence.threaded import ThreadedBackend

__all__ = ["ServerFollower"]

RECONNECT_SECONDS = 0.2  # between two attempts


class ServerFollower(ABC):
    """The place up to which a store was read.

    The methods `connect`, `begin` and `next` block. After an error of the server `close` is called, and then
    the method that failed once more.
    """

    matches: Callable[[PersistedRecord], bool]
    newest: Query[PersistedRecord]
    """Its limit is the number of old records to begin with."""
    policy: RetentionPolicy
    now: float

    @abstractmethod
    def connect(self, work: Work) -> None:
        """Reach the server, and note or order what `begin` and `next` need."""

    @abstractmethod
    def begin(self, work: Work) -> list[PersistedRecord]:
        """Return the newest records that match, oldest first. `next` continues after them."""

    @abstractmethod
    def next(self, work: Work) -> list[PersistedRecord]:
        """Return the next records that match, waiting for them a little."""

    def close(self) -> None:  # noqa: B027 - not every follower has a connection
        """Close the connection, if there is one of its own."""

    async def records(
        self,
        backend: ThreadedBackend,
        query: Query[Any] | None,
        limit: int,
        wanted: Callable[[PersistedRecord], bool] | None,
    ) -> AsyncGenerator[PersistedRecord]:
        """Yield the newest records, then each new one, until the backend is closed.

        A server that is away at the start is an error; later the follower waits until it is back.
        """
        backend.refuse_if_closed()
        count, self.matches = following_of(query, limit, wanted)
        self.newest = Query(limit=count)
        self.policy, self.now = backend.retention, backend.time_fn()
        thread = anyio.CapacityLimiter(1)  # its own, so that followers don't keep others from reading
        connected, read = False, self.begin
        try:
            while not backend.closed:
                try:
                    if not connected:
                        await run_blocking(self.connect, limiter=thread)
                        connected = True
                    records = await run_blocking(read, limiter=thread)
                except PersistenceError as error:
                    self.close()
                    if backend.closed:
                        return
                    if not (connected and error.retry):
                        raise
                    await anyio.sleep(RECONNECT_SECONDS)
                else:
                    read = self.next
                    for record in records:
                        yield record
        finally:
            self.close()
