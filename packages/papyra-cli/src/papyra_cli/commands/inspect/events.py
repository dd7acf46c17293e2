"""``papyra inspect events``: the newest lifecycle events, and new ones as they come."""

from __future__ import annotations

import sys
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import anyio
import click

from papyra.persistence.models import PersistedEvent
from papyra_cli._click.completion import event_types
from papyra_cli._output.records import EVENTS
from papyra_cli._output.tables import DEFAULT_LIMIT
from papyra_cli._store.session import run_on_store
from papyra_cli.commands.inspect._record_list import actor_option, record_command, run_option
from papyra_cli.commands.inspect._selection import resolve_run

if TYPE_CHECKING:
    from typing import TypeGuard

    from papyra.persistence.models import PersistedRecord
    from papyra_cli._output.output import Output
    from papyra_cli._store.session import OpenStore
    from papyra_cli.commands.inspect._record_list import RecordList

__all__ = ["events"]

_READER_POLL_SECONDS = 0.25


@record_command(
    PersistedEvent,
    EVENTS,
    click.option(
        "--type",
        metavar="TYPE",
        help="Only events of this type, as in ActorCrashed.",
        shell_complete=event_types,
    ),
    click.option("--crashes", is_flag=True, help="Only crashes: the same as --type ActorCrashed."),
    actor_option,
    run_option,
    click.option("--follow", "following", is_flag=True, help="Print new events as they come, until Ctrl-C."),
    status="how many, but not with --follow",
    exit_codes={0: "done, also if no event matches, or if the reader has left (| head)"},
    examples=[
        ("papyra inspect events --path papyra.ndjson", "the newest 100, oldest first"),
        ("papyra inspect events --crashes --since 02:00 --time relative", "the crashes since two o'clock"),
        ("papyra inspect events --actor 'order-*' --run last", "the last life of some actors"),
        ("papyra inspect events --path papyra.ndjson --follow -o jsonl", "each new event as one JSON object"),
    ],
)
def events(records: RecordList[PersistedEvent], crashes: bool, following: bool) -> None:
    """Show the newest lifecycle events.

    Actors start, crash, are restarted, and stop. The reason of a restart is in the ActorCrashed before the
    ActorRestarted. With --follow each event is shown once, also while the store is written, rotated and
    compacted. JSON modes then print one object a line.
    """
    ctx = click.get_current_context()
    if crashes:
        if records.selection.type is not None:
            raise click.UsageError("--crashes and --type both choose a type: give one of them", ctx)
        records = replace(records, selection=replace(records.selection, type="ActorCrashed"))
    if not following:
        records.show()
        return
    if records.selection.reverse or records.selection.until is not None:
        raise click.UsageError("--follow has no end: leave out --reverse and --until", ctx)
    run_on_store(records.out, records.store, partial(_follow, records))


async def _follow(records: RecordList[PersistedEvent], opened: OpenStore) -> None:
    selection = await resolve_run(opened, records.selection)
    since = selection.since

    def wanted(record: PersistedRecord) -> TypeGuard[PersistedEvent]:
        new_enough = since is None or record.timestamp >= since
        return isinstance(record, PersistedEvent) and new_enough and selection.matches(record)

    limit = DEFAULT_LIMIT if selection.limit is None else selection.limit or sys.maxsize
    async with anyio.create_task_group() as group:
        group.start_soon(_end_when_the_reader_leaves, opened.out, group.cancel_scope)
        async with aclosing(opened.backend.follow(limit=limit, wanted=wanted)) as followed:
            async for record in followed:
                if wanted(record):
                    records.printer.stream(opened.out, record)
        group.cancel_scope.cancel()


async def _end_when_the_reader_leaves(out: Output, scope: anyio.CancelScope) -> None:
    while not out.reader_left():  # noqa: ASYNC110 - a pipe does not notify anyone when its reader leaves
        await anyio.sleep(_READER_POLL_SECONDS)
    scope.cancel()
