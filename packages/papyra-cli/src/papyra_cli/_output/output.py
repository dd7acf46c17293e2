"""The output of results: a table, plain lines, or only JSON on stdout."""

from __future__ import annotations

import select
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import click

from papyra_cli._escape import printable
from papyra_cli._output.display import Display, terminal_width
from papyra_cli._output.formats import format_time
from papyra_cli._output.json import dump, dump_readable

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence
    from typing import TextIO

    from rich.console import RenderableType

__all__ = ["Cell", "Output", "Styled", "Table"]


_WIDE_COLUMNS = 100


class Styled(NamedTuple):
    """A cell in a colour that click and rich both know.

    ``wraps`` keeps all of its text on a narrow terminal.
    """

    text: str
    color: str
    wraps: bool = False


Cell: TypeAlias = "str | Styled"


@dataclass(slots=True)
class Table:
    """Rows under a title.

    In a pipe each row is a line that starts with ``key``, its cells divided by tabs.
    """

    key: str
    title: str
    columns: Sequence[str]
    rows: list[Sequence[Cell]] = field(default_factory=list["Sequence[Cell]"])

    def without_empty(self, *columns: str) -> Table:
        """Return the table without those of ``columns`` in which every cell is "-"."""
        empty = {
            index
            for index, column in enumerate(self.columns)
            if column in columns and all(row[index] == "-" for row in self.rows)
        }

        def left(cells: Sequence[Cell]) -> list[Cell]:
            return [cell for index, cell in enumerate(cells) if index not in empty]

        names = [name for index, name in enumerate(self.columns) if index not in empty]
        return Table(self.key, self.title, names, [left(row) for row in self.rows])


class Output:
    """The stdout of one command, in the form that the user chose.

    In the JSON modes all other output, also of plugins, goes to stderr until the command ends. If the reader
    leaves, the rest of the output is dropped and the work continues, so the exit code is right.
    """

    def __init__(self, ctx: click.Context) -> None:
        self.display = Display.of(ctx)
        self.format = self.display.resolved_format()
        self._stream = sys.stdout
        self._color = self.display.colored(sys.stdout)
        self.closed = False
        if self.is_json:
            sys.stdout = sys.stderr
            ctx.call_on_close(self._give_back)

    @property
    def encoding(self) -> str:
        """The encoding of stdout."""
        return self._stream.encoding or "utf-8"

    @property
    def is_drawn(self) -> bool:
        """Whether tables are drawn, as on a terminal."""
        return self.format == "table"

    @property
    def is_narrow(self) -> bool:
        """Whether tables are drawn for a terminal that has no room for a time with fractions and offset."""
        return self.is_drawn and terminal_width(self._stream) < _WIDE_COLUMNS

    @property
    def is_json(self) -> bool:
        """Whether stdout is for JSON alone."""
        return self.format in ("json", "jsonl")

    def show(
        self,
        document: object,
        records: Iterable[object],
        tables: Iterable[Table],
        note: Cell,
        picture: Callable[[int], RenderableType] | None = None,
    ) -> None:
        """Print a result.

        ``document`` is for JSON, ``records`` for JSON lines, ``tables`` and a closing ``note`` for text. A
        terminal gets ``picture(columns)`` in place of ``tables``, if it is given.
        """
        if self.format == "json":
            self.write(dump(document, indent=2))
        elif self.format == "jsonl":
            for record in records:
                self.write(dump(record))
        elif self.format == "plain":
            self._show_plain(tables, note)
        else:
            self._show_drawn(tables, note, picture)
        self._flush()

    def stream(self, table: Table, records: Iterable[object]) -> None:
        """Print records as they come: JSON lines in the JSON modes, else plain lines."""
        if self.is_json:
            for record in records:
                self.write(dump(record))
        else:
            self._show_rows(table)
        self._flush()

    def time(self, timestamp: float | None, *, brief: bool = False) -> str:
        """Return a Unix time in the style that was asked for; ISO to the second if ``brief``."""
        style = "brief" if brief and self.display.time == "iso" else self.display.time
        return "-" if timestamp is None else format_time(timestamp, style)

    def payload(self, value: object) -> str:
        """Return a payload in one line."""
        return dump_readable(value)

    def write(self, line: str) -> None:
        """Write one line that is escaped already; do nothing after the reader has left."""
        if self.closed:
            return
        with self._reader_may_leave():
            self._stream.write(line.encode(self.encoding, "backslashreplace").decode(self.encoding) + "\n")

    def reader_left(self) -> bool:
        """Return whether the reader of stdout has left, even if nothing was written since."""
        if not self.closed and _is_abandoned(self._stream):
            self.closed = True
        return self.closed

    def _flush(self) -> None:
        with self._reader_may_leave():
            self._stream.flush()

    @contextmanager
    def _reader_may_leave(self) -> Generator[None]:
        try:
            yield
        except BrokenPipeError:
            self.closed = True  # the end of the process discards what is left

    def _show_plain(self, tables: Iterable[Table], note: Cell) -> None:
        for table in tables:
            self._show_rows(table)
        self.write(f"status\t{self._plain(note)}")

    def _show_rows(self, table: Table) -> None:
        for row in table.rows:
            self.write("\t".join([table.key, *map(self._plain, row)]))

    def _plain(self, cell: Cell) -> str:
        if isinstance(cell, str):
            return printable(cell)
        text = printable(cell.text)
        return click.style(text, fg=cell.color) if self._color else text

    def _show_drawn(
        self, tables: Iterable[Table], note: Cell, picture: Callable[[int], RenderableType] | None
    ) -> None:
        from papyra_cli._output import rich_tables  # rich takes longer to import than most commands run

        width = terminal_width(self._stream)
        pictures = (
            [picture(width)]
            if picture
            else [rich_tables.grid(table, width) for table in tables if table.rows]
        )
        for each in pictures:
            self.write(rich_tables.draw(each, color=self._color, stream=self._stream))
        self.write(self._plain(note))

    def _give_back(self) -> None:
        sys.stdout = self._stream


def _is_abandoned(stream: TextIO) -> bool:
    if not hasattr(select, "poll"):  # on Windows
        return False
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # a stream that a test has replaced
        return False
    poll = select.poll()
    poll.register(descriptor, 0)  # errors and hang-ups are reported anyway
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
