"""``papyra metrics``: counters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from papyra.persistence import safe_metrics_snapshot
from papyra_cli._click.commands import HelpfulGroup
from papyra_cli._click.options import store_command
from papyra_cli._output.output import Styled, Table
from papyra_cli._store.session import run_on_store

if TYPE_CHECKING:
    from papyra_cli._output.output import Output
    from papyra_cli._store.choose import Store
    from papyra_cli._store.session import OpenStore

__all__ = ["metrics"]

_EXAMPLE = ("papyra metrics persistence --path papyra.ndjson", "what one scan of this store counts")


@click.group(cls=HelpfulGroup, examples=[_EXAMPLE])
def metrics() -> None:
    """Show the counters of a store."""


@metrics.command(
    lines={"metric": ("name", "value"), "status": ("ok, or that the backend keeps no counters",)},
    exit_codes={0: "done, whatever the counters say"},
    examples=[
        _EXAMPLE,
        ("papyra metrics persistence -o json", "those of the configured store, as one object"),
    ],
)
@store_command
def persistence(out: Output, store: Store) -> None:
    """Scan a store, and show what its backend counted.

    The counters count what this process did; those of a running application are in the application.
    """
    counters = run_on_store(out, store, _count)
    table = Table("metric", "Metrics", ("name", "value"), [(k, str(v)) for k, v in counters.items()])
    note = Styled("ok", "green") if counters else Styled("this backend keeps no counters", "yellow")
    out.show(counters, [counters], [table], note)


async def _count(opened: OpenStore) -> dict[str, int]:
    await opened.scan()
    return safe_metrics_snapshot(opened.backend)
