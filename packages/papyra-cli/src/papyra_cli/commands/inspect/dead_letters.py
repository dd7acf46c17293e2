"""``papyra inspect dead-letters``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from papyra_cli._click.commands import ManualCommand
from papyra_cli._click.completion import message_types, targets
from papyra_cli._click.options import store_command
from papyra_cli._output.tables import DEAD_LETTER_COLUMNS, dead_letter_table
from papyra_cli.commands.inspect._record_list import list_records, record_options

if TYPE_CHECKING:
    from papyra_cli._output.output import Output
    from papyra_cli._store.choose import Store

__all__ = ["dead_letters"]


@click.command(
    "dead-letters",
    cls=ManualCommand,
    lines={"dead_letter": DEAD_LETTER_COLUMNS, "status": ("how many",)},
    exit_codes={0: "done, also if there are none"},
    examples=[
        ("papyra inspect dead-letters --path papyra.ndjson --since 6h", "those of the last six hours"),
        ("papyra inspect dead-letters --actor local:9 --reverse", "what this actor missed, newest first"),
    ],
)
@record_options
@click.option(
    "--type", "message_type", metavar="TYPE", help="Only messages of this type.", shell_complete=message_types
)
@click.option(
    "--actor",
    metavar="ADDRESS",
    help="Only messages to this actor, as in local:1.",
    shell_complete=targets,
)
@store_command
def dead_letters(out: Output, store: Store, limit: int, reverse: bool, **filters: Any) -> None:
    """Show the newest dead letters.

    These are messages that no actor handled. The payload is the message, or what Python prints of it if it is no JSON.
    """
    list_records(
        out,
        store,
        lambda backend: backend.list_dead_letters(limit=limit, **filters),
        dead_letter_table,
        ("dead letter", "dead letters"),
        reverse=reverse,
    )
