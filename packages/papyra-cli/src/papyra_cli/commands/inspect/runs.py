"""``papyra inspect runs``: the runs of a system, and how each ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from papyra_cli._click.commands import ManualCommand
from papyra_cli._click.options import limit_option, store_command
from papyra_cli._errors import say
from papyra_cli._output.formats import count, format_span
from papyra_cli._output.output import Styled, Table
from papyra_cli._output.tables import limit_of, note_cut
from papyra_cli._store.session import run_on_store
from papyra_cli.commands._run_history import RunHistory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from papyra_cli._output.output import Cell, Output
    from papyra_cli._store.choose import Store
    from papyra_cli._store.session import OpenStore
    from papyra_cli.commands._run_history import Run

__all__ = ["runs"]

_COLUMNS = (
    "run",
    "system",
    "start",
    "end",
    "duration",
    "host",
    "pid",
    "actors",
    "crashes",
    "dead letters",
    "ended",
)

_COLORS = {"clean": "green", "running": "green", "failed": "red", "killed": "red", "unknown": "yellow"}


@click.command(
    cls=ManualCommand,
    lines={"run": _COLUMNS, "status": ("how many",)},
    exit_codes={0: "done, also if there are none"},
    examples=[
        ("papyra inspect runs --path papyra.ndjson", "when did it run, and how did each run end?"),
        ("papyra inspect runs --limit 1 -o json", "the newest run, as JSON"),
    ],
)
@limit_option
@store_command
def runs(out: Output, store: Store, limit: int | None) -> None:
    """Show the runs of a system, and how each ended.

    A run is the life of one system in one process: 'clean' if it was closed, 'failed' if an error ended it,
    'killed' if its process is gone without having closed it, 'running' if the process lives, and 'unknown' if
    it ran on another host.
    """
    history = run_on_store(out, store, _read)
    found = history.runs()
    most = limit_of(out, limit)
    shown = found if most is None else found[max(0, len(found) - most) :]
    table = _drawn(out, shown) if out.is_drawn else _lines(out, shown)
    out.show(shown, shown, [table], Styled(count(len(shown), "run", "runs"), "green"))
    if limit is None and len(shown) < len(found):
        note_cut("runs")
    if history.without_run:
        records = count(history.without_run, "record", "records")
        verb = "names" if history.without_run == 1 else "name"
        say("note", f"{records} of older versions of Papyra {verb} no run")


async def _read(opened: OpenStore) -> RunHistory:
    history = RunHistory()
    await opened.read(None, None, history.add)
    return history


def _lines(out: Output, found: Sequence[Run]) -> Table:
    table = Table("run", "Runs", _COLUMNS)
    for run in found:
        host, pid = run.host or "-", "-" if run.pid is None else str(run.pid)
        times = (out.time(run.start), out.time(run.end), _span(run))
        counts = (str(run.actors), str(run.crashes), str(run.dead_letters))
        table.rows.append((run.run, run.system_id, *times, host, pid, *counts, _ended(run)))
    return table


def _drawn(out: Output, found: Sequence[Run]) -> Table:
    """Return a table that fits 80 columns.

    The end follows from the duration, and one system needs no column.
    """
    columns = ("id", "system", "start", "duration", "host", "pid", "actors", "crashes", "letters", "ended")
    table = Table("run", "Runs", columns)
    systems = {run.system_id for run in found}
    for run in found:
        host, pid = run.host or "-", "-" if run.pid is None else str(run.pid)
        system = run.system_id if len(systems) > 1 else "-"
        crashes: Cell = Styled(f"{run.crashes:,}", "red") if run.crashes else "0"
        counts = (f"{run.actors:,}", crashes, f"{run.dead_letters:,}")
        least = "≥ " if run.ended in ("killed", "unknown") else ""  # it ended after its last fact
        times = (out.time(run.start, brief=True), least + _span(run))
        table.rows.append((run.run, system, *times, host, pid, *counts, _ended(run)))
    return table.without_empty("system", "host")


def _span(run: Run) -> str:
    return "-" if run.duration is None else format_span(max(run.duration, 0.0))


def _ended(run: Run) -> Styled:
    return Styled(run.ended, _COLORS[run.ended])
