"""``papyra inspect events``."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, cast

import anyio
import click

from papyra.persistence import Query
from papyra.persistence.models import PersistedEvent
from papyra_cli._click.commands import ManualCommand
from papyra_cli._click.completion import actors, event_types
from papyra_cli._click.options import store_command
from papyra_cli._output.tables import EVENT_COLUMNS, event_table
from papyra_cli._store.session import run_on_store
from papyra_cli.commands.inspect._record_list import list_records, record_options

if TYPE_CHECKING:
    from papyra_cli._output.output import Output
    from papyra_cli._store.choose import Store
    from papyra_cli._store.session import OpenStore

__all__ = ["events"]

_GLANCE = 0.25
"""Seconds between two looks at whether anybody still reads what is printed."""


@click.command(
    cls=ManualCommand,
    lines={"event": EVENT_COLUMNS, "status": ("how many, but not with --follow",)},
    exit_codes={0: "done, also if there are none, or if nobody reads on (| head)"},
    examples=[
        ("papyra inspect events --path papyra.ndjson", "the newest 100, oldest first"),
        ("papyra inspect events --type ActorCrashed --since 6h --time relative", "the crashes of six hours"),
        ("papyra inspect events --actor local:1 --limit 10 --reverse", "the life of one actor"),
        ("papyra inspect events --path papyra.ndjson --follow -o jsonl", "each new event as one JSON object"),
    ],
)
@record_options
@click.option(
    "--type",
    "event_type",
    metavar="TYPE",
    help="Only events of this type, as in ActorCrashed.",
    shell_complete=event_types,
)
@click.option(
    "--actor", metavar="ADDRESS", help="Only events of this actor, as in local:1.", shell_complete=actors
)
@click.option("--follow", "following", is_flag=True, help="Go on with new ones as they come, until Ctrl-C.")
@store_command
def events(out: Output, store: Store, limit: int, reverse: bool, following: bool, **filters: Any) -> None:
    """Show the newest lifecycle events.

    Actors start, crash, are restarted, and stop. Why an actor was restarted stands in the ActorCrashed before the ActorRestarted. With --follow the store may be
    written, rotated and compacted meanwhile: each event is shown once. JSON modes then print one object a line.
    """
    if following and (reverse or filters["until"] is not None):
        raise click.UsageError(
            "--follow has no end: leave out --reverse and --until", click.get_current_context()
        )
    if following:
        query = Query(
            PersistedEvent, since=filters["since"], type=filters["event_type"], actor=filters["actor"]
        )
        run_on_store(out, store, lambda opened: _follow(opened, limit, query))
        return
    list_records(
        out,
        store,
        lambda backend: backend.list_events(limit=limit, **filters),
        event_table,
        ("event", "events"),
        reverse=reverse,
    )


async def _follow(opened: OpenStore, limit: int, query: Query[PersistedEvent]) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(_end_when_nobody_reads, opened.out, group.cancel_scope)
        async with aclosing(opened.backend.follow(limit=limit, wanted=query.matches)) as records:
            async for record in records:
                found = [cast("PersistedEvent", record)]  # no other kind is wanted
                opened.out.stream(event_table(opened.out, found), found)
        group.cancel_scope.cancel()


async def _end_when_nobody_reads(out: Output, scope: anyio.CancelScope) -> None:
    while not out.reader_left():  # noqa: ASYNC110 - a pipe tells nobody that its reader left
        await anyio.sleep(_GLANCE)
    scope.cancel()
