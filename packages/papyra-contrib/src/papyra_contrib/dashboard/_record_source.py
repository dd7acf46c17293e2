"""A record as the source of the dashboard, without a running system.

It reads at most `MAX_FACTS` facts of at most a day at a time, so a record of any size opens at once.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from functools import partial
from math import isfinite
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from papyra.exceptions import PersistenceError
from papyra.persistence import open_backend, safe_metrics_snapshot
from papyra.persistence.models import PersistedDeadLetter, PersistedEvent
from papyra.persistence.processes import how_run_ended
from papyra.persistence.url import masked
from papyra_contrib._cached import Cached
from papyra_contrib.admin._fact_rows import FactFilter, bars
from papyra_contrib.admin._plugins import plugin_rows
from papyra_contrib.dashboard._source import Answer, Source, SourceGone, SourceRefused

if TYPE_CHECKING:
    from papyra.persistence.models import PersistedRecord

__all__ = ["DAY_SECONDS", "MAX_FACTS", "RecordSource"]

MAX_FACTS = 20_000
"""Facts that are read at a time."""

DAY_SECONDS = 86_400.0
SCAN_PATIENCE_SECONDS = 2.0
SCAN_SECONDS = 60.0  # how long the result of a scan is reused
MAX_STORY_FACTS = 50
NO_ACTORS = "A record has no mailboxes and does not show which actors are alive. See the timeline."


@dataclass(slots=True)
class Window:
    """Facts that were read, newest first; ``more`` if there are older ones."""

    facts: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    letters: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    first: PersistedRecord | None = None
    system_id: str = ""
    oldest: float | None = None
    newest: float | None = None
    read: int = 0
    more: bool = False

    def add(self, record: PersistedRecord, *, payloads: bool) -> None:
        """Add one record."""
        self.read += 1
        self.system_id = self.system_id or record.system_id
        if isfinite(record.timestamp):
            self.oldest = min(record.timestamp, record.timestamp if self.oldest is None else self.oldest)
            self.newest = max(record.timestamp, record.timestamp if self.newest is None else self.newest)
        if isinstance(record, PersistedEvent):
            self.facts.append(
                {
                    "type": record.event_type,
                    "address": record.actor_address,
                    "payload": record.payload,
                    "timestamp": record.timestamp,
                    "run": record.run,
                }
            )
        elif isinstance(record, PersistedDeadLetter):
            self.letters.append(_letter(record, payloads=payloads))


def _letter(record: PersistedDeadLetter, *, payloads: bool) -> dict[str, Any]:
    row = {
        "timestamp": record.timestamp,
        "target": record.target,
        "name": record.target_name,
        "actor_type": record.target_type.rpartition(".")[2],
        "message_type": record.message_type,
        "reason": record.reason,
        "run": record.run,
    }
    return {**row, "payload": str(record.payload)[:4096]} if payloads else row


class RecordSource(Source):
    """The record behind a backend URL. Nothing is written to it, except by the action ``compact``."""

    kind = "record"
    views = ("overview", "letters", "timeline", "store", "plugins")
    actions = frozenset({"compact"})

    def __init__(self, url: str, *, payloads: bool = False) -> None:
        self._url = url
        self._backend = open_backend(url)
        self._payloads = payloads
        self._newest = Window()
        self._scan: Cached[Answer] = Cached(SCAN_SECONDS)

    async def _read(self, since: float | None, until: float | None) -> Window:
        """Read the newest facts between two times: at most a day of them, and at most `MAX_FACTS`."""
        window = Window()
        try:
            async with aclosing(self._backend.stream(since=since, until=until)) as records:
                async for record in records:
                    if window.first is None:
                        window.first = record
                        if record == self._newest.first and since is None and until is None:
                            return self._newest  # nothing was written since the last reading
                    young = window.newest is None or record.timestamp >= window.newest - DAY_SECONDS
                    if window.read >= MAX_FACTS or not (young or since is not None):
                        window.more = True
                        break
                    window.add(record, payloads=self._payloads)
        except (PersistenceError, OSError) as error:
            raise SourceGone(str(error)) from error
        if since is None and until is None:
            self._newest = window
        return window

    async def overview(self) -> Answer:
        window = await self._read(None, None)
        return {
            "system_id": window.system_id or "record",
            "now": window.newest or 0.0,
            "events": window.facts[:200],
            "record": await anyio.to_thread.run_sync(_summary, window),
            "about": {"store": masked(self._url)},
        }

    async def letters(self, *, limit: int, offset: int) -> Answer:
        window = await self._read(None, None)
        rows = window.letters[offset : offset + limit]
        more = offset + limit < len(window.letters)
        return {
            "rows": rows,
            "total": len(window.letters),
            "more": more,
            "older": window.oldest if window.more else None,
        }

    async def events(
        self, *, limit: int, offset: int, kind: str, actor: str, since: float | None, until: float | None
    ) -> Answer:
        window = await self._read(since, until)
        wanted = FactFilter(kind or None, actor or None)

        def select() -> Answer:
            rows = [row for row in window.facts if wanted.matches(row)]
            return {"rows": rows[offset : offset + limit], "total": len(rows), "bars": bars(rows)}

        answer = await anyio.to_thread.run_sync(select)
        return {**answer, "older": window.oldest if window.more else None}

    async def actor(self, actor: str) -> Answer:
        window = await self._read(None, None)
        wanted = FactFilter(actor=actor)
        facts = [row for row in window.facts if wanted.matches(row)]
        letters = [row for row in window.letters if actor in (row["target"], row["name"])]
        if not facts and not letters:
            raise SourceRefused(f"no actor {actor!r} appears in the facts that were read")
        payload: dict[str, Any] = facts[0]["payload"] if facts else {}
        return {
            "address": facts[0]["address"] if facts else letters[0]["target"],
            "name": payload.get("name"),
            "actor_type": str(payload.get("type", "")).rpartition(".")[2],
            "events": facts[:MAX_STORY_FACTS][::-1],
            "letters": letters[:MAX_STORY_FACTS],
        }

    async def store(self) -> Answer:
        backend = self._backend
        return {
            "backend": masked(self._url),
            "healthy": backend.healthy,
            "problem": "",
            "warnings": list(backend.store_warnings),
            "retention": asdict(backend.retention),
            "metrics": safe_metrics_snapshot(backend),
            "scan": await self._scanned(),
        }

    async def _scanned(self) -> Answer:
        """Return the result of a scan, if it takes no longer than two seconds."""
        if self._scan.is_fresh():
            return self._scan.value
        answer: Answer = {"done": False, "anomalies": []}
        try:
            with anyio.move_on_after(SCAN_PATIENCE_SECONDS):
                report = await self._backend.scan()
                answer = {"done": True, "anomalies": [asdict(anomaly) for anomaly in report.anomalies[:100]]}
        except (PersistenceError, OSError) as error:
            raise SourceGone(str(error)) from error
        return self._scan.keep(answer)

    async def plugins(self) -> Answer:
        return {"rows": await anyio.to_thread.run_sync(plugin_rows)}

    async def actors(self, *, by: str, limit: int, offset: int, find: str) -> Answer:
        raise SourceRefused(NO_ACTORS)

    async def tree(self, *, below: str, kind: str, limit: int, offset: int) -> Answer:
        raise SourceRefused(NO_ACTORS)

    async def act(self, action: str, actor: str) -> str:
        if action not in self.actions:
            return await super().act(action, actor)
        try:
            report = await self._backend.compact()
        except (PersistenceError, OSError) as error:
            raise SourceGone(str(error)) from error
        self._newest = Window()
        self._scan.forget()
        return f"compacted: {report.removed_records:,} records removed, {report.after_records:,} kept"

    async def aclose(self) -> None:
        await self._backend.aclose()


def _summary(window: Window) -> Answer:
    """Count the facts of a window by type and by run."""
    counts: dict[str, int] = {}
    kinds: dict[str, dict[str, Any]] = {}
    runs: dict[str, dict[str, Any]] = {}
    for row in reversed(window.facts):
        counts[row["type"]] = counts.get(row["type"], 0) + 1
        run = runs.setdefault(row["run"], {"run": row["run"], "crashes": 0, "facts": 0})
        run["last"] = row["timestamp"]
        run["facts"] += 1
        run["crashes"] += row["type"] == "ActorCrashed"
        if row["type"] == "SystemStarted":
            payload = row["payload"]
            run |= {"start": row["timestamp"], "started": payload}
        elif row["type"] == "SystemStopped":
            run |= {"end": row["timestamp"], "stopped": row["payload"]}
            dropped = row["payload"].get("facts_dropped")
            run["dropped"] = dropped if isinstance(dropped, int) else 0
        else:
            run.setdefault("start", row["timestamp"])
            _count_kind(kinds, row)
    for letter in window.letters:
        kind = kinds.get(letter["actor_type"])
        if kind is not None:
            kind["letters"] += 1
    for run in runs.values():
        run["ended"] = how_run_ended(run.pop("started", None), run.pop("stopped", None))
        if run["ended"] != "running":
            run.setdefault("end", run["last"])
    return {
        "counts": counts,
        "kinds": kinds,
        "runs": sorted(runs.values(), key=lambda run: -float(run.get("start") or 0.0)),
        "letters": len(window.letters),
        "read": window.read,
        "more": window.more,
        "oldest": window.oldest,
        "newest": window.newest,
        "bars": bars(window.facts),
    }


_COUNTERS = {
    "ActorStarted": "started",
    "ActorStopped": "stopped",
    "ActorCrashed": "crashes",
    "ActorRestarted": "restarts",
}


def _count_kind(kinds: dict[str, dict[str, Any]], row: dict[str, Any]) -> None:
    name = str(row["payload"].get("type", "")).rpartition(".")[2]
    counter = _COUNTERS.get(row["type"])
    if not name or counter is None or (name not in kinds and len(kinds) >= 100):
        return
    make = partial(dict.fromkeys, (*_COUNTERS.values(), "handled", "letters"), 0)
    kind = kinds.setdefault(name, make())
    kind[counter] += 1
    handled = row["payload"].get("processed")
    if row["type"] == "ActorStopped" and isinstance(handled, int):
        kind["handled"] += handled
