"""Draw from a generator in threads, a block at a time."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from papyra.persistence.blocking import Work

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import TypeAlias

    from papyra.persistence.models import PersistedRecord

    Blocks: TypeAlias = Generator[list[PersistedRecord]]

__all__ = ["Feed"]


class Feed:
    """The blocks of a generator.

    The last one to use it closes it: the task, or the thread that the task has left.
    """

    def __init__(self, make: Callable[[Work], Blocks]) -> None:
        self.work = Work()
        self._blocks = make(self.work)
        self._in_use = threading.Lock()

    def draw(self) -> list[PersistedRecord]:
        """Return the next block, or an empty one at the end. Call it in a thread."""
        end: list[PersistedRecord] = []
        try:
            with self._in_use:
                return next(self._blocks, end)
        finally:
            if self.work.cancelled:
                self.close()

    def close(self) -> None:
        """End the generator, from any thread, without waiting for a thread that draws."""
        self.work.cancel()
        if self._in_use.acquire(blocking=False):
            try:
                self._blocks.close()
            finally:
                self._in_use.release()
