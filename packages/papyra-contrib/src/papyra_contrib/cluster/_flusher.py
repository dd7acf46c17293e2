"""The moment at which queued messages go to the transport: once in each pass of the event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from papyra._runtime._eventloop import Waiter
    from papyra.cluster import Background
    from papyra_contrib.cluster._link import Link

__all__ = ["Flusher"]


class Flusher:
    """Flushes, in the next pass of the event loop, what the links gathered in the last one."""

    def __init__(self, background: Background) -> None:
        self._background = background
        self._dirty: list[Link] = []
        self._waiter: Waiter | None = None
        self._closed = False

    def soon(self, link: Link) -> None:
        """Flush a link in the next pass."""
        self._dirty.append(link)
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
            for link in dirty:
                link.out.flush()
            if not self._dirty:
                self._waiter = self._background.waiter()
                await self._waiter
