"""A summary as a terminal shows it: imported when there is one, for rich takes longer than most commands run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.bar import Bar
from rich.columns import Columns
from rich.console import Group
from rich.text import Text

from papyra_cli._output.formats import count, format_span
from papyra_cli._output.output import Styled, Table
from papyra_cli._output.rich_tables import framed, grid, safe_text
from papyra_cli._output.tables import AUDIT_COUNTS, audit_counts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import RenderableType
    from rich.table import Table as RichTable

    from papyra.persistence.models import PersistedAudit
    from papyra_cli._output.output import Cell, Output
    from papyra_cli.commands._summary.counts import Summary
    from papyra_cli.commands._summary.timeline import Bars

__all__ = ["picture", "sparkline"]

_MOST_TYPES = 12  # of a kind: more are too many to take in
_BAR = 20  # columns
_AROUND_BARS = 16  # columns that the other parts of that table take
_LEVELS = ("▁▂▃▄▅▆▇█", ".:-=+*#@")


def picture(out: Output, summary: Summary, width: int) -> RenderableType:
    """Return the summary as tables for so many columns, beside each other where they fit."""
    counts: list[RenderableType] = [_records(summary)]
    if summary.dead_letter_targets:
        counts.append(_targets(summary))
    parts: list[RenderableType] = [Columns(counts, padding=(0, 2))]
    if summary.timeline.facts:
        parts.append(_over_time(out, summary.timeline, width))
    if summary.actors:
        parts.append(grid(_actors(out, summary), width))
    if summary.newest_audit:
        parts.append(grid(_audit(out, summary.newest_audit), width))
    return Group(*parts)


def sparkline(counts: Sequence[int], encoding: str) -> str:
    """Return one character for each count, the higher the more; a blank is none at all."""
    try:
        levels = _LEVELS[0].encode(encoding).decode(encoding)
    except UnicodeEncodeError:
        levels = _LEVELS[1]
    most = max(counts, default=0)
    return "".join(levels[-(-count * len(levels) // most) - 1] if count else " " for count in counts)


def _records(summary: Summary) -> RichTable:
    table = _counts("Records", "kind and type")
    most = max(*summary.counts.values(), 1)
    types = {"events": summary.event_types, "dead_letters": summary.message_types}
    for kind, number in summary.counts.items():
        _add(table, Text(kind.replace("_", " "), style="bold"), number, most)
        of_kind = types.get(kind, {})
        shown = dict(list(of_kind.items())[:_MOST_TYPES])
        _add_all(table, shown, most, indent="  ")
        others = number - sum(shown.values())
        if others and of_kind:
            _add(table, Text("  of other types", style="dim"), others, most)
    return table


def _targets(summary: Summary) -> RichTable:
    table = _counts("Dead letters", "target")
    most = max(summary.dead_letter_targets.values())
    _add_all(table, summary.dead_letter_targets, most)
    others = summary.others["dead_letter_targets"]
    if others:
        table.add_row(Text("to other targets", style="dim"), f"{others:,}", "")
    return table


def _over_time(out: Output, bars: Bars, width: int) -> RichTable:
    bars = _fitting(bars, width)
    first, last = out.time(bars.start, brief=True), out.time(bars.end, brief=True)
    gap = len(bars.facts) - len(first) - len(last)
    title = f"Over time: {count(len(bars.facts), 'bar', 'bars')} of {format_span(bars.seconds or 0)}"
    table = framed(title if gap > 0 else f"{title}, {first} to {last}")
    for column in ("", "", "peak"):
        table.add_column(column, no_wrap=True, justify="right" if column else "left")
    for name, counts, color in (("facts", bars.facts, "green"), ("crashes", bars.crashes, "red")):
        if any(counts):
            table.add_row(name, Text(sparkline(counts, out.encoding), style=color), f"{max(counts):,}")
    if gap > 0:
        table.add_row("", Text(f"{first}{' ' * gap}{last}", style="dim"), "")
    return table


def _fitting(bars: Bars, width: int) -> Bars:
    for most in range(len(bars.facts), 1, -1):
        bars = bars.narrowed(most)
        if len(bars.facts) + max(len(f"{max(bars.facts):,}"), len("peak")) + _AROUND_BARS <= width:
            break
    return bars


def _actors(out: Output, summary: Summary) -> Table:
    table = Table("", "Crashes and restarts", ("actor", "crashes", "restarts", "last crash", "error"))
    for one in summary.actors:
        crashes: Cell = Styled(f"{one.crashes:,}", "red") if one.crashes else "0"
        last = out.time(one.last_crash, brief=True)
        table.rows.append((one.actor, crashes, f"{one.restarts:,}", last, one.last_error or "-"))
    others = summary.others["actors"]
    if others:
        table.title += f" (and {others:,} of other actors)"
    return table


def _audit(out: Output, audit: PersistedAudit) -> Table:
    title = f"Newest audit, {out.time(audit.timestamp, brief=True)}"
    return Table("", title, AUDIT_COUNTS, [tuple(f"{number:,}" for number in audit_counts(audit))])


def _counts(title: str, name: str) -> RichTable:
    table = framed(title)
    table.add_column(name, overflow="fold")
    table.add_column("", justify="right")
    table.add_column("", width=_BAR)
    return table


def _add_all(table: RichTable, counts: Mapping[str, int], most: int, indent: str = "") -> None:
    for name, number in counts.items():
        _add(table, Text(indent).append_text(safe_text(name)), number, most)


def _add(table: RichTable, name: Text, number: int, most: int) -> None:
    table.add_row(name, f"{number:,}", Bar(most, 0, number, width=_BAR, color="cyan"))
