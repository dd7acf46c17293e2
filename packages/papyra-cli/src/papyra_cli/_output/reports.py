"""Parts of reports that several commands print."""

from __future__ import annotations

from typing import TYPE_CHECKING

from papyra_cli._errors import say
from papyra_cli._output.output import Styled, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from papyra.persistence.models import PersistenceAnomaly

__all__ = ["ANOMALY_COLUMNS", "anomaly_table", "count", "note_damage", "size"]

ANOMALY_COLUMNS = ("type", "path", "line", "offset", "detail")


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


def count(number: int, one: str, many: str) -> str:
    """Return a number with the right form of what it counts."""
    return f"{number:,} {one if number == 1 else many}"


def size(number: int | None) -> str:
    """Return bytes for people, in the units that ``--max-bytes`` reads."""
    if number is None:
        return "-"
    amount, unit = float(number), "B"
    for bigger in ("KB", "MB", "GB", "TB"):
        if abs(amount) < 1000:
            break
        amount, unit = amount / 1000, bigger
    return f"{number} B" if unit == "B" else f"{amount:.1f} {unit}"
