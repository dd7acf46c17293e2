"""``papyra top``: what the actors of a running system do now."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import click

from papyra import units
from papyra_cli._click.commands import ManualCommand
from papyra_cli._click.live_options import LIVE_EXIT_CODES, live_command
from papyra_cli._click.options import reading
from papyra_cli._errors import Failure
from papyra_cli._live.client import LiveSystem
from papyra_cli._output.formats import figure
from papyra_cli._output.output import Table
from papyra_cli.commands._top.snapshot import Snapshot, take

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from papyra_cli._output.output import Output

__all__ = ["top"]

ORDERS = ("mailbox", "rate", "restarts", "latency")
_TYPE_COLUMNS = ("type", "alive", "handled", "rate", "waiting", "failures", "restarts")
_ACTOR_COLUMNS = ("actor", "type", "state", "waiting", "handled", "seconds", "where")


@click.command(
    cls=ManualCommand,
    lines={"type": _TYPE_COLUMNS, "actor": _ACTOR_COLUMNS, "status": ("the whole system",)},
    exit_codes=LIVE_EXIT_CODES,
    examples=[
        ("papyra top", "a screen that is refreshed, as with top"),
        ("papyra top --once -o json", "one snapshot, as JSON"),
    ],
)
@click.option(
    "--by", type=click.Choice(ORDERS), default="mailbox", show_default=True, help="Which actors come first."
)
@click.option(
    "--interval",
    default="1s",
    show_default=True,
    metavar="SPAN",
    callback=reading(units.duration),
    help="How often to look.",
)
@click.option(
    "-n", "rows", type=click.IntRange(1, 500), default=40, show_default=True, help="How many actors."
)
@click.option("--once", is_flag=True, help="Print one snapshot and end, as in a pipe.")
@live_command
def top(out: Output, find: Callable[[], Path], by: str, interval: float, rows: int, once: bool) -> None:
    """Show what the actors of a running system do now.

    The application has to open its admin socket: start it with PAPYRA_INSTRUMENTS=admin. On a terminal the
    screen is renewed until q is pressed, which needs papyra-cli[tui]; the key ? shows the others.
    """
    path = find()
    if once or not out.is_drawn:
        with closing(LiveSystem(path)) as live:
            _show(out, take(live, by, rows, None))
        return
    try:
        from papyra_cli.commands._top.app import (
            TopApp,  # textual takes longer to import than most commands run
        )
    except ModuleNotFoundError as error:
        if error.name != "textual":
            raise
        raise Failure(
            "papyra top needs textual: pip install 'papyra-cli[tui]', or look once with --once"
        ) from None
    TopApp(find, by, interval, rows).run()


def _show(out: Output, snapshot: Snapshot) -> None:
    document = {"system": snapshot.greeting, "statistics": snapshot.statistics, "actors": snapshot.actors}
    out.show(
        document,
        [document],
        [_types(snapshot, drawn=out.is_drawn), _actors(snapshot, drawn=out.is_drawn)],
        snapshot.summary(),
    )


def _types(snapshot: Snapshot, *, drawn: bool) -> Table:
    table = Table("type", "Types", _TYPE_COLUMNS)
    table.rows = [
        (
            kind["actor_type"],
            figure(kind["alive"], drawn=drawn),
            figure(kind["processed"], drawn=drawn),
            snapshot.rate_text(kind["actor_type"]),
            figure(kind["waiting"], drawn=drawn),
            figure(kind["failures"], drawn=drawn),
            figure(kind["restarts"], drawn=drawn),
        )
        for kind in snapshot.kinds
    ]
    return table


def _actors(snapshot: Snapshot, *, drawn: bool) -> Table:
    table = Table("actor", "Actors", _ACTOR_COLUMNS)
    table.rows = [snapshot.actor_cells(actor, drawn=drawn) for actor in snapshot.actors]
    return table.without_empty("seconds", "where") if drawn else table
