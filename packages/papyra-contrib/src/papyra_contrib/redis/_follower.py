"""Follow a stream. The server holds each call until an entry is added; the ids show which entries are new."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from papyra_contrib._following import ServerFollower
from papyra_contrib.redis._entries import START, Walk, find, kept, key_of, last_id, read_entry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from papyra.persistence.blocking import Work
    from papyra.persistence.models import PersistedRecord
    from papyra_contrib.redis._connection import Server
    from papyra_contrib.redis._entries import Entry

__all__ = ["Follower"]

WAIT_MILLISECONDS = 200  # for an entry; a follower that is closed or cancelled leaves after it
PAGE_ENTRIES = 100
SEEN_IDS = 10_000


class Follower(ServerFollower):
    """The place up to which a stream was read.

    The last ids that were read are kept. They show whether a stream that ends before them is another one, or
    that of a replica that took over and lacks the last entries.
    """

    def __init__(self, server: Server, stream: str) -> None:
        self._server = server
        self._stream = stream
        self._last = START
        self._seen: deque[bytes] = deque(maxlen=SEEN_IDS)

    def connect(self, work: Work) -> None:
        """Note the last entry."""
        self._last = last_id(self._server, self._stream)

    def begin(self, work: Work) -> list[PersistedRecord]:
        """Return the newest records that match, oldest first. `next` continues after them."""
        self._seen.clear()
        self._seen.append(self._last)
        return find(kept(self._entries_before(work), self.policy, self.now), self.newest, self.matches)

    def _entries_before(self, work: Work) -> Iterator[Entry]:
        for entry in self._newest_first(work, self._last):
            if len(self._seen) < SEEN_IDS:
                self._seen.appendleft(entry[0])
            yield entry

    def _newest_first(self, work: Work, start: bytes | None = None) -> Walk:
        walk = Walk(self._server, self._stream, newest_first=True, start=start)
        walk.work = work
        return walk

    def next(self, work: Work) -> list[PersistedRecord]:
        """Return the next records that match, waiting for them a little."""
        wait = min(WAIT_MILLISECONDS, max(1, round(self._server.timeout * 500)))
        found: list[tuple[bytes, list[Entry]]] | None = self._server.call(
            "XREAD", "COUNT", PAGE_ENTRIES, "BLOCK", wait, "STREAMS", self._stream, self._last
        )
        if not found:
            if key_of(last_id(self._server, self._stream)) < key_of(self._last):
                self._last = self._last_seen(work)
            return []
        entries = found[0][1]
        self._last = entries[-1][0]
        self._seen.extend(entry[0] for entry in entries)
        records = (one[0] for one in map(read_entry, entries) if one is not None)
        return list(filter(self.matches, records))

    def _last_seen(self, work: Work) -> bytes:
        """Return the newest entry that was read before, or None in another stream, where all are new."""
        seen = set(self._seen)
        newest = (entry[0] for entry in islice(self._newest_first(work), SEEN_IDS))
        return next((identifier for identifier in newest if identifier in seen), START)
