"""The options of the commands of `papyra inspect` that list records, and what they print."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import wraps
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import click

from papyra.persistence.models import PersistedRecord
from papyra_cli._click.commands import ManualCommand
from papyra_cli._click.completion import actors, runs, targets
from papyra_cli._click.options import limit_option, since_option, store_command, until_option, with_options
from papyra_cli._output.tables import limit_of, note_cut
from papyra_cli._store.session import run_on_store
from papyra_cli.commands.inspect._selection import (
    Selection,
    note_nothing,
    read_records,
    resolve_run,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from papyra_cli._click.completion import Completer
    from papyra_cli._output.output import Output
    from papyra_cli._output.records import RecordPrinter
    from papyra_cli._store.choose import Store
    from papyra_cli._store.session import OpenStore
    from papyra_cli.commands.inspect._selection import Found

__all__ = ["RecordList", "actor_option", "record_command", "run_option", "target_option"]

_R = TypeVar("_R", bound=PersistedRecord)


def _actor_option(complete: Completer) -> Callable[[Any], Any]:
    return click.option(
        "--actor",
        metavar="NAME",
        help="Only records of this actor: its name, class or address, or a pattern such as 'order-*'.",
        shell_complete=complete,
    )


actor_option, target_option = _actor_option(actors), _actor_option(targets)
run_option = click.option(
    "--run",
    metavar="ID",
    help="Only records of this run: an id as in 'papyra inspect runs', or 'last'.",
    shell_complete=runs,
)
_reverse_option = click.option("--reverse", is_flag=True, help="Newest first.")


@dataclass(frozen=True, slots=True)
class RecordList(Generic[_R]):
    """The records of a store that the options of a command ask for."""

    out: Output
    store: Store
    kinds: type[_R] | tuple[type[_R], ...]
    printer: RecordPrinter[_R]
    selection: Selection

    def show(self) -> None:
        """Print the records that match."""
        selection = replace(self.selection, limit=limit_of(self.out, self.selection.limit))

        async def read(opened: OpenStore) -> Found[_R]:
            return await read_records(opened, self.kinds, await resolve_run(opened, selection))

        found = run_on_store(self.out, self.store, read)
        self.printer.show(self.out, found.records)
        if found.cut and self.selection.limit is None:
            note_cut(self.printer.words[1])
        note_nothing(found, selection)


def record_command(
    kinds: type[_R] | tuple[type[_R], ...],
    printer: RecordPrinter[_R],
    *options: Callable[[Any], Any],
    status: str = "how many",
    **manual: Any,
) -> Callable[[Callable[..., None]], ManualCommand]:
    """Make a command that lists records; its function gets them as a `RecordList`.

    An option whose name is a field of `Selection` is a part of it; the others stay arguments of their own.
    """
    names = {field.name for field in fields(Selection)}

    def decorate(function: Callable[..., None]) -> ManualCommand:
        @with_options(limit_option, since_option, until_option, _reverse_option, *options)
        @store_command
        @wraps(function)
        def wrapped(out: Output, store: Store, **values: Any) -> None:
            selection = Selection(**{name: values.pop(name) for name in names & values.keys()})
            function(RecordList(out, store, kinds, printer, selection), **values)

        lines = {printer.key: printer.columns, "status": (status,)}
        return click.command(cls=ManualCommand, lines=lines, **manual)(wrapped)

    return decorate
