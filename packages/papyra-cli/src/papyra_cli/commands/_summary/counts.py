"""What a store is full of, counted while its records go by: in memory that does not grow with their number."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING

from papyra.persistence.models import PersistedAudit, PersistedDeadLetter, PersistedEvent
from papyra_cli.commands._summary.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Iterable

    from papyra.persistence.models import PersistedRecord, PersistenceAnomaly
    from papyra_cli.commands._summary.timeline import Bars

__all__ = ["ActorTrouble", "Counted", "Summary", "Tally"]

_MOST_NAMES = 10_000
_LONGEST = 200  # characters of a name or an error: a store may hold any
_MOST_BARS = 60


class Tally:
    """Counts by name, for the first 10,000 names; what comes under further ones is counted as ``uncounted``."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.uncounted = 0

    def add(self, name: str) -> None:
        """Count one more under ``name``."""
        name = _shortened(name)
        if name in self.counts or len(self.counts) < _MOST_NAMES:
            self.counts[name] += 1
        else:
            self.uncounted += 1

    def ranked(self, top: int | None = None) -> dict[str, int]:
        """Return the ``top`` names with most, or all of them; the alphabet decides between equals."""
        return dict(sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))[:top])


@dataclass(slots=True)
class ActorTrouble:
    """How often an actor crashed and was restarted, and its newest crash; times are Unix time in seconds."""

    actor: str
    crashes: int = 0
    restarts: int = 0
    last_crash: float | None = None
    last_error: str | None = None

    def troubles(self) -> int:
        """Crashes and restarts together."""
        return self.crashes + self.restarts

    def add(self, event: PersistedEvent) -> None:
        """Count an event; of crashes the first one that comes is the newest."""
        if event.event_type == "ActorRestarted":
            self.restarts += 1
            return
        self.crashes += 1
        if self.last_crash is None:
            self.last_crash = event.timestamp
            error = event.payload.get("error")
            self.last_error = None if error is None else _shortened(str(error))


@dataclass(frozen=True, slots=True)
class Summary:
    """What is in a store; field names are the keys of the JSON.

    ``others`` says of each table by name how many facts are in none of its rows, ``names_cut`` which of them had more
    names than are counted apart, so that the newest ones won.
    """

    backend: str
    counts: dict[str, int]
    first_timestamp: float | None
    last_timestamp: float | None
    event_types: dict[str, int]
    message_types: dict[str, int]
    timeline: Bars
    actors: list[ActorTrouble]
    dead_letter_targets: dict[str, int]
    newest_audit: PersistedAudit | None
    anomaly_types: dict[str, int]
    others: dict[str, int]
    names_cut: list[str]


@dataclass(slots=True)
class Counted:
    """A summary in the making; `add` takes records newest first."""

    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("events", "audits", "dead_letters"), 0)
    )
    first_timestamp: float | None = None
    last_timestamp: float | None = None
    event_types: Tally = field(default_factory=Tally)
    message_types: Tally = field(default_factory=Tally)
    targets: Tally = field(default_factory=Tally)
    actors: dict[str, ActorTrouble] = field(default_factory=dict[str, ActorTrouble])
    uncounted_troubles: int = 0
    timeline: Timeline = field(default_factory=Timeline)
    newest_audit: PersistedAudit | None = None

    def add(self, record: PersistedRecord) -> None:
        """Count one record."""
        self._note_time(record.timestamp)
        crash = False
        if isinstance(record, PersistedEvent):
            self.counts["events"] += 1
            self.event_types.add(record.event_type)
            crash = record.event_type == "ActorCrashed"
            if crash or record.event_type == "ActorRestarted":
                self._add_trouble(record)
        elif isinstance(record, PersistedDeadLetter):
            self.counts["dead_letters"] += 1
            self.message_types.add(record.message_type)
            self.targets.add(record.target)
        else:
            self.counts["audits"] += 1
            self.newest_audit = self.newest_audit or record
        self.timeline.add(record.timestamp, crash=crash)

    def summary(self, backend: str, anomalies: Iterable[PersistenceAnomaly], top: int) -> Summary:
        """Return what was counted, of actors and targets the ``top`` with most."""
        worst = sorted(self.actors.values(), key=lambda one: (-one.troubles(), one.actor))
        targets = self.targets.ranked(top)
        cut = {
            "event_types": self.event_types.uncounted,
            "message_types": self.message_types.uncounted,
            "actors": self.uncounted_troubles,
            "dead_letter_targets": self.targets.uncounted,
        }
        left = {
            "actors": sum(one.troubles() for one in worst[top:]),
            "dead_letter_targets": self.targets.counts.total() - sum(targets.values()),
        }
        return Summary(
            backend=backend,
            counts=self.counts,
            first_timestamp=self.first_timestamp,
            last_timestamp=self.last_timestamp,
            event_types=self.event_types.ranked(),
            message_types=self.message_types.ranked(),
            timeline=self.timeline.bars(_MOST_BARS),
            actors=worst[:top],
            dead_letter_targets=targets,
            newest_audit=self.newest_audit,
            anomaly_types=dict(Counter(str(one.type) for one in anomalies).most_common()),
            others={name: number + left.get(name, 0) for name, number in cut.items()},
            names_cut=[name for name, number in cut.items() if number],
        )

    def _note_time(self, moment: float) -> None:
        if not isfinite(moment):  # a store of somebody else may hold any
            return
        if self.first_timestamp is None or moment < self.first_timestamp:
            self.first_timestamp = moment
        if self.last_timestamp is None or moment > self.last_timestamp:
            self.last_timestamp = moment

    def _add_trouble(self, event: PersistedEvent) -> None:
        name = _shortened(event.actor_address)
        trouble = self.actors.get(name)
        if trouble is None:
            if len(self.actors) >= _MOST_NAMES:
                self.uncounted_troubles += 1
                return
            trouble = self.actors[name] = ActorTrouble(name)
        trouble.add(event)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
