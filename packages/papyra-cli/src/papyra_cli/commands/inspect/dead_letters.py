"""``papyra inspect dead-letters``: the newest dead letters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from papyra.persistence.models import PersistedDeadLetter
from papyra_cli._click.completion import message_types
from papyra_cli._output.records import DEAD_LETTERS
from papyra_cli.commands.inspect._record_list import record_command, run_option, target_option

if TYPE_CHECKING:
    from papyra_cli.commands.inspect._record_list import RecordList

__all__ = ["dead_letters"]


@record_command(
    PersistedDeadLetter,
    DEAD_LETTERS,
    click.option("--type", metavar="TYPE", help="Only messages of this type.", shell_complete=message_types),
    target_option,
    run_option,
    exit_codes={0: "done, also if no dead letter matches"},
    examples=[
        ("papyra inspect dead-letters --path papyra.ndjson --since 6h", "those of the last six hours"),
        ("papyra inspect dead-letters --actor mailer --reverse", "what this actor missed, newest first"),
    ],
)
def dead_letters(records: RecordList[PersistedDeadLetter]) -> None:
    """Show the newest dead letters.

    These are messages that no actor handled. The payload is the message, or its repr if it is not JSON.
    """
    records.show()
