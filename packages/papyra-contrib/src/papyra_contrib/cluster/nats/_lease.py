"""The membership of a node: a key that the keeper renews, on a clock that includes suspends."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from papyra_contrib.cluster._errors import Conflict, TransportError
from papyra_contrib.cluster._transport import Lease, beat_seconds
from papyra_contrib.cluster.nats._lease_clock import lease_clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from papyra_contrib.cluster.nats._bucket import Bucket

__all__ = ["NatsLease"]

_logger = logging.getLogger("papyra")

REPEAT_SECONDS: Final = 0.1


class NatsLease(Lease):
    """Renewed in the keeper's loop. Any thread may check it.

    ``may_renew`` says whether the program is healthy. ``lost`` is called once, in the keeper's loop, a sixth
    of the lease before the registry lets the key go.
    """

    def __init__(
        self,
        bucket: Bucket,
        key: str,
        value: bytes,
        ttl: int,
        may_renew: Callable[[], bool],
        lost: Callable[[str], None],
    ) -> None:
        self.ttl = float(ttl)
        self._bucket = bucket
        self._key = key
        self._value = value
        self._seconds = ttl
        self._may_renew = may_renew
        self._lost = lost
        self._over = False
        self._revision = 0
        self._until = 0.0
        self._renew_now = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._guard: asyncio.Task[None] | None = None

    def valid(self) -> bool:
        """Whether the last renewal still holds, less the margin. Safe in any thread."""
        return not self._over and lease_clock() < self._until

    def seconds_left(self) -> float:
        """Return for how many seconds `valid` stays true without another renewal."""
        return 0.0 if self._over else max(0.0, self._until - lease_clock())

    async def claim(self) -> None:
        """Put the key for the first time; `Conflict` if it exists with another value."""
        sent = lease_clock()
        try:
            self._revision = await self._bucket.put(self._key, self._value, 0, self._seconds)
        except Conflict:
            stored = await self._bucket.get(self._key)
            if stored is None or stored.value != self._value:
                raise
            # An earlier attempt has put it, and the answer was lost.
            sent = lease_clock()
            self._revision = await self._bucket.put(self._key, self._value, stored.revision, self._seconds)
        self._held_since(sent)
        self._task = asyncio.create_task(self._renew())
        self._guard = asyncio.create_task(self._watch())

    def _held_since(self, sent: float) -> None:
        self._until = sent + self.ttl * 5 / 6

    def hurry(self) -> None:
        """Renew now: the connection is back."""
        self._renew_now.set()

    async def _renew(self) -> None:
        pause = beat_seconds(self.ttl)
        while not self._over:
            self._renew_now.clear()
            with suppress(TimeoutError):  # the ordinary beat
                await asyncio.wait_for(self._renew_now.wait(), pause)
            pause = await self._renew_once()

    async def _renew_once(self) -> float:
        """Renew, and return after how many seconds to do it again."""
        if not self._may_renew() or not self.valid():
            return REPEAT_SECONDS
        sent = lease_clock()
        try:
            self._revision = await self._bucket.put(self._key, self._value, self._revision, self._seconds)
        except TransportError:
            return REPEAT_SECONDS  # the outcome is unknown
        except Conflict:
            return await self._explain_conflict()
        if self.valid():  # otherwise it is too late: other nodes may have seen this one go down
            self._held_since(sent)
        return beat_seconds(self.ttl)

    async def _explain_conflict(self) -> float:
        """Find out whether an acknowledgement was lost, or another node has the key."""
        try:
            stored = await self._bucket.get(self._key)
        except TransportError:
            return REPEAT_SECONDS
        if stored is not None and stored.value == self._value:
            self._revision = stored.revision
            return 0.0
        self._end("the registry has let the lease go")
        return self.ttl

    async def _watch(self) -> None:
        while not self._over:
            left = self._until - lease_clock()
            if left <= 0:
                self._end("the lease was not renewed in time")
                return
            await asyncio.sleep(min(left, REPEAT_SECONDS * 2))

    def _end(self, reason: str) -> None:
        if not self._over:
            self._over = True
            self._lost(reason)

    async def release(self) -> None:
        """End the key, if it is still this node's."""
        over, self._over = self._over, True
        for task in (self._task, self._guard):
            if task is not None:
                task.cancel()
        if over:
            return
        try:
            await self._bucket.end(self._key, self._revision)
        except Conflict:
            stored = await self._bucket.get(self._key)
            if stored is not None and stored.value == self._value:
                await self._bucket.end(self._key, stored.revision)
