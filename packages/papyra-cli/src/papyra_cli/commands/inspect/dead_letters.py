"""``papyra inspect dead-letters``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from papyra.persistence.models import PersistedDeadLetter
from papyra_cli._click.commands import ManualCommand
from papyra_cli._click.completion import message_types
from papyra_cli._click.options import store_command
from papyra_cli._output.tables import DEAD_LETTER_COLUMNS, dead_letter_table
from papyra_cli.commands.inspect._record_list import (
    list_records,
    reverse_option,
    run_option,
    selecting,
    span_options,
    target_option,
)

if TYPE_CHECKING:
    from papyra_cli._output.output import Output
    from papyra_cli._store.choose import Store
    from papyra_cli.commands.inspect._selection import Selection

__all__ = ["dead_letters"]


@click.command(
    "dead-letters",
    cls=ManualCommand,
    lines={"dead_letter": DEAD_LETTER_COLUMNS, "status": ("how many",)},
    exit_codes={0: "done, also if no dead letter matches"},
    examples=[
        ("papyra inspect dead-letters --path papyra.ndjson --since 6h", "those of the last six hours"),
        ("papyra inspect dead-letters --actor mailer --reverse", "what this actor missed, newest first"),
    ],
)
@selecting(
    *span_options,
    reverse_option,
    click.option("--type", metavar="TYPE", help="Only messages of this type.", shell_complete=message_types),
    target_option,
    run_option,
)
@store_command
def dead_letters(out: Output, store: Store, selection: Selection) -> None:
    """Show the newest dead letters.

    These are messages that no actor handled. The payload is the message, or its repr if it is not JSON.
    """
    list_records(
        out, store, PersistedDeadLetter, selection, dead_letter_table, ("dead letter", "dead letters")
    )
