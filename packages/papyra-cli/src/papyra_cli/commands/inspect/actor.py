"""``papyra inspect actor``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import click

from papyra.persistence.models import PersistedDeadLetter, PersistedEvent
from papyra_cli._click.commands import ManualCommand
from papyra_cli._click.completion import actors
from papyra_cli._click.options import store_command
from papyra_cli._output.identity import identity_of, run_of, short_type
from papyra_cli._output.output import Styled, Table
from papyra_cli._output.tables import event_details
from papyra_cli.commands.inspect._record_list import (
    list_records,
    reverse_option,
    run_option,
    selecting,
    span_options,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from papyra_cli._output.output import Cell, Output
    from papyra_cli._store.choose import Store
    from papyra_cli.commands.inspect._selection import Selection

    _Fact: TypeAlias = PersistedEvent | PersistedDeadLetter

__all__ = ["actor"]

_COLUMNS = ("time", "actor", "type", "details", "name", "class", "run")
_COLORS = {"ActorCrashed": "red", "ActorRestarted": "yellow", "DeadLetter": "yellow"}


@click.command(
    cls=ManualCommand,
    lines={"fact": _COLUMNS, "status": ("how many",)},
    exit_codes={0: "done, also if the store has no such actor"},
    examples=[
        ("papyra inspect actor mailer --path papyra.ndjson", "what happened to the mailer, in order?"),
        ("papyra inspect actor 'order-*' --since yesterday", "the same for some actors together"),
    ],
)
@click.argument("name", shell_complete=actors)
@selecting(*span_options, reverse_option, run_option)
@store_command
def actor(out: Output, store: Store, name: str, selection: Selection) -> None:
    """Tell the story of one actor.

    Its starts, its crashes with their errors, its restarts, its end, and the messages that it missed, in
    order. NAME is a name, a class, an address, or a pattern such as 'order-*'.
    """
    kinds: tuple[type[_Fact], ...] = (PersistedEvent, PersistedDeadLetter)
    list_records(out, store, kinds, replace(selection, actor=name), _story, ("fact", "facts"))


def _story(out: Output, facts: Sequence[_Fact]) -> Table:
    table = Table("fact", "Story", _COLUMNS)
    for fact in facts:
        identity = identity_of(fact)
        name, kind = (identity.name, identity.type) if identity else ("", "")
        address = fact.actor_address if isinstance(fact, PersistedEvent) else fact.target
        row = (out.time(fact.timestamp, brief=out.is_narrow), address, *_what(out, fact))
        if out.is_drawn:
            kind = short_type(kind)
        table.rows.append((*row, name or "-", kind or "-", run_of(fact) or "-"))
    return _drawn(table) if out.is_drawn else table


def _drawn(table: Table) -> Table:
    """Return the columns in an order for a terminal: the ones that differ from row to row come last."""
    drawn = Table(table.key, table.title, ("time", "actor", "class", "run", "type", "details"))
    for time, address, what, details, name, kind, run in table.rows:
        drawn.rows.append((time, address if name == "-" else name, kind, run, what, details))
    return drawn.without_empty("class", "run")


def _what(out: Output, fact: _Fact) -> tuple[Cell, Cell]:
    """Return the type of a fact, and its payload in words."""
    if isinstance(fact, PersistedDeadLetter):
        details = [fact.message_type, fact.reason, out.payload(fact.payload)]
        return _styled("DeadLetter"), ": ".join(filter(None, details))
    return _styled(fact.event_type), event_details(out, fact)


def _styled(word: str) -> Cell:
    return Styled(word, _COLORS[word]) if word in _COLORS else word
