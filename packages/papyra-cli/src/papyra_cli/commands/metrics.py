"""``papyra metrics``: counters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from papyra.persistence import safe_metrics_snapshot
from papyra_cli._group import HelpfulGroup
from papyra_cli._options import store_command
from papyra_cli._output import Styled, Table
from papyra_cli._run import run_on_store, with_progress

if TYPE_CHECKING:
    from papyra.persistence import PersistenceBackend
    from papyra_cli._output import Output
    from papyra_cli._store import Store

__all__ = ["metrics"]


@click.group(cls=HelpfulGroup)
def metrics() -> None:
    """Show the counters of a store."""


@metrics.command()
@store_command
def persistence(out: Output, store: Store) -> None:
    """Open a store, scan it, and show the counters that its backend keeps.

    They count what this process did; those of a running application are in the application.
    """

    async def work(backend: PersistenceBackend) -> dict[str, int]:
        await with_progress(out, "scanning", backend.scan)
        return safe_metrics_snapshot(backend)

    counters = run_on_store(store, work)
    table = Table("metric", "Metrics", ("name", "value"), [(k, str(v)) for k, v in counters.items()])
    note = Styled("ok", "green") if counters else Styled("this backend keeps no counters", "yellow")
    out.show(counters, [counters], [table], note)
