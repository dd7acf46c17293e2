"""The options and the output that the commands of `papyra inspect` share."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from papyra.persistence.models import PersistedRecord
from papyra_cli._click.completion import actors, runs, targets
from papyra_cli._click.options import limit_option, since_option, until_option
from papyra_cli._output.formats import count
from papyra_cli._output.output import Styled
from papyra_cli._output.tables import note_cut
from papyra_cli._store.session import run_on_store
from papyra_cli.commands.inspect._selection import (
    DEFAULT_LIMIT,
    Selection,
    note_nothing,
    read_records,
    resolve_run,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from papyra_cli._click.completion import Completer
    from papyra_cli._output.output import Output, Table
    from papyra_cli._store.choose import Store
    from papyra_cli._store.session import OpenStore
    from papyra_cli.commands.inspect._selection import Found

__all__ = [
    "actor_option",
    "limited",
    "list_records",
    "reverse_option",
    "run_option",
    "selecting",
    "span_options",
    "target_option",
]

_R = TypeVar("_R", bound=PersistedRecord)

reverse_option = click.option("--reverse", is_flag=True, help="Newest first.")


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
span_options = (limit_option, since_option, until_option)


def selecting(*options: Callable[[Any], Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command these options, and their values as one argument ``selection``.

    An option whose name is a field of `Selection` is a part of it; the others stay arguments of their own.
    """
    names = {field.name for field in fields(Selection)}

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> None:
            chosen = {name: kwargs.pop(name) for name in names & kwargs.keys()}
            function(*args, selection=Selection(**chosen), **kwargs)

        for option in reversed(options):
            option(wrapped)
        return wrapped

    return decorate


def limited(selection: Selection, default: int | None) -> Selection:
    """Return the selection with ``default`` in place of a limit that was not given; 0 means all."""
    return replace(selection, limit=default if selection.limit is None else selection.limit or None)


def list_records(
    out: Output,
    store: Store,
    kinds: type[_R] | tuple[type[_R], ...],
    selection: Selection,
    table: Callable[[Output, Sequence[_R]], Table],
    words: tuple[str, str],
) -> None:
    """Print the records of some kinds that match; ``words`` name one of them and many."""
    cut_by_default = selection.limit is None
    selection = limited(selection, None if out.is_json else DEFAULT_LIMIT)

    async def read(opened: OpenStore) -> Found[_R]:
        run = await resolve_run(opened, selection.run)
        return await read_records(opened, kinds, replace(selection, run=run))

    found = run_on_store(out, store, read)
    note = Styled(count(len(found.records), *words), "green")
    out.show(found.records, found.records, [table(out, found.records)], note)
    if found.cut and cut_by_default:
        note_cut(DEFAULT_LIMIT, words[1])
    note_nothing(found, selection)
