"""Records and anomalies as rows of plain tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from papyra_cli._errors import say
from papyra_cli._output.formats import count
from papyra_cli._output.output import Styled, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from papyra.persistence.models import (
        PersistedAudit,
        PersistedDeadLetter,
        PersistedEvent,
        PersistenceAnomaly,
    )
    from papyra_cli._output.output import Output

__all__ = [
    "ANOMALY_COLUMNS",
    "AUDIT_COLUMNS",
    "AUDIT_COUNTS",
    "DEAD_LETTER_COLUMNS",
    "EVENT_COLUMNS",
    "anomaly_table",
    "audit_counts",
    "audit_table",
    "dead_letter_table",
    "event_table",
    "note_damage",
]

EVENT_COLUMNS = ("time", "actor", "type", "payload")
DEAD_LETTER_COLUMNS = ("time", "target", "type", "payload")
ANOMALY_COLUMNS = ("type", "path", "line", "offset", "detail")
AUDIT_COUNTS = ("actors", "alive", "stopping", "restarting", "orphans", "dead", "dead letters")
AUDIT_COLUMNS = ("time", "system", *AUDIT_COUNTS)


def event_table(out: Output, events: Sequence[PersistedEvent]) -> Table:
    """Return one row for each lifecycle event."""
    table = Table("event", "Events", EVENT_COLUMNS)
    for event in events:
        table.rows.append(
            (out.time(event.timestamp), event.actor_address, event.event_type, out.payload(event.payload))
        )
    return table


def dead_letter_table(out: Output, letters: Sequence[PersistedDeadLetter]) -> Table:
    """Return one row for each dead letter."""
    table = Table("dead_letter", "Dead letters", DEAD_LETTER_COLUMNS)
    for letter in letters:
        table.rows.append(
            (out.time(letter.timestamp), letter.target, letter.message_type, out.payload(letter.payload))
        )
    return table


def audit_table(out: Output, audits: Sequence[PersistedAudit]) -> Table:
    """Return one row for each audit."""
    table = Table("audit", "Audits", AUDIT_COLUMNS)
    for audit in audits:
        table.rows.append((out.time(audit.timestamp), audit.system_id, *map(str, audit_counts(audit))))
    return table


def audit_counts(audit: PersistedAudit) -> tuple[int, ...]:
    """Return the numbers of an audit, in the order of `AUDIT_COUNTS`."""
    return (
        audit.total_actors,
        audit.alive_actors,
        audit.stopping_actors,
        audit.restarting_actors,
        len(audit.registry_orphans),
        len(audit.registry_dead),
        audit.dead_letters_count,
    )


def anomaly_table(anomalies: Sequence[PersistenceAnomaly], title: str = "Anomalies") -> Table:
    """Return one row for each place where a store is damaged."""
    table = Table("anomaly", title, ANOMALY_COLUMNS)
    for found in anomalies:
        place = ("-" if number is None else str(number) for number in (found.line, found.offset))
        table.rows.append((Styled(str(found.type), "red"), found.path, *place, found.detail))
    return table


def note_damage(anomalies: int) -> None:
    """Tell on stderr that a store is damaged, for what is no valid record is passed over in silence otherwise."""
    if anomalies:
        found = count(anomalies, "anomaly", "anomalies")
        say(
            "note",
            f"{found} in the store, and what is no valid record was passed over; "
            "'papyra persistence scan' lists them, 'papyra persistence recover' repairs",
        )
