"""A summary as a terminal shows it.

Imported late, because importing rich takes longer than most commands run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.bar import Bar
from rich.columns import Columns
from rich.console import Group
from rich.text import Text

from papyra_cli._output.formats import count, format_span
from papyra_cli._output.identity import short_type
from papyra_cli._output.output import Styled, Table
from papyra_cli._output.records import AUDIT_COUNTS, audit_counts
from papyra_cli._output.rich_tables import framed, grid, safe_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import RenderableType
    from rich.table import Table as RichTable

    from papyra.persistence.models import PersistedAudit
    from papyra_cli._output.output import Cell, Output
    from papyra_cli.commands._summary.counts import Summary
    from papyra_cli.commands._summary.timeline import Bars

__all__ = ["picture", "sparkline"]

_MAX_TYPES = 12
_BAR_COLUMNS = 20
_MIN_COLUMNS_WITH_BARS = 30  # of the terminal
_OTHER_COLUMNS = 16  # of the table over time, besides its bars
_LEVELS = ("▁▂▃▄▅▆▇█", ".:-=+*#@")


def picture(out: Output, summary: Summary, width: int) -> RenderableType:
    """Return the summary as tables for a terminal of ``width`` columns, side by side if they fit."""
    counts: list[RenderableType] = [_records(summary, width)]
    if summary.dead_letter_targets:
        counts.append(_targets(summary, width))
    parts: list[RenderableType] = [Columns(counts, padding=(0, 2))]
    if summary.timeline.facts:
        parts.append(_over_time(out, summary.timeline, width))
    if summary.actors:
        parts.append(grid(_actors(out, summary), width))
    if summary.newest_audit:
        parts.append(grid(_audit(out, summary.newest_audit), width))
    return Group(*parts)


def sparkline(counts: Sequence[int], encoding: str) -> str:
    """Return one character for each count, taller for a higher count; a blank is 0."""
    try:
        levels = _LEVELS[0].encode(encoding).decode(encoding)
    except UnicodeEncodeError:
        levels = _LEVELS[1]
    most = max(counts, default=0)
    return "".join(levels[-(-count * len(levels) // most) - 1] if count else " " for count in counts)


def _records(summary: Summary, width: int) -> RichTable:
    table = _counts("Records", "kind and type", width)
    most = max(*summary.counts.values(), 1)
    types = {"events": summary.event_types, "dead_letters": summary.message_types}
    for kind, number in summary.counts.items():
        _add(table, Text(kind.replace("_", " "), style="bold"), number, most)
        of_kind = types.get(kind, {})
        shown = dict(list(of_kind.items())[:_MAX_TYPES])
        _add_all(table, shown, most, indent="  ")
        others = number - sum(shown.values())
        if others and of_kind:
            _add(table, Text("  of other types", style="dim"), others, most)
    return table


def _targets(summary: Summary, width: int) -> RichTable:
    table = _counts("Dead letters", "target", width)
    most = max(summary.dead_letter_targets.values())
    _add_all(table, summary.dead_letter_targets, most)
    others = summary.others["dead_letter_targets"]
    if others:
        table.add_row(Text("to other targets", style="dim"), f"{others:,}")
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
        if len(bars.facts) + max(len(f"{max(bars.facts):,}"), len("peak")) + _OTHER_COLUMNS <= width:
            break
    return bars


def _actors(out: Output, summary: Summary) -> Table:
    columns = ("actor", "class", "crashes", "restarts", "last crash", "error")
    table = Table("", "Crashes and restarts", columns)
    for actor in summary.actors:
        crashes: Cell = Styled(f"{actor.crashes:,}", "red") if actor.crashes else "0"
        last = out.time(actor.last_crash, brief=True)
        kind = short_type(actor.type) or "-"
        table.rows.append((actor.actor, kind, crashes, f"{actor.restarts:,}", last, actor.last_error or "-"))
    others = summary.others["actors"]
    if others:
        table.title += f" (and {others:,} of other actors)"
    return table.without_empty("class")


def _audit(out: Output, audit: PersistedAudit) -> Table:
    title = f"Newest audit, {out.time(audit.timestamp, brief=True)}"
    return Table("", title, AUDIT_COUNTS, [tuple(f"{number:,}" for number in audit_counts(audit))])


def _counts(title: str, name: str, width: int) -> RichTable:
    table = framed(title)
    table.add_column(name, overflow="fold")
    table.add_column("", justify="right")
    if width >= _MIN_COLUMNS_WITH_BARS:
        table.add_column("", width=_BAR_COLUMNS)
    return table


def _add_all(table: RichTable, counts: Mapping[str, int], most: int, indent: str = "") -> None:
    for name, number in counts.items():
        _add(table, Text(indent).append_text(safe_text(name)), number, most)


def _add(table: RichTable, name: Text, number: int, most: int) -> None:
    bar = Bar(most, 0, number, width=_BAR_COLUMNS, color="cyan")
    table.add_row(name, f"{number:,}", *[bar][: len(table.columns) - 2])
