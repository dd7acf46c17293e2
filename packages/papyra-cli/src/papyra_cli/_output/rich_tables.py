"""Tables, and whatever else rich draws, for terminals."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from papyra_cli._escape import printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

    from rich.console import RenderableType

    from papyra_cli._output.output import Cell, Table

__all__ = ["draw", "framed", "grid", "safe_text", "terminal_width"]

_ELASTIC = ("payload", "error")  # columns that hold anything, and stand last
_WIDEST = 2000  # characters of a cell: what no terminal shows, rich need not measure


def draw(picture: RenderableType, *, color: bool, stream: TextIO) -> str:
    """Return what rich makes of ``picture`` for the terminal behind ``stream``."""
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
    """Return ``table`` as rich has it, for a terminal of so many columns; cells are never read as markup."""
    drawn = framed(table.title)
    rows = [list(map(safe_text, row)) for row in table.rows]
    for index, column in enumerate(table.columns):
        if column in _ELASTIC:  # one line of it, in what the other columns leave
            left = width - sum(_widest(rows, table.columns, other) + 3 for other in range(index)) - 4
            drawn.add_column(Text(column), overflow="ellipsis", no_wrap=True, max_width=max(left, 12))
        else:
            numbers = all(row[index].plain.replace(",", "").isdecimal() for row in rows)
            drawn.add_column(Text(column), overflow="fold", justify="right" if numbers else "left")
    for row in rows:
        drawn.add_row(*row)
    return drawn


def framed(title: str) -> RichTable:
    """Return an empty table as all of ours look."""
    return RichTable(
        title=safe_text(title),
        title_style="bold",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        caption_justify="left",
    )


def safe_text(cell: Cell) -> Text:
    """Return a cell as text in which nothing steers the terminal or is read as markup."""
    if isinstance(cell, str):
        return Text(printable(cell)[:_WIDEST])
    return Text(printable(cell.text)[:_WIDEST], style=cell.color)


def terminal_width(stream: TextIO) -> int:
    """Return how many columns the terminal behind ``stream`` has, or ``COLUMNS`` says."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        return int(columns)
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 120


def _widest(rows: Sequence[Sequence[Text]], columns: Sequence[str], index: int) -> int:
    return max(len(columns[index]), *(row[index].cell_len for row in rows))
