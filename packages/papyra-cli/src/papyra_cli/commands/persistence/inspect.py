"""``papyra persistence inspect``: the number of records, and the newest events."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import click

from papyra.persistence.models import PersistedEvent
from papyra_cli._click.commands import ManualCommand
from papyra_cli._click.options import limit_option, since_option, store_command, until_option
from papyra_cli._output.formats import count
from papyra_cli._output.output import Styled, Table
from papyra_cli._output.records import EVENTS
from papyra_cli._output.tables import limit_of, note_cut, note_damage
from papyra_cli._store.session import run_on_store
from papyra_cli.commands._summary.counts import Counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from papyra.persistence.models import PersistedRecord
    from papyra_cli._output.output import Output
    from papyra_cli._store.choose import Store
    from papyra_cli._store.session import OpenStore

__all__ = ["inspect"]


@dataclass(slots=True)
class _Contents:
    """The content of a store; field names are the keys of the JSON."""

    backend: str
    counts: dict[str, int]
    first_timestamp: float | None
    last_timestamp: float | None
    events: Sequence[PersistedEvent]


@click.command(
    cls=ManualCommand,
    lines={"summary": ("what", "value"), "event": EVENTS.columns, "status": ("how many records",)},
    exit_codes={0: "done, also if there is nothing"},
    examples=[
        (
            "papyra persistence inspect --path papyra.ndjson --limit 5",
            "how much there is, and the newest events",
        ),
        ("papyra persistence inspect --since 1h -o json", "the records of the last hour, as JSON"),
    ],
)
@limit_option
@since_option
@until_option
@store_command
def inspect(out: Output, store: Store, limit: int | None, since: float | None, until: float | None) -> None:
    """Count the records of a store and show the newest events.

    Prints the number of records of each kind and the times of the oldest and the newest. A note on stderr
    reports damage. 'papyra inspect summary' counts more.
    """
    contents, anomalies = run_on_store(out, store, partial(_read, limit_of(out, limit), since, until))
    note_damage(anomalies)
    if limit is None and len(contents.events) < contents.counts["events"]:
        note_cut("events")
    total = sum(contents.counts.values())
    out.show(
        contents, contents.events, _tables(out, contents), Styled(count(total, "record", "records"), "green")
    )


async def _read(
    limit: int | None, since: float | None, until: float | None, opened: OpenStore
) -> tuple[_Contents, int]:
    counted = Counted()
    events: list[PersistedEvent] = []

    def take(record: PersistedRecord) -> None:
        counted.add(record)
        if isinstance(record, PersistedEvent) and (limit is None or len(events) < limit):
            events.append(record)

    await opened.read(since, until, take)
    damage = await opened.scan()
    contents = _Contents(
        opened.backend.name, counted.counts, counted.first_timestamp, counted.last_timestamp, events[::-1]
    )
    return contents, len(damage.anomalies)


def _tables(out: Output, contents: _Contents) -> list[Table]:
    summary = Table("summary", f"The {contents.backend} store", ("what", "value"))
    for kind, number in contents.counts.items():
        summary.rows.append((kind, str(number)))
    summary.rows.append(("first_timestamp", out.time(contents.first_timestamp)))
    summary.rows.append(("last_timestamp", out.time(contents.last_timestamp)))
    return [summary, EVENTS.table(out, contents.events)]
