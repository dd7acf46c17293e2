"""``papyra inspect summary``: counts over a whole store."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from papyra_cli._click.commands import ManualCommand
from papyra_cli._click.options import since_option, store_command, until_option
from papyra_cli._errors import say
from papyra_cli._output.formats import count
from papyra_cli._output.output import Styled, Table
from papyra_cli._output.records import AUDITS
from papyra_cli._output.tables import note_damage
from papyra_cli._store.session import run_on_store
from papyra_cli.commands._summary.counts import Counted

if TYPE_CHECKING:
    from rich.console import RenderableType

    from papyra_cli._output.output import Output
    from papyra_cli._store.choose import Store
    from papyra_cli._store.session import OpenStore
    from papyra_cli.commands._summary.counts import Summary

__all__ = ["summary"]


@click.command(
    cls=ManualCommand,
    lines={
        "total": ("kind", "count"),
        "events": ("type", "count"),
        "dead_letters": ("type of message", "count"),
        "time": ("of the oldest record", "of the newest"),
        "timeline": ("start", "seconds of a bar", "facts in each bar", "crashes in each"),
        "actor": ("name or class and run", "crashes", "restarts", "last crash", "its error", "class", "run"),
        "target": ("name or class and run", "dead letters"),
        "audit": AUDITS.columns,
        "anomalies": ("type", "count"),
        "others": ("table", "facts that are in no row of it"),
        "status": ("how many in all",),
    },
    exit_codes={0: "done, also if there is nothing"},
    examples=[
        ("papyra inspect summary --path papyra.ndjson", "everything"),
        ("papyra inspect summary --since 24h --top 3", "the last day, and the three worst actors"),
        ("papyra inspect summary --path papyra.ndjson -o json", "for a program"),
    ],
)
@since_option
@until_option
@click.option(
    "--top",
    type=click.IntRange(min=0),
    metavar="N",
    default=10,
    show_default=True,
    help="Show the N actors that crashed or were restarted most, and the N targets with most dead letters.",
)
@store_command
def summary(out: Output, store: Store, since: float | None, until: float | None, top: int) -> None:
    """Sum up a store.

    Shows kinds and types, facts over time, the actors that crashed or were restarted most, the targets of
    dead letters, and the newest audit. An actor is counted by its name, or by its class and run if it has
    none. Reads every record once and keeps none, so that a store of any size can be summed up. Up to 10,000
    names of each sort are counted apart; a note says if there are more. Damage is counted too, whenever it
    happened.
    """
    result = run_on_store(out, store, lambda opened: _summarize(opened, since, until, top))
    for name in result.names_cut:
        say("note", f"{name.replace('_', ' ')}: only the 10,000 with the newest facts were counted apart")
    note_damage(sum(result.anomaly_types.values()))
    total = count(sum(result.counts.values()), "record", "records")
    note = Styled(f"{total} in the {result.backend} store", "green")
    out.show(result, [result], _tables(out, result), note, partial(_picture, out, result))


async def _summarize(opened: OpenStore, since: float | None, until: float | None, top: int) -> Summary:
    counted = Counted()
    await opened.read(since, until, counted.add)
    report = await opened.scan()
    return counted.summary(opened.backend.name, report.anomalies, top)


def _tables(out: Output, result: Summary) -> list[Table]:
    """Return a line for each number, for pipes."""
    bars = result.timeline
    tables = {
        "total": result.counts.items(),
        "events": result.event_types.items(),
        "dead_letters": result.message_types.items(),
        "time": [(out.time(result.first_timestamp), out.time(result.last_timestamp))],
        "timeline": [(out.time(bars.start), bars.seconds or "-", _joined(bars.facts), _joined(bars.crashes))],
        "actor": [
            (
                one.actor,
                one.crashes,
                one.restarts,
                out.time(one.last_crash),
                one.last_error or "-",
                one.type or "-",
                one.run or "-",
            )
            for one in result.actors
        ],
        "target": result.dead_letter_targets.items(),
        "anomalies": result.anomaly_types.items(),
        "others": [(name, number) for name, number in result.others.items() if number],
    }
    audits = [result.newest_audit] if result.newest_audit else []
    return [
        *(Table(key, "", (), [tuple(map(str, row)) for row in rows]) for key, rows in tables.items()),
        AUDITS.table(out, audits),
    ]


def _joined(counts: list[int]) -> str:
    return " ".join(map(str, counts)) or "-"


def _picture(out: Output, result: Summary, width: int) -> RenderableType:
    from papyra_cli.commands._summary.view import picture

    return picture(out, result, width)
