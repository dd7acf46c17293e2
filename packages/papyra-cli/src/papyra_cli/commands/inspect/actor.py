"""``papyra inspect actor``: the facts of one actor, in order."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import click

from papyra.persistence.models import PersistedDeadLetter, PersistedEvent
from papyra_cli._click.completion import actors
from papyra_cli._output.identity import short_type
from papyra_cli._output.output import Styled
from papyra_cli._output.records import RecordPrinter, event_details, whose
from papyra_cli.commands.inspect._record_list import record_command, run_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from papyra_cli._output.output import Cell, Output
    from papyra_cli.commands.inspect._record_list import RecordList

    _Fact: TypeAlias = PersistedEvent | PersistedDeadLetter

__all__ = ["actor"]

_COLORS = {"ActorCrashed": "red", "ActorRestarted": "yellow", "DeadLetter": "yellow"}


def _line(out: Output, fact: _Fact) -> Sequence[Cell]:
    return out.time(fact.timestamp), _address(fact), *_what(out, fact), *whose(fact)


def _row(out: Output, fact: _Fact) -> Sequence[Cell]:
    """Return the cells for a terminal: the ones that differ from row to row come last."""
    name, kind, run = whose(fact)
    actor = _address(fact) if name == "-" else name
    return out.time(fact.timestamp, brief=out.is_narrow), actor, short_type(kind), run, *_what(out, fact)


def _address(fact: _Fact) -> str:
    return fact.actor_address if isinstance(fact, PersistedEvent) else fact.target


def _what(out: Output, fact: _Fact) -> tuple[Cell, Cell]:
    """Return the type of a fact, and its payload in words."""
    if isinstance(fact, PersistedDeadLetter):
        details = [fact.message_type, fact.reason, out.payload(fact.payload)]
        return _styled("DeadLetter"), ": ".join(filter(None, details))
    return _styled(fact.event_type), event_details(out, fact)


def _styled(word: str) -> Cell:
    return Styled(word, _COLORS[word]) if word in _COLORS else word


_STORY = RecordPrinter(
    "fact",
    "Story",
    columns=("time", "actor", "type", "details", "name", "class", "run"),
    line=_line,
    drawn_columns=("time", "actor", "class", "run", "type", "details"),
    row=_row,
)


@record_command(
    (PersistedEvent, PersistedDeadLetter),
    _STORY,
    click.argument("name", shell_complete=actors),
    run_option,
    exit_codes={0: "done, also if the store has no such actor"},
    examples=[
        ("papyra inspect actor mailer --path papyra.ndjson", "what happened to the mailer, in order?"),
        ("papyra inspect actor 'order-*' --since yesterday", "the same for some actors together"),
    ],
)
def actor(records: RecordList[_Fact], name: str) -> None:
    """Tell the story of one actor.

    Its starts, its crashes with their errors, its restarts, its end, and the messages that it missed, in
    order. NAME is a name, a class, an address, or a pattern such as 'order-*'.
    """
    replace(records, selection=replace(records.selection, actor=name)).show()
