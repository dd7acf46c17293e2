"""What the commands that list records of one kind share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from papyra_cli._click.options import limit_option, since_option, until_option
from papyra_cli._output.formats import count
from papyra_cli._output.output import Styled
from papyra_cli._store.session import run_on_store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from papyra.persistence import PersistenceBackend
    from papyra.persistence.models import PersistedRecord
    from papyra_cli._output.output import Output, Table
    from papyra_cli._store.choose import Store

__all__ = ["list_records", "record_options"]

_F = TypeVar("_F", bound="Callable[..., Any]")
_R = TypeVar("_R", bound="PersistedRecord")


def record_options(function: _F) -> _F:
    """Give a command ``--limit``, ``--since``, ``--until`` and ``--reverse``."""
    reverse = click.option("--reverse", is_flag=True, help="Newest first.")
    for option in (reverse, until_option, since_option, limit_option):
        function = option(function)
    return function


def list_records(
    out: Output,
    store: Store,
    read: Callable[[PersistenceBackend], Awaitable[Sequence[_R]]],
    table: Callable[[Output, Sequence[_R]], Table],
    words: tuple[str, str],
    *,
    reverse: bool,
) -> None:
    """Print what ``read`` finds, oldest first or in ``reverse``; ``words`` are its name for one and for many."""
    found = run_on_store(out, store, lambda opened: opened.watch("reading", lambda _: read(opened.backend)))
    records = found[::-1] if reverse else found
    out.show(records, records, [table(out, records)], Styled(count(len(records), *words), "green"))
