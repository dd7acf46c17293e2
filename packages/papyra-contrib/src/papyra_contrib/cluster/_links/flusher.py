"""The moment at which queued messages go to the transport: once in each pass of the event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from papyra._runtime._eventloop import Waiter
    from papyra.cluster import Background
    from papyra_contrib.cluster._links.link import Link
    from papyra_contrib.cluster._transport import Transport

__all__ = ["Flusher"]


class Flusher:
    """Flushes, in the next pass of the event loop, what the links gathered in the last one.

    It also resumes paused senders, one pass later: in the first the engine's task takes a message, in the
    second its client writes it to the socket. A sender that continued at once would hold back the first
    half of a window until the second half is ready.
    """

    def __init__(self, background: Background, transport: Transport) -> None:
        self._background = background
        self._transport = transport
        self._dirty: list[Link] = []
        self._paused: list[tuple[Link, int]] = []
        self._waiter: Waiter | None = None
        self._closed = False

    def soon(self, link: Link) -> None:
        """Flush a link in the next pass."""
        self._dirty.append(link)
        self._wake()

    def resume_later(self, link: Link, target: int) -> None:
        """Resume the senders to ``target`` once this flush is on its way and the outbox has room."""
        self._paused.append((link, target))
        self._wake()

    def close(self) -> None:
        """End `run`."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def run(self) -> None:
        """Flush links until `close`."""
        while not self._closed:
            dirty, self._dirty = self._dirty, []
            paused, self._paused = self._paused, []
            for link in dirty:
                link.out.flush()
            if paused:
                await anyio.lowlevel.checkpoint()
                if not self._transport.has_room():
                    await self._transport.room()
                for link, target in paused:
                    link.out.resume(target)
            if not self._dirty and not self._paused:
                self._waiter = self._background.waiter()
                await self._waiter
