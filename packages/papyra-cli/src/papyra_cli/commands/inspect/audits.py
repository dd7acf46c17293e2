"""``papyra inspect audits``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from papyra_cli._click.commands import ManualCommand
from papyra_cli._click.options import store_command
from papyra_cli._output.tables import AUDIT_COLUMNS, audit_table
from papyra_cli.commands.inspect._record_list import list_records, record_options

if TYPE_CHECKING:
    from papyra_cli._output.output import Output
    from papyra_cli._store.choose import Store

__all__ = ["audits"]


@click.command(
    cls=ManualCommand,
    lines={"audit": AUDIT_COLUMNS, "status": ("how many",)},
    exit_codes={0: "done, also if there are none"},
    examples=[
        ("papyra inspect audits --path papyra.ndjson --limit 1", "the newest audit"),
        (
            "papyra inspect audits --since 7d -o jsonl",
            "those of a week, of the configured store, for a program",
        ),
    ],
)
@record_options
@store_command
def audits(out: Output, store: Store, limit: int, reverse: bool, **filters: Any) -> None:
    """Show the newest audits.

    Each says how many actors there were and in which state. An orphan is a name that leads to no actor, a dead one leads to an actor that has stopped.
    """
    list_records(
        out,
        store,
        lambda backend: backend.list_audits(limit=limit, **filters),
        audit_table,
        ("audit", "audits"),
        reverse=reverse,
    )
