"""The screen of ``papyra top``; the only module that imports textual."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual.app import App
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Input, Sparkline, Static

from papyra_cli._errors import Failure
from papyra_cli._escape import printable
from papyra_cli._live.client import LiveSystem
from papyra_cli.commands._top.rows import (
    ACTOR_COLUMNS,
    FIGURES,
    TYPE_COLUMNS,
    WIDE_COLUMNS,
    actor_lines,
    actor_rows,
    totals,
    type_rows,
)
from papyra_cli.commands._top.snapshot import take

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from textual.app import ComposeResult
    from textual.binding import BindingType
    from textual.events import Key

    from papyra_cli.commands._top.snapshot import Snapshot

__all__ = ["TopApp"]

SPARK_SAMPLES = 120


class ActorScreen(ModalScreen[None]):
    """One actor; any key goes back."""

    DEFAULT_CSS = """
    ActorScreen { align: center middle; }
    ActorScreen VerticalScroll {
        width: 90%; height: auto; max-height: 90%; padding: 1 2; border: round $primary; background: $surface;
    }
    """

    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines

    def compose(self) -> ComposeResult:
        """Lay out the screen."""
        with VerticalScroll():
            yield Static("\n".join(map(printable, self._lines)), markup=False)

    def on_key(self, event: Key) -> None:
        """Go back, except to scroll."""
        if event.key not in ("up", "down", "pageup", "pagedown"):
            event.stop()
            self.dismiss()


class TopApp(App[None]):
    """A line of totals, a sparkline of the rate, types and actors.

    Rows are updated in place, so the cursor stays.
    """

    CSS = """
    #totals { height: 1; text-style: bold; }
    #state { height: 1; color: $warning; }
    Sparkline { height: 2; }
    DataTable { scrollbar-size-horizontal: 0; }
    #find { display: none; height: 3; }
    #types { height: auto; max-height: 12; margin-bottom: 1; }
    #actors { height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("q", "quit", "Quit"),
        ("m", "order('mailbox')", "Mailbox"),
        ("r", "order('rate')", "Rate"),
        ("x", "order('restarts')", "Restarts"),
        ("l", "order('latency')", "Latency"),
        ("p", "pause", "Pause"),
        ("slash", "find", "Find"),
        ("question_mark", "help", "Help"),
    ]
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, find_socket: Callable[[], Path], by: str, interval: float, rows: int) -> None:
        super().__init__()
        self._find_socket = find_socket  # a system that was started again has another one
        self._by = by
        self._interval = interval
        self._rows = rows
        self._find = ""
        self._live: LiveSystem | None = None
        self._snapshot: Snapshot | None = None
        self._paused = False
        self._looking = asyncio.Lock()
        self._rates: deque[float] = deque([0.0], maxlen=SPARK_SAMPLES)

    def compose(self) -> ComposeResult:
        """Lay out the screen."""
        with Vertical():
            yield Static("", id="totals", markup=False)
            yield Static("", id="state", markup=False)
            yield Sparkline(list(self._rates))
            yield Input(placeholder="name, type or number; Enter shows all again if it is empty", id="find")
            yield DataTable[Text](id="types", show_cursor=False)
            yield DataTable[Text](id="actors", cursor_type="row")
        yield Footer()

    def on_mount(self) -> None:
        """Start the snapshots."""
        fitting = ACTOR_COLUMNS if self.size.width >= WIDE_COLUMNS else ACTOR_COLUMNS[:-1]
        for name, columns in (("types", TYPE_COLUMNS), ("actors", fitting)):
            table = self._table(name)
            for column in columns:
                table.add_column(_cell(column, column), key=column)
        self._table("actors").focus()
        self.set_interval(self._interval, self.look)
        self.call_after_refresh(self.look)

    def on_unmount(self) -> None:
        """Close the connection."""
        if self._live is not None:
            self._live.close()

    async def look(self) -> None:
        """Take a snapshot and show it.

        While the system is gone, keep the last one and wait for a new system.
        """
        async with self._looking:  # a key and the clock may ask for a snapshot at once
            if self._paused:
                return
            try:
                self._snapshot = await asyncio.to_thread(self._take)
            except Failure as error:
                if self._live is not None:
                    self._live.close()
                    self._live = None
                self._say(str(error))
                return
        self._say("")
        self.show_snapshot(self._snapshot)

    def _take(self) -> Snapshot:
        if self._live is None:
            self._live = LiveSystem(self._find_socket())
        return take(self._live, self._by, self._rows, self._snapshot, self._find)

    def show_snapshot(self, snapshot: Snapshot) -> None:
        """Show a snapshot."""
        self.query_one("#totals", Static).update(printable(totals(snapshot, self.size.width)))
        self._rates.append(snapshot.rate)
        self.query_one(Sparkline).data = list(self._rates)
        self._fill("types", type_rows(snapshot))
        self._fill("actors", actor_rows(snapshot))

    def _fill(self, name: str, rows: dict[str, tuple[str, ...]]) -> None:
        """Update rows, and put them in order; names are an application's, so no markup in them counts.

        The cursor stays with its row.
        """
        table = self._table(name)
        selected = table.ordered_rows[table.cursor_row].key if table.row_count else None
        for key in [row.value for row in list(table.rows) if row.value not in rows]:
            if key is not None:
                table.remove_row(key)
        present = {row.value for row in table.rows}
        columns = [column.value or "" for column in table.columns]  # a narrow terminal has fewer
        places: dict[str, int] = {}
        for key, cells in rows.items():
            shown = [_cell(column, cell) for column, cell in zip(columns, cells, strict=False)]
            places.setdefault(shown[0].plain, len(places))
            if key in present:
                for column, cell in zip(columns, shown, strict=True):
                    table.update_cell(key, column, cell, update_width=True)
            else:
                table.add_row(*shown, key=key)
        table.sort(columns[0], key=lambda cell: places[cell.plain])
        if selected is not None and selected in table.rows:
            table.move_cursor(row=table.get_row_index(selected), scroll=False)

    def _table(self, name: str) -> DataTable[Any]:
        return self.query_one(f"#{name}", DataTable)  # pyright: ignore[reportUnknownVariableType] - any cell will do

    def _say(self, text: str) -> None:
        self.query_one("#state", Static).update(printable(text))

    async def action_order(self, by: str) -> None:
        """Change the order of the actors."""
        self._by = by
        self._table("actors").clear()
        await self.look()

    def action_pause(self) -> None:
        """Pause or resume."""
        self._paused = not self._paused
        self._say("paused; press p to resume" if self._paused else "")

    def action_find(self) -> None:
        """Ask for a part of a name."""
        field = self.query_one("#find", Input)
        field.display = True
        field.focus()

    async def on_input_submitted(self, event: Input.Submitted) -> None:
        """Show the actors that match."""
        self._find = event.value.strip()
        event.input.display = False
        table = self._table("actors")
        table.clear()
        table.focus()
        await self.look()

    def action_help(self) -> None:
        """Show the keys, or hide them."""
        if self.screen.query("HelpPanel"):
            self.action_hide_help_panel()
        else:
            self.action_show_help_panel()

    async def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Show one actor."""
        address = event.row_key.value
        async with self._looking:
            live = self._live
            if live is None or address is None:
                return
            try:
                actor = await asyncio.to_thread(live.ask, "actor", actor=address)
            except Failure as error:
                self._say(str(error))
                return
        self.push_screen(ActorScreen(actor_lines(actor)))


def _cell(column: str, text: str) -> Text:
    """Return a cell without markup; figures end at the right."""
    return Text(printable(text), justify="right" if column in FIGURES else "left")
