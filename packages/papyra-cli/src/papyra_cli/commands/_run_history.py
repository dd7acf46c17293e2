"""The runs of a store, counted from its records."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING

from papyra.persistence.models import PersistedDeadLetter, PersistedEvent
from papyra.persistence.processes import how_run_ended
from papyra_cli._output.identity import run_of

if TYPE_CHECKING:
    from papyra.persistence.models import JSONValue, PersistedRecord

__all__ = ["Run", "RunHistory"]


@dataclass(slots=True)
class Run:
    """The life of one system in one process; field names are the keys of the JSON, times are Unix times.

    ``ended`` is ``clean``, ``failed``, ``killed``, ``running``, or ``unknown`` for a run on another host.
    ``end`` is the time of the newest record of a run that was killed, and None while it is running.
    """

    run: str
    system_id: str
    start: float | None = None
    end: float | None = None
    duration: float | None = None
    host: str | None = None
    pid: int | None = None
    actors: int = 0
    crashes: int = 0
    dead_letters: int = 0
    facts_dropped: int = 0
    ended: str = "unknown"


@dataclass(slots=True)
class _Notes:
    """The facts about a run, besides the counts."""

    first: float | None = None
    last: float | None = None
    started: PersistedEvent | None = None
    stopped: PersistedEvent | None = None


@dataclass(slots=True)
class RunHistory:
    """The runs of a store; `add` takes its records in any order."""

    without_run: int = 0
    _runs: dict[str, Run] = field(default_factory=dict[str, Run])
    _notes: dict[str, _Notes] = field(default_factory=dict[str, _Notes])

    def add(self, record: PersistedRecord) -> None:
        """Count one record."""
        name = run_of(record)
        if not name:
            self.without_run += 1
            return
        run = self._runs.setdefault(name, Run(name, record.system_id))
        notes = self._notes.setdefault(name, _Notes())
        if isfinite(record.timestamp):
            notes.first = min(record.timestamp, record.timestamp if notes.first is None else notes.first)
            notes.last = max(record.timestamp, record.timestamp if notes.last is None else notes.last)
        if isinstance(record, PersistedDeadLetter):
            run.dead_letters += 1
        elif isinstance(record, PersistedEvent):
            run.actors += record.event_type == "ActorStarted"
            run.crashes += record.event_type == "ActorCrashed"
            if record.event_type == "SystemStarted":
                notes.started = record
            elif record.event_type == "SystemStopped":
                notes.stopped = record

    def runs(self) -> list[Run]:
        """Return the runs, the one that started first first."""
        for name, run in self._runs.items():
            _complete(run, self._notes[name])
        return sorted(self._runs.values(), key=lambda run: (run.start or 0.0, run.run))


def _complete(run: Run, notes: _Notes) -> None:
    """Add the content of the two events of the system, and how the run ended."""
    run.start, run.end = notes.first, notes.last
    if notes.started is not None:
        run.start = notes.started.timestamp
        host, pid = notes.started.payload.get("host"), notes.started.payload.get("pid")
        run.host = host if isinstance(host, str) else None
        run.pid = pid if isinstance(pid, int) else None
    if notes.stopped is not None:
        run.end = notes.stopped.timestamp
        _take_counts(run, notes.stopped)
    run.ended = how_run_ended(_payload(notes.started), _payload(notes.stopped))
    if run.ended == "running":
        run.end = None
    elif run.start is not None and run.end is not None:
        run.duration = run.end - run.start


def _take_counts(run: Run, stopped: PersistedEvent) -> None:
    """Prefer the counts of the system.

    A compaction may have removed records, and a system may have dropped some.
    """
    for name in ("actors", "crashes", "dead_letters", "facts_dropped"):
        number = stopped.payload.get(name)
        if isinstance(number, int) and number > getattr(run, name):
            setattr(run, name, number)


def _payload(event: PersistedEvent | None) -> dict[str, JSONValue] | None:
    return event.payload if event is not None else None
