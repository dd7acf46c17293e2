"""Tables for terminals."""

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

    from papyra_cli._output import Cell, Table

__all__ = ["render"]

_WIDEST = 2000  # characters of a cell: what no terminal shows, rich need not measure


def render(table: Table, *, color: bool, stream: TextIO) -> str:
    """Return ``table`` as text that fits the terminal behind ``stream``; cells are never read as markup."""
    grid = RichTable(title=Text(table.title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD)
    width = _width(stream)
    rows = [list(map(_text, row)) for row in table.rows]
    for index, column in enumerate(table.columns):
        if column == "payload":  # one line of it, in what the other columns leave
            left = width - sum(_widest(rows, table.columns, other) + 3 for other in range(index)) - 4
            grid.add_column(Text(column), overflow="ellipsis", no_wrap=True, max_width=max(left, 12))
        else:
            grid.add_column(Text(column), overflow="fold")
    for row in rows:
        grid.add_row(*row)
    console = Console(
        file=stream,
        force_terminal=color,
        color_system="auto" if color else None,
        no_color=not color,
        highlight=False,
        markup=False,
        emoji=False,
        width=width,
    )
    with console.capture() as captured:
        console.print(grid)
    return captured.get().rstrip("\n")


def _widest(rows: Sequence[Sequence[Text]], columns: Sequence[str], index: int) -> int:
    return max(len(columns[index]), *(row[index].cell_len for row in rows))


def _text(cell: Cell) -> Text:
    if isinstance(cell, str):
        return Text(printable(cell)[:_WIDEST])
    return Text(printable(cell.text)[:_WIDEST], style=cell.color)


def _width(stream: TextIO) -> int:
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        return int(columns)
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 120
