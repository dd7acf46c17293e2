"""``papyra persistence scan``: look for damage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from papyra_cli._click.commands import ManualCommand
from papyra_cli._click.options import store_command
from papyra_cli._exit_codes import ExitCode
from papyra_cli._output.formats import count
from papyra_cli._output.output import Styled
from papyra_cli._output.tables import ANOMALY_COLUMNS, anomaly_table
from papyra_cli._store.session import OpenStore, run_on_store

if TYPE_CHECKING:
    from papyra_cli._output.output import Output
    from papyra_cli._store.choose import Store

__all__ = ["scan"]


@click.command(
    cls=ManualCommand,
    lines={"anomaly": ANOMALY_COLUMNS, "status": ("how many anomalies",)},
    exit_codes={0: "the store is in order", 1: "there are anomalies"},
    examples=[
        ("papyra persistence scan --path papyra.ndjson", "is this file in order?"),
        (
            "papyra persistence scan --backend sqlite:./papyra.db -o json",
            "a database, and JSON for a monitor",
        ),
    ],
)
@store_command
def scan(out: Output, store: Store) -> None:
    """Look for damage in a store, and change nothing.

    Each anomaly is reported with its file, the line (from 1) and the offset in bytes (from 0). Safe on a file
    that an application is writing.
    """
    report = run_on_store(out, store, OpenStore.scan)
    number = len(report.anomalies)
    note = (
        Styled(f"{count(number, 'anomaly', 'anomalies')} found", "red")
        if number
        else Styled("clean", "green")
    )
    out.show(report, report.anomalies, [anomaly_table(report.anomalies)], note)
    if number:
        click.get_current_context().exit(ExitCode.NO)
