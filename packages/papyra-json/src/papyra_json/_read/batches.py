"""More records than there shall be in memory, drawn from a generator in threads, a block at a time."""

from __future__ import annotations

import threading
from itertools import islice
from typing import TYPE_CHECKING

from papyra.persistence.blocking import Work
from papyra_json._read.query import matching

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import TypeAlias

    from papyra.persistence.models import PersistedRecord
    from papyra.persistence.query import Query
    from papyra.persistence.retention import RetentionPolicy
    from papyra_json._fileset.names import FileSet

    Blocks: TypeAlias = Generator[list[PersistedRecord]]

__all__ = ["Feed", "newest_first"]

_BLOCK = 2000  # records


class Feed:
    """The blocks of a generator. It is closed by who is the last at it: the task, or the thread that it has left."""

    def __init__(self, make: Callable[[Work], Blocks]) -> None:
        self.work = Work()
        self._blocks = make(self.work)
        self._in_use = threading.Lock()

    def draw(self) -> list[PersistedRecord]:
        """Return the next block, or an empty one at the end. For a thread."""
        end: list[PersistedRecord] = []
        try:
            with self._in_use:
                return next(self._blocks, end)
        finally:
            if self.work.cancelled:
                self.close()

    def close(self) -> None:
        """Draw no more. From any thread; it does not wait for the one that draws."""
        self.work.cancel()
        if self._in_use.acquire(blocking=False):
            try:
                self._blocks.close()
            finally:
                self._in_use.release()


def newest_first(
    files: FileSet, query: Query[PersistedRecord], policy: RetentionPolicy, now: float, work: Work
) -> Blocks:
    """Yield the records that match and that ``policy`` keeps at the Unix time ``now``, newest first."""
    with files.open_unlocked().raise_failure() as snapshot:
        records = matching(snapshot, query, policy, now, work.check)
        while block := list(islice(records, _BLOCK)):
            yield block
