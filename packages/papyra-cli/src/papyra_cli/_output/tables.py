"""Anomalies as rows of a table, and notes on what was not printed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from papyra_cli._errors import say
from papyra_cli._output.formats import count
from papyra_cli._output.output import Styled, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from papyra.persistence.models import PersistenceAnomaly
    from papyra_cli._output.output import Output

__all__ = ["ANOMALY_COLUMNS", "DEFAULT_LIMIT", "anomaly_table", "limit_of", "note_cut", "note_damage"]

ANOMALY_COLUMNS = ("type", "path", "line", "offset", "detail")

DEFAULT_LIMIT = 100
"""Rows of a table or lines in a pipe; JSON is complete unless ``--limit`` is given."""


def anomaly_table(anomalies: Sequence[PersistenceAnomaly], title: str = "Anomalies") -> Table:
    """Return one row for each anomaly."""
    table = Table("anomaly", title, ANOMALY_COLUMNS)
    for anomaly in anomalies:
        place = ("-" if number is None else str(number) for number in (anomaly.line, anomaly.offset))
        table.rows.append((Styled(str(anomaly.type), "red"), anomaly.path, *place, anomaly.detail))
    return table


def limit_of(out: Output, limit: int | None) -> int | None:
    """Return how many records to print, None for all; 0 means all, too."""
    if limit is None:
        return None if out.is_json else DEFAULT_LIMIT
    return limit or None


def note_cut(things: str) -> None:
    """Report on stderr that there are more ``things`` than were printed by default."""
    say("note", f"only the newest {DEFAULT_LIMIT} {things} are shown. --limit N shows more, --limit 0 all")


def note_damage(anomalies: int) -> None:
    """Report on stderr that a store is damaged: readers skip invalid records silently."""
    if anomalies:
        number = count(anomalies, "anomaly", "anomalies")
        say(
            "note",
            f"{number} in the store; invalid records were skipped. "
            "'papyra persistence scan' lists them, 'papyra persistence recover' repairs",
        )
