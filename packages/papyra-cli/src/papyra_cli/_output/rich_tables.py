"""Tables for terminals, drawn by rich."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from papyra_cli._escape import printable
from papyra_cli._output.display import terminal_width

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

    from rich.console import RenderableType

    from papyra_cli._output.output import Cell, Table

__all__ = ["draw", "framed", "grid", "safe_text"]

_ELASTIC = (
    "payload",
    "details",
    "detail",
    "error",
    "reason",
    "path",
)  # text of any length, which gets what is left
_CUT = "payload"  # shown in one line
_ELASTIC_COLUMNS = (12, 24)  # of the terminal, at least: on a narrow one, on a wide one
_FOLDED_COLUMNS = 20  # a longer cell is folded before another column is dropped
_CELL_CHARS = 2000  # more than a terminal shows, so that rich measures no more

_DROPPED_FIRST = (
    *("run", "offset", "line", "host", "load time", "class", "api", "system", "letters", "pid", "duration"),
    *(
        "orphans",
        "dead",
        "dead letters",
        "restarting",
        "stopping",
        "restarts",
        "last crash",
        "start",
        "payload",
    ),
    *("time", "crashes", "distribution", "actor"),
)
"""The columns that a narrow terminal drops, the least important first."""


def draw(picture: RenderableType, *, color: bool, stream: TextIO) -> str:
    """Return ``picture`` as text for the terminal behind ``stream``."""
    console = Console(
        file=stream,
        force_terminal=color,
        color_system="auto" if color else None,
        no_color=not color,
        highlight=False,
        markup=False,
        emoji=False,
        width=terminal_width(stream),
    )
    with console.capture() as captured:
        console.print(picture)
    return captured.get().rstrip("\n")


def grid(table: Table, width: int) -> RichTable:
    """Return ``table`` for a terminal of ``width`` columns; nothing in a cell is read as markup.

    If not all columns fit, the least important ones are dropped. The others are folded, except payloads,
    which are cut.
    """
    drawn = framed(table.title)
    rows = [list(map(safe_text, row)) for row in table.rows]
    needed = _needed(rows, table.columns, width)
    kept, fits = list(needed), _total(needed) <= width
    for index in kept:
        column = table.columns[index]
        numbers = all(row[index].plain.replace(",", "").isdecimal() for row in rows)
        short = column not in _ELASTIC and _widest(rows, table.columns, index) <= _FOLDED_COLUMNS
        drawn.add_column(
            Text(column), overflow="fold", justify="right" if numbers else "left", no_wrap=short and fits
        )
        if column == _CUT:
            others = sum(_widest(rows, table.columns, other) + 3 for other in kept if other != index)
            drawn.columns[-1].max_width = max(width - others - 4, _ELASTIC_COLUMNS[0])
            for cells, row in zip(table.rows, rows, strict=True):
                cell = cells[index]
                if isinstance(cell, str) or not cell.wraps:
                    row[index].no_wrap, row[index].overflow = True, "ellipsis"
    for row in rows:
        drawn.add_row(*(row[index] for index in kept))
    return drawn


def _needed(rows: Sequence[Sequence[Text]], columns: Sequence[str], width: int) -> dict[int, int]:
    """Return the columns to show, by index, with the characters that each needs.

    Others are dropped to make room.
    """
    narrow, wide = _ELASTIC_COLUMNS
    elastic = max(narrow, min(width // 3 - 4, wide))
    needed = {
        index: elastic if column in _ELASTIC else min(_widest(rows, columns, index), _FOLDED_COLUMNS)
        for index, column in enumerate(columns)
    }
    for column in _DROPPED_FIRST:
        if _total(needed) <= width or len(needed) <= 2:
            break
        if column in columns:
            del needed[columns.index(column)]
    return needed


def _total(needed: dict[int, int]) -> int:
    return sum(needed.values()) + 3 * len(needed)


def framed(title: str) -> RichTable:
    """Return an empty table in the style of all tables."""
    return RichTable(
        title=safe_text(title),
        title_style="bold",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        caption_justify="left",
    )


def safe_text(cell: Cell) -> Text:
    """Return a cell as text without control characters and without markup."""
    if isinstance(cell, str):
        return Text(printable(cell)[:_CELL_CHARS])
    return Text(printable(cell.text)[:_CELL_CHARS], style=cell.color)


def _widest(rows: Sequence[Sequence[Text]], columns: Sequence[str], index: int) -> int:
    return max(len(columns[index]), *(row[index].cell_len for row in rows))
