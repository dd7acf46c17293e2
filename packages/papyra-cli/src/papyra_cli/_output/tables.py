"""Anomalies as rows of a table, and notes on what was not printed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from papyra_cli._errors import say
from papyra_cli._output.formats import count
from papyra_cli._output.output import Styled, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from papyra.persistence.models import PersistenceAnomaly

__all__ = ["ANOMALY_COLUMNS", "anomaly_table", "note_cut", "note_damage"]

ANOMALY_COLUMNS = ("type", "path", "line", "offset", "detail")


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
