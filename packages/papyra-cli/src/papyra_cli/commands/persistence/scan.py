"""``papyra persistence scan``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from papyra_cli._exit import ExitCode
from papyra_cli._options import store_command
from papyra_cli._output import Styled
from papyra_cli._reports import anomaly_table, count
from papyra_cli._run import run_on_store, with_progress

if TYPE_CHECKING:
    from papyra.persistence import PersistenceBackend
    from papyra.persistence.models import PersistenceScanReport
    from papyra_cli._output import Output
    from papyra_cli._store import Store

__all__ = ["scan"]


@click.command()
@store_command
def scan(out: Output, store: Store) -> None:
    """Look for damage in a store, and change nothing.

    Exits with 0 if there is none and with 1 if there is.
    """

    async def work(backend: PersistenceBackend) -> PersistenceScanReport:
        return await with_progress(out, "scanning", backend.scan)

    report = run_on_store(store, work)
    found = len(report.anomalies)
    note = (
        Styled(f"{count(found, 'anomaly', 'anomalies')} found", "red") if found else Styled("clean", "green")
    )
    out.show(report, report.anomalies, [anomaly_table(report.anomalies)], note)
    if found:
        click.get_current_context().exit(ExitCode.NO)
