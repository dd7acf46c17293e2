"""A summary of a store, counted while its records go by in bounded memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING

from papyra.persistence.models import PersistedAudit, PersistedDeadLetter, PersistedEvent
from papyra_cli._output.identity import identity_of, short
from papyra_cli.commands._summary.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Iterable

    from papyra.persistence.models import PersistedRecord, PersistenceAnomaly
    from papyra_cli.commands._summary.timeline import Bars

__all__ = ["ActorTrouble", "Counted", "Summary", "Tally"]

_MAX_NAMES = 10_000
_MAX_BARS = 60


class Tally:
    """Counts by name, of the first 10,000 names; the others are counted together as ``uncounted``."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.uncounted = 0

    def add(self, name: str) -> None:
        """Count one more under ``name``."""
        name = short(name)
        if name in self.counts or len(self.counts) < _MAX_NAMES:
            self.counts[name] += 1
        else:
            self.uncounted += 1

    def ranked(self, top: int | None = None) -> dict[str, int]:
        """Return the ``top`` names with most, or all of them; the alphabet decides between equals."""
        return dict(sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))[:top])


@dataclass(slots=True)
class ActorTrouble:
    """How often an actor crashed and was restarted, and its newest crash; times are Unix times.

    ``actor`` is its name; without a name, its class and run, because another run gives its address to another
    actor; in records of older versions, its address. ``type`` and ``run`` are those of its newest record.
    """

    actor: str
    crashes: int = 0
    restarts: int = 0
    last_crash: float | None = None
    last_error: str | None = None
    type: str = ""
    run: str = ""

    def troubles(self) -> int:
        """Return the number of crashes and restarts together."""
        return self.crashes + self.restarts

    def add(self, event: PersistedEvent) -> None:
        """Count an event; the newest crash comes first."""
        if event.event_type == "ActorRestarted":
            self.restarts += 1
            return
        self.crashes += 1
        if self.last_crash is None:
            self.last_crash = event.timestamp
            error = event.payload.get("error")
            self.last_error = None if error is None else short(str(error))


@dataclass(frozen=True, slots=True)
class Summary:
    """The contents of a store; field names are the keys of the JSON.

    ``others`` holds, of each table by name, the number of facts that are in none of its rows. ``names_cut``
    lists the tables that had more names than are counted apart; those of the newest records are the ones
    counted.
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
            identity = identity_of(record)
            self.targets.add(identity.label if identity else record.target)
        else:
            self.counts["audits"] += 1
            self.newest_audit = self.newest_audit or record
        self.timeline.add(record.timestamp, crash=crash)

    def summary(self, backend: str, anomalies: Iterable[PersistenceAnomaly], top: int) -> Summary:
        """Return the summary, with the ``top`` actors and targets that have the highest counts."""
        worst = sorted(self.actors.values(), key=lambda actor: (-actor.troubles(), actor.actor))
        targets = self.targets.ranked(top)
        cut = {
            "event_types": self.event_types.uncounted,
            "message_types": self.message_types.uncounted,
            "actors": self.uncounted_troubles,
            "dead_letter_targets": self.targets.uncounted,
        }
        left = {
            "actors": sum(actor.troubles() for actor in worst[top:]),
            "dead_letter_targets": self.targets.counts.total() - sum(targets.values()),
        }
        return Summary(
            backend=backend,
            counts=self.counts,
            first_timestamp=self.first_timestamp,
            last_timestamp=self.last_timestamp,
            event_types=self.event_types.ranked(),
            message_types=self.message_types.ranked(),
            timeline=self.timeline.bars(_MAX_BARS),
            actors=worst[:top],
            dead_letter_targets=targets,
            newest_audit=self.newest_audit,
            anomaly_types=dict(Counter(str(anomaly.type) for anomaly in anomalies).most_common()),
            others={name: number + left.get(name, 0) for name, number in cut.items()},
            names_cut=[name for name, number in cut.items() if number],
        )

    def _note_time(self, moment: float) -> None:
        if not isfinite(moment):  # another program may have written any number
            return
        if self.first_timestamp is None or moment < self.first_timestamp:
            self.first_timestamp = moment
        if self.last_timestamp is None or moment > self.last_timestamp:
            self.last_timestamp = moment

    def _add_trouble(self, event: PersistedEvent) -> None:
        identity = identity_of(event)
        if identity is None:
            return
        trouble = self.actors.get(identity.label)
        if trouble is None:
            if len(self.actors) >= _MAX_NAMES:
                self.uncounted_troubles += 1
                return
            trouble = ActorTrouble(identity.label, type=identity.type, run=identity.run)
            self.actors[identity.label] = trouble
        trouble.add(event)
