"""``papyra tree``: the actors of a running system, each below its parent."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from papyra_cli._click.commands import ManualCommand
from papyra_cli._click.live_options import LIVE_EXIT_CODES, live_command
from papyra_cli._live.client import LiveSystem
from papyra_cli._output.formats import count, figure
from papyra_cli._output.output import Table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from papyra_cli._output.output import Output

__all__ = ["tree"]

_COLUMNS = ("level", "actors", "type", "name", "address", "state", "waiting", "handled")


@click.command(
    cls=ManualCommand,
    lines={"node": _COLUMNS, "status": ("how many actors",)},
    exit_codes=LIVE_EXIT_CODES,
    examples=[("papyra tree --depth 1", "the actors at the top and their children")],
)
@click.option(
    "--depth", type=click.IntRange(min=0), metavar="N", help="Show N levels below the top. [default: all]"
)
@click.option(
    "--all", "unfold", is_flag=True, help="Show each of 12 or more siblings of a type in a row of its own."
)
@live_command
def tree(out: Output, find: Callable[[], Path], depth: int | None, unfold: bool) -> None:
    """Show the actors of a running system, each below its parent.

    12 or more siblings of one type are one row with their number. The application has to open its admin
    socket: start it with PAPYRA_INSTRUMENTS=admin.
    """
    with closing(LiveSystem(find())) as live:
        rows = list(_rows(live, depth, unfold))
    actors = sum(row["count"] for row in rows)
    out.show(rows, rows, [_drawn(rows) if out.is_drawn else _lines(rows)], count(actors, "actor", "actors"))


def _rows(live: LiveSystem, depth: int | None, unfold: bool) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    while True:
        page = live.ask("tree", depth=depth, all=unfold, limit=500, offset=len(rows))
        rows += page["rows"]
        if not page["more"]:
            return rows


def _lines(rows: list[dict[str, Any]]) -> Table:
    table = Table("node", "Actors", _COLUMNS)
    table.rows = [(str(row["level"]), str(row["count"]), *_cells(row, drawn=False)) for row in rows]
    return table


def _drawn(rows: list[dict[str, Any]]) -> Table:
    table = Table("node", "Actors", ("actor", *_COLUMNS[3:]))
    for row in rows:
        many = f"{row['count']:,} x " if row["count"] > 1 else ""
        table.rows.append((f"{'   ' * row['level']}{many}{row['actor_type']}", *_cells(row, drawn=True)[1:]))
    return table.without_empty("name")


def _cells(row: dict[str, Any], *, drawn: bool) -> tuple[str, ...]:
    actor: dict[str, Any] = row["actor"] or {}
    name, address, state = (str(actor.get(field) or "-") for field in ("name", "address", "state"))
    figures = (figure(row[field], drawn=drawn) for field in ("waiting", "processed"))
    return (row["actor_type"], name, address, state, *figures)
