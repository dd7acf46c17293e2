"""``papyra persistence inspect``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import click

from papyra_cli._options import limit_option, since_option, store_command, until_option
from papyra_cli._output import Styled, Table
from papyra_cli._records import event_table
from papyra_cli._reports import count
from papyra_cli._run import run_on_store, with_progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from papyra.persistence import PersistenceBackend
    from papyra.persistence.models import PersistedEvent, PersistedRecord
    from papyra_cli._output import Output
    from papyra_cli._store import Store

__all__ = ["inspect"]


@dataclass(slots=True)
class _Contents:
    """What is in a store; field names are the keys of the JSON."""

    backend: str
    counts: dict[str, int]
    first_timestamp: float | None
    last_timestamp: float | None
    events: Sequence[PersistedEvent]

    def count(self, kind: str, records: Sequence[PersistedRecord]) -> None:
        self.counts[kind] = len(records)
        for record in records:
            moment = record.timestamp
            if self.first_timestamp is None or moment < self.first_timestamp:
                self.first_timestamp = moment
            if self.last_timestamp is None or moment > self.last_timestamp:
                self.last_timestamp = moment


@click.command()
@limit_option
@since_option
@until_option
@store_command
def inspect(out: Output, store: Store, limit: int, since: float | None, until: float | None) -> None:
    """Show what is in a store: how much of each kind, from when to when, and the newest events."""
    read = partial(_read, limit, since, until)
    contents = run_on_store(store, lambda backend: with_progress(out, "reading", lambda: read(backend)))
    total = sum(contents.counts.values())
    out.show(
        contents, contents.events, _tables(out, contents), Styled(count(total, "record", "records"), "green")
    )


async def _read(
    limit: int, since: float | None, until: float | None, backend: PersistenceBackend
) -> _Contents:
    contents = _Contents(backend.name, {}, None, None, ())
    events = await backend.list_events(since=since, until=until)
    contents.count("events", events)
    contents.events = events[max(len(events) - limit, 0) :]
    del events  # the whole history: not to be held beside that of another kind
    contents.count("audits", await backend.list_audits(since=since, until=until))
    contents.count("dead_letters", await backend.list_dead_letters(since=since, until=until))
    return contents


def _tables(out: Output, contents: _Contents) -> list[Table]:
    summary = Table("summary", f"The {contents.backend} store", ("what", "value"))
    for kind, number in contents.counts.items():
        summary.rows.append((kind, str(number)))
    summary.rows.append(("first_timestamp", out.time(contents.first_timestamp)))
    summary.rows.append(("last_timestamp", out.time(contents.last_timestamp)))
    return [summary, event_table(out, contents.events)]
