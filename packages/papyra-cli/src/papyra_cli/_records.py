"""Stored facts as rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from papyra_cli._output import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from papyra.persistence.models import PersistedAudit, PersistedDeadLetter, PersistedEvent
    from papyra_cli._output import Output

__all__ = ["audit_table", "dead_letter_table", "event_table"]


def event_table(out: Output, events: Sequence[PersistedEvent]) -> Table:
    """Return one row for each lifecycle event."""
    table = Table("event", "Events", ("time", "actor", "type", "payload"))
    for event in events:
        table.rows.append(
            (out.time(event.timestamp), event.actor_address, event.event_type, out.payload(event.payload))
        )
    return table


def dead_letter_table(out: Output, letters: Sequence[PersistedDeadLetter]) -> Table:
    """Return one row for each dead letter."""
    table = Table("dead_letter", "Dead letters", ("time", "target", "type", "payload"))
    for letter in letters:
        table.rows.append(
            (out.time(letter.timestamp), letter.target, letter.message_type, out.payload(letter.payload))
        )
    return table


def audit_table(out: Output, audits: Sequence[PersistedAudit]) -> Table:
    """Return one row for each audit."""
    columns = (
        "time",
        "system",
        "actors",
        "alive",
        "stopping",
        "restarting",
        "orphans",
        "dead",
        "dead letters",
    )
    table = Table("audit", "Audits", columns)
    for audit in audits:
        numbers = (
            audit.total_actors,
            audit.alive_actors,
            audit.stopping_actors,
            audit.restarting_actors,
            len(audit.registry_orphans),
            len(audit.registry_dead),
            audit.dead_letters_count,
        )
        table.rows.append((out.time(audit.timestamp), audit.system_id, *map(str, numbers)))
    return table
