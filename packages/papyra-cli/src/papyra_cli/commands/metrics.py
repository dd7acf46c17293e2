"""``papyra metrics``: the counters of a store, or of a running application."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from papyra.persistence import safe_metrics_snapshot
from papyra_cli._click.commands import HelpfulGroup
from papyra_cli._click.live_options import LIVE_EXIT_CODES, live_command
from papyra_cli._click.options import store_command
from papyra_cli._live.client import LiveSystem, live_sockets
from papyra_cli._output.output import Styled, Table
from papyra_cli._store.session import run_on_store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from papyra_cli._output.output import Output
    from papyra_cli._store.choose import Store
    from papyra_cli._store.session import OpenStore

__all__ = ["metrics"]

_LINES = {"metric": ("name", "value"), "status": ("whose counters these are",)}
_OF_THIS_SCAN = "ok: the counters of this scan; no running application answers for its own"
_EXAMPLE = ("papyra metrics persistence --path papyra.ndjson", "the counters after one scan of this store")


@click.group(cls=HelpfulGroup, examples=[_EXAMPLE])
def metrics() -> None:
    """Show the counters of a store, or of a running application."""


@metrics.command(
    lines=_LINES,
    exit_codes={0: "done, whatever the counters say"},
    examples=[
        _EXAMPLE,
        ("papyra metrics persistence -o json", "those of the configured store, as one object"),
    ],
)
@store_command
def persistence(out: Output, store: Store) -> None:
    """Show the counters of a store.

    For the configured store they come from the running application, if exactly one answers through its admin
    socket. Otherwise the store is scanned, and the counters are those of this scan. The last line says which.
    """
    sockets = [] if store.origin.startswith("--") else list(live_sockets())
    if len(sockets) == 1:
        _show_live(out, LiveSystem(sockets[0]))
    else:
        _show(out, run_on_store(out, store, _count), _OF_THIS_SCAN)


@metrics.command(
    lines=_LINES,
    exit_codes={**LIVE_EXIT_CODES, 0: "done, whatever the counters say"},
    examples=[("papyra metrics application --pid 4711", "what this process has written, and dropped")],
)
@live_command
def application(out: Output, find: Callable[[], Path]) -> None:
    """Show the counters of a running application's store.

    They count the work of the application since its start. It has to open its admin socket: start it with
    PAPYRA_INSTRUMENTS=admin.
    """
    _show_live(out, LiveSystem(find()))


def _show_live(out: Output, live: LiveSystem) -> None:
    with closing(live):
        name, pid = live.greeting.get("system_id"), live.greeting.get("pid")
        _show(out, live.ask("metrics"), f"ok: the counters of the running application {name}, process {pid}")


def _show(out: Output, counters: Mapping[str, Any], whose: str) -> None:
    table = Table("metric", "Metrics", ("name", "value"), [(k, str(v)) for k, v in counters.items()])
    note = Styled(whose, "green") if counters else Styled("this backend keeps no counters", "yellow")
    out.show(counters, [counters], [table], note)


async def _count(opened: OpenStore) -> dict[str, int]:
    await opened.scan()
    return safe_metrics_snapshot(opened.backend)
