"""Scan, repair and compact a stream, entry by entry, while others use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from papyra.exceptions import PersistenceError
from papyra.persistence.models import (
    CompactionReport,
    PersistenceAnomaly,
    PersistenceAnomalyType,
    PersistenceRecoveryMode,
    PersistenceRecoveryReport,
    PersistenceScanReport,
)
from papyra_contrib.redis._batches import forget_old_runs
from papyra_contrib.redis._entries import Walk, kept, key_of, last_id, read_entry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from papyra.persistence.blocking import Work
    from papyra.persistence.models import PersistenceRecoveryConfig
    from papyra.persistence.retention import RetentionPolicy
    from papyra_contrib.redis._connection import Server
    from papyra_contrib.redis._entries import Entry

__all__ = ["compact", "recover", "scan"]

_AT_ONCE = 500

# All of it or nothing, which a transaction would not be if the quarantine can't take the entry.
_MOVE = """
local found = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])
if #found == 0 then return 0 end
redis.call('XADD', KEYS[2], '*', 'entry', ARGV[1], unpack(found[1][2]))
return redis.call('XDEL', KEYS[1], ARGV[1])
"""


def scan(server: Server, stream: str, work: Work) -> tuple[PersistenceAnomaly, ...]:
    """Return every entry that does not match its check sum; a key that is not a stream is an anomaly, too."""
    if foreign := _foreign(server, stream):
        return (PersistenceAnomaly(PersistenceAnomalyType.UNEXPECTED_FILE, stream, foreign),)
    return tuple(
        PersistenceAnomaly(
            PersistenceAnomalyType.CRC_MISMATCH, stream, f"entry {entry[0].decode()} is not what was written"
        )
        for entry in _damaged(server, stream, work)
    )


def recover(
    server: Server,
    stream: str,
    config: PersistenceRecoveryConfig,
    name: str,
    work: Work,
    *,
    dry_run: bool,
) -> PersistenceRecoveryReport:
    """Delete the damaged entries, or move them to the stream ``<stream>:quarantine``."""
    report = PersistenceScanReport(name, scan(server, stream, work))
    if not report.has_anomalies or config.mode is PersistenceRecoveryMode.IGNORE:
        return PersistenceRecoveryReport(name, report)
    if foreign := _foreign(server, stream):
        raise PersistenceError(f"{foreign}; it was not touched")
    quarantine = f"{stream}:quarantine" if config.mode is PersistenceRecoveryMode.QUARANTINE else None
    if not dry_run:
        work.reach(work.total)
        for entry in _damaged(server, stream, work, begin=work.total):
            if quarantine:
                server.call("EVAL", _MOVE, 2, stream, quarantine, entry[0])
            else:
                server.call("XDEL", stream, entry[0])
    return PersistenceRecoveryReport(name, report, (stream,), (quarantine,) if quarantine else ())


def compact(
    server: Server,
    stream: str,
    policy: RetentionPolicy,
    now: float,
    name: str,
    work: Work,
    *,
    dry_run: bool,
) -> CompactionReport:
    """Delete what the policy no longer keeps. Others may write meanwhile."""
    last = last_id(server, stream)
    before = work.total = int(server.call("XLEN", stream))
    walk = Walk(server, stream, newest_first=True, start=last)
    walk.work = work
    way = _Way(walk, policy.oldest_kept(now), work)
    for entry in kept(way.entries(), policy, now):
        way.keep(entry.id)
        if len(way.aged) >= _AT_ONCE and not dry_run:
            way.delete(server, stream)
    if not dry_run:
        way.delete(server, stream)
        if not way.at_end:  # all that is older is beyond the policy
            server.call("XTRIM", stream, "MINID", way.floor or _after(last))
        forget_old_runs(server, stream)
    return CompactionReport(name, before, way.stay + (way.damaged if way.at_end else 0), None, None)


class _Way:
    """What a compaction has met, newest first."""

    def __init__(self, walk: Walk, oldest: float, work: Work) -> None:
        self._walk, self._oldest, self._work = walk, oldest, work
        self.at_end = False
        self.floor: bytes | None = None  # the last that is kept
        self.stay = 0
        self.damaged = 0  # since then
        self.aged: list[bytes] = []

    def entries(self) -> Iterator[Entry]:
        for number, entry in enumerate(self._walk):
            self._work.reach(number)
            read = read_entry(entry)
            if read is None:
                self.damaged += 1  # a recovery's affair
            elif read[0].timestamp < self._oldest:
                self.aged.append(entry[0])
            yield entry
        self.at_end = True

    def keep(self, identifier: bytes) -> None:
        self.floor = identifier
        self.stay += 1 + self.damaged
        self.damaged = 0

    def delete(self, server: Server, stream: str) -> None:
        for begin in range(0, len(self.aged), _AT_ONCE):
            server.call("XDEL", stream, *self.aged[begin : begin + _AT_ONCE])
        self.aged.clear()


def _after(identifier: bytes) -> str:
    moment, number = key_of(identifier)
    return f"{moment}-{number + 1}"


def _damaged(server: Server, stream: str, work: Work, begin: int = 0) -> Iterator[Entry]:
    work.total = begin + int(server.call("XLEN", stream))
    walk = Walk(server, stream)
    walk.work = work
    for number, entry in enumerate(walk, begin):
        work.total = max(work.total, number)  # others append
        work.reach(number)
        if read_entry(entry) is None:
            yield entry


def _foreign(server: Server, stream: str) -> str | None:
    kind: bytes = server.call("TYPE", stream)
    if kind in (b"none", b"stream"):
        return None
    return f"the key {stream!r} of Redis at {server.name} holds a {kind.decode()}, no stream: name another with stream="
