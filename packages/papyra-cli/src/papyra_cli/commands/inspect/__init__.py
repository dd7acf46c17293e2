"""``papyra inspect``: read the record."""

from __future__ import annotations

import click

from papyra_cli._click.commands import HelpfulGroup
from papyra_cli.commands.inspect.actor import actor
from papyra_cli.commands.inspect.audits import audits
from papyra_cli.commands.inspect.dead_letters import dead_letters
from papyra_cli.commands.inspect.events import events
from papyra_cli.commands.inspect.runs import runs
from papyra_cli.commands.inspect.summary import summary

__all__ = ["inspect"]


@click.group(
    cls=HelpfulGroup,
    examples=[
        ("papyra inspect summary --path papyra.ndjson", "what is in this store?"),
        ("papyra inspect -o json events --path papyra.ndjson", "options for output may be given here, too"),
    ],
)
def inspect() -> None:
    """Read the record of a system: events, audits, dead letters, runs.

    None of these commands changes a store, and each is safe while applications write to it.
    """


for command in (events, audits, dead_letters, summary, runs, actor):
    inspect.add_command(command)
