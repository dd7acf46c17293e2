"""Records and anomalies as rows of plain tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from papyra_cli._errors import say
from papyra_cli._output.formats import count
from papyra_cli._output.identity import identity_of, run_of, short_type
from papyra_cli._output.output import Styled, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from papyra.persistence.models import (
        PersistedAudit,
        PersistedDeadLetter,
        PersistedEvent,
        PersistedRecord,
        PersistenceAnomaly,
    )
    from papyra_cli._output.output import Cell, Output

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
    "event_details",
    "event_lines",
    "event_table",
    "note_cut",
    "note_damage",
]

EVENT_COLUMNS = ("time", "actor", "type", "payload")
DEAD_LETTER_COLUMNS = ("time", "target", "type", "payload")
ANOMALY_COLUMNS = ("type", "path", "line", "offset", "detail")
AUDIT_COUNTS = ("actors", "alive", "stopping", "restarting", "orphans", "dead", "dead letters")
AUDIT_COLUMNS = ("time", "system", *AUDIT_COUNTS)


def event_lines(out: Output, events: Sequence[PersistedEvent]) -> Table:
    """Return one row for each lifecycle event, as a pipe gets it.

    The payload holds the name and the class.
    """
    table = Table("event", "Events", EVENT_COLUMNS)
    for event in events:
        payload = out.payload(event.payload)
        table.rows.append((out.time(event.timestamp), event.actor_address, event.event_type, payload))
    return table


def event_table(out: Output, events: Sequence[PersistedEvent]) -> Table:
    """Return one row for each lifecycle event.

    A terminal shows the name, or the address of an actor without one.
    """
    if not out.is_drawn:
        return event_lines(out, events)
    table = Table("event", "Events", ("time", "actor", "class", "type", "run", "payload"))
    for event in events:
        name, kind, run = _whose(event)
        actor = event.actor_address if name == "-" else name
        cells = (actor, short_type(kind), event.event_type, run, event_details(out, event))
        table.rows.append((out.time(event.timestamp, brief=out.is_narrow), *cells))
    return table.without_empty("class", "run")


def event_details(out: Output, event: PersistedEvent) -> Cell:
    """Return what an event says besides its actor: an error first, which a terminal never cuts."""
    rest = {key: value for key, value in event.payload.items() if key not in ("name", "type", "error")}
    error = event.payload.get("error")
    parts = [] if error is None else [error if isinstance(error, str) else out.payload(error)]
    parts += [
        f"{key} {value if isinstance(value, str) else out.payload(value)}" for key, value in rest.items()
    ]
    text = ", ".join(parts) or "-"
    return text if error is None else Styled(text, "red", wraps=True)


def dead_letter_table(out: Output, letters: Sequence[PersistedDeadLetter]) -> Table:
    """Return one row for each dead letter.

    In a pipe the target is the address, then its name and class where the record has them.
    """
    if not out.is_drawn:
        table = Table("dead_letter", "Dead letters", DEAD_LETTER_COLUMNS)
        for letter in letters:
            target = " ".join([letter.target, *(word for word in _whose(letter)[:2] if word != "-")])
            table.rows.append(
                (out.time(letter.timestamp), target, letter.message_type, out.payload(letter.payload))
            )
        return table
    columns = ("time", "target", "class", "type", "reason", "run", "payload")
    table = Table("dead_letter", "Dead letters", columns)
    for letter in letters:
        name, kind, run = _whose(letter)
        target = letter.target if name == "-" else name
        cells = (target, short_type(kind), letter.message_type, letter.reason or "-", run)
        table.rows.append(
            (out.time(letter.timestamp, brief=out.is_narrow), *cells, out.payload(letter.payload))
        )
    return table.without_empty("class", "reason", "run")


def _whose(record: PersistedRecord) -> tuple[str, str, str]:
    """Return the name, the class and the run of a record's actor, each "-" if it has none."""
    identity = identity_of(record)
    name, kind = (identity.name, identity.type) if identity else ("", "")
    return name or "-", kind or "-", run_of(record) or "-"


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
    """Return one row for each anomaly."""
    table = Table("anomaly", title, ANOMALY_COLUMNS)
    for found in anomalies:
        place = ("-" if number is None else str(number) for number in (found.line, found.offset))
        table.rows.append((Styled(str(found.type), "red"), found.path, *place, found.detail))
    return table


def note_cut(limit: int, things: str) -> None:
    """Report on stderr that there are more ``things`` than were printed."""
    say("note", f"only the newest {limit:,} {things} are shown. --limit N shows more, --limit 0 all")


def note_damage(anomalies: int) -> None:
    """Report on stderr that a store is damaged: readers skip invalid records silently."""
    if anomalies:
        found = count(anomalies, "anomaly", "anomalies")
        say(
            "note",
            f"{found} in the store; invalid records were skipped. "
            "'papyra persistence scan' lists them, 'papyra persistence recover' repairs",
        )
