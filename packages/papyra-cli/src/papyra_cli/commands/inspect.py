"""``papyra inspect``: read the record."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click

from papyra_cli._follow import Follower
from papyra_cli._group import HelpfulGroup
from papyra_cli._options import limit_option, since_option, store_command, until_option
from papyra_cli._output import Styled, Table
from papyra_cli._records import audit_table, dead_letter_table, event_table
from papyra_cli._reports import count
from papyra_cli._run import run_on_store, with_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from papyra.persistence import PersistenceBackend
    from papyra.persistence.models import PersistedEvent, PersistedRecord
    from papyra_cli._output import Output
    from papyra_cli._store import Store

__all__ = ["inspect"]

_F = TypeVar("_F", bound="Callable[..., Any]")
_R = TypeVar("_R", bound="PersistedRecord")


@click.group(cls=HelpfulGroup)
def inspect() -> None:
    """Read the record of a system: events, audits, dead letters."""


def _record_options(function: _F) -> _F:
    reverse = click.option("--reverse", is_flag=True, help="Newest first.")
    for option in (reverse, until_option, since_option, limit_option):
        function = option(function)
    return function


@inspect.command()
@_record_options
@click.option("--type", "event_type", metavar="TYPE", help="Only events of this type, as in ActorStarted.")
@click.option("--actor", metavar="ADDRESS", help="Only events of this actor, as in local:1.")
@click.option("--follow", "following", is_flag=True, help="Go on with new ones as they come, until Ctrl-C.")
@store_command
def events(out: Output, store: Store, limit: int, reverse: bool, following: bool, **filters: Any) -> None:
    """Show the newest lifecycle events."""
    if following and (reverse or filters["until"] is not None):
        raise click.UsageError(
            "--follow has no end: leave out --reverse and --until", click.get_current_context()
        )
    if following:
        run_on_store(store, partial(_follow_events, out, limit, filters))
        return
    found = run_on_store(
        store, lambda backend: _load(out, lambda: backend.list_events(limit=limit, **filters))
    )
    _show(out, found, reverse, event_table, ("event", "events"))


@inspect.command()
@_record_options
@store_command
def audits(out: Output, store: Store, limit: int, reverse: bool, **filters: Any) -> None:
    """Show the newest audits."""
    found = run_on_store(
        store, lambda backend: _load(out, lambda: backend.list_audits(limit=limit, **filters))
    )
    _show(out, found, reverse, audit_table, ("audit", "audits"))


@inspect.command("dead-letters")
@_record_options
@click.option("--type", "message_type", metavar="TYPE", help="Only messages of this type.")
@click.option("--actor", metavar="ADDRESS", help="Only messages to this actor, as in local:1.")
@store_command
def dead_letters(out: Output, store: Store, limit: int, reverse: bool, **filters: Any) -> None:
    """Show the newest dead letters."""
    found = run_on_store(
        store, lambda backend: _load(out, lambda: backend.list_dead_letters(limit=limit, **filters))
    )
    _show(out, found, reverse, dead_letter_table, ("dead letter", "dead letters"))


@inspect.command()
@since_option
@until_option
@store_command
def summary(out: Output, store: Store, since: float | None, until: float | None) -> None:
    """Count what is in a store, by kind and by type."""
    read = partial(_summarize, since, until)
    result = run_on_store(store, lambda backend: with_progress(out, "reading", lambda: read(backend)))
    tables = [
        Table("events", "Events", ("type", "count"), _ranked(result.event_types)),
        Table("dead_letters", "Dead letters", ("type", "count"), _ranked(result.message_types)),
        Table(
            "total", "All", ("kind", "count"), [(kind, str(number)) for kind, number in result.counts.items()]
        ),
    ]
    total = count(sum(result.counts.values()), "record", "records")
    out.show(result, [result], tables, Styled(f"{total} in the {result.backend} store", "green"))


@dataclass(slots=True)
class _Summary:
    """What is in a store; field names are the keys of the JSON."""

    backend: str
    counts: dict[str, int] = field(default_factory=dict[str, int])
    event_types: Counter[str] = field(default_factory=Counter[str])
    message_types: Counter[str] = field(default_factory=Counter[str])


async def _summarize(since: float | None, until: float | None, backend: PersistenceBackend) -> _Summary:
    result = _Summary(backend.name)
    result.event_types.update(e.event_type for e in await backend.list_events(since=since, until=until))
    result.message_types.update(
        d.message_type for d in await backend.list_dead_letters(since=since, until=until)
    )
    result.counts["events"] = result.event_types.total()
    result.counts["audits"] = len(await backend.list_audits(since=since, until=until))
    result.counts["dead_letters"] = result.message_types.total()
    return result


def _ranked(counts: Counter[str]) -> list[Any]:
    return [(name, str(number)) for name, number in counts.most_common()]


async def _load(out: Output, read: Callable[[], Any]) -> Any:
    return await with_progress(out, "reading", read)


def _show(
    out: Output,
    found: Sequence[_R],
    reverse: bool,
    table: Callable[[Output, Sequence[_R]], Table],
    words: tuple[str, str],
) -> None:
    records = found[::-1] if reverse else found
    out.show(records, records, [table(out, records)], Styled(count(len(records), *words), "green"))


async def _follow_events(
    out: Output, limit: int, filters: dict[str, Any], backend: PersistenceBackend
) -> None:
    def wanted(event: PersistedEvent) -> bool:
        return filters["event_type"] in (None, event.event_type) and filters["actor"] in (
            None,
            event.actor_address,
        )

    # Filtered here: a backend that looks for the newest 256 of a rare type may read its whole store each time.
    follower = Follower(lambda n: backend.list_events(limit=n))
    await follower.start()
    matching = list(await backend.list_events(limit=limit, **filters))
    follower.tell(matching)
    while not out.reader_left():
        out.stream(event_table(out, matching), matching)
        matching = [event for event in await follower.fresh() if wanted(event)]
