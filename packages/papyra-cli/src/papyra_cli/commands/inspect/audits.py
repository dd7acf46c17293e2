"""``papyra inspect audits``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from papyra.persistence.models import PersistedAudit
from papyra_cli._click.commands import ManualCommand
from papyra_cli._click.options import store_command
from papyra_cli._output.tables import AUDIT_COLUMNS, audit_table
from papyra_cli.commands.inspect._record_list import (
    list_records,
    reverse_option,
    run_option,
    selecting,
    span_options,
)

if TYPE_CHECKING:
    from papyra_cli._output.output import Output
    from papyra_cli._store.choose import Store
    from papyra_cli.commands.inspect._selection import Selection

__all__ = ["audits"]


@click.command(
    cls=ManualCommand,
    lines={"audit": AUDIT_COLUMNS, "status": ("how many",)},
    exit_codes={0: "done, also if no audit matches"},
    examples=[
        ("papyra inspect audits --path papyra.ndjson --limit 1", "the newest audit"),
        ("papyra inspect audits --since 7d -o jsonl", "those of a week, one JSON object a line"),
    ],
)
@selecting(*span_options, reverse_option, run_option)
@store_command
def audits(out: Output, store: Store, selection: Selection) -> None:
    """Show the newest audits.

    Each says how many actors there were and in which state. An orphan is a name that leads to no actor; a
    dead name leads to an actor that has stopped.
    """
    list_records(out, store, PersistedAudit, selection, audit_table, ("audit", "audits"))
