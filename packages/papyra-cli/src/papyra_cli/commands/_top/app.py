"""The screen of ``papyra top``; the only module that imports textual."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar

from rich.markup import escape
from textual.app import App
from textual.containers import Vertical
from textual.widgets import DataTable, Footer, Sparkline, Static

from papyra_cli._errors import Failure
from papyra_cli._escape import printable
from papyra_cli._live.client import LiveSystem
from papyra_cli.commands._top.picture import take

if TYPE_CHECKING:
    from pathlib import Path

    from textual.app import ComposeResult
    from textual.binding import BindingType

    from papyra_cli.commands._top.picture import Picture

__all__ = ["TopApp"]

SPARK_SAMPLES = 120
_TYPES = ("type", "alive", "msg/s", "handled", "waiting", "failures", "restarts")
_ACTORS = ("actor", "type", "state", "waiting", "handled", "seconds", "where")


class TopApp(App[None]):
    """A line of totals, a sparkline of the rate, types and actors.

    Rows are updated in place, so the cursor stays.
    """

    CSS = """
    #totals { height: 1; text-style: bold; }
    #state { height: 1; color: $warning; }
    Sparkline { height: 2; }
    #types { height: auto; max-height: 12; }
    #actors { height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("q", "quit", "Quit"),
        ("m", "order('mailbox')", "Mailbox"),
        ("r", "order('rate')", "Rate"),
        ("x", "order('restarts')", "Restarts"),
        ("l", "order('latency')", "Latency"),
        ("p", "pause", "Pause"),
    ]
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, path: Path, by: str, interval: float, rows: int) -> None:
        super().__init__()
        self._path = path
        self._by = by
        self._interval = interval
        self._rows = rows
        self._live: LiveSystem | None = None
        self._picture: Picture | None = None
        self._paused = False
        self._looking = asyncio.Lock()
        self._rates: deque[float] = deque([0.0], maxlen=SPARK_SAMPLES)

    def compose(self) -> ComposeResult:
        """Lay out the screen."""
        with Vertical():
            yield Static("", id="totals", markup=False)
            yield Static("", id="state", markup=False)
            yield Sparkline(list(self._rates))
            yield DataTable[str](id="types", cursor_type="row")
            yield DataTable[str](id="actors", cursor_type="row")
        yield Footer()

    def on_mount(self) -> None:
        """Begin to look."""
        for name, columns in (("types", _TYPES), ("actors", _ACTORS)):
            table = self._table(name)
            for column in columns:
                table.add_column(column, key=column)
        self._table("actors").focus()
        self.set_interval(self._interval, self.look)
        self.call_after_refresh(self.look)

    def on_unmount(self) -> None:
        """Leave the system."""
        if self._live is not None:
            self._live.close()

    async def look(self) -> None:
        """Take a picture and show it.

        While the system is gone, keep the last one and wait for a new system.
        """
        async with self._looking:  # a key and the clock may ask for a picture at once
            if self._paused:
                return
            try:
                self._picture = await asyncio.to_thread(self._take)
            except (Failure, OSError) as error:
                if self._live is not None:
                    self._live.close()
                    self._live = None
                self._say(f"the system has gone: {error}")
                return
        self._say("")
        self.show_picture(self._picture)

    def _take(self) -> Picture:
        if self._live is None:
            self._live = LiveSystem(self._path)
        return take(self._live, self._by, self._rows, self._picture)

    def show_picture(self, picture: Picture) -> None:
        """Show a picture."""
        self.query_one("#totals", Static).update(printable(picture.summary()))
        self._rates.append(picture.rate)
        self.query_one(Sparkline).data = list(self._rates)
        kinds = [kind for kind in picture.kinds if kind["alive"] or kind["processed"]]
        self._fill(
            "types",
            {
                kind["actor_type"]: (
                    kind["actor_type"],
                    f"{kind['alive']:,}",
                    picture.rate_text(kind["actor_type"]),
                    f"{kind['processed']:,}",
                    f"{kind['waiting']:,}",
                    f"{kind['failures']:,}",
                    f"{kind['restarts']:,}",
                )
                for kind in kinds
            },
        )
        self._fill("actors", {actor["address"]: picture.actor_cells(actor) for actor in picture.actors})

    def _fill(self, name: str, rows: dict[str, tuple[str, ...]]) -> None:
        """Update rows in place; names are an application's, so no markup in them counts."""
        table = self._table(name)
        for key in [row.value for row in list(table.rows) if row.value not in rows]:
            if key is not None:
                table.remove_row(key)
        present = {row.value for row in table.rows}
        columns = [column.value or "" for column in table.columns]
        for key, cells in rows.items():
            shown = [escape(printable(cell)) for cell in cells]
            if key in present:
                for column, cell in zip(columns, shown, strict=True):
                    table.update_cell(key, column, cell)
            else:
                table.add_row(*shown, key=key)

    def _table(self, name: str) -> DataTable[Any]:
        return self.query_one(f"#{name}", DataTable)  # pyright: ignore[reportUnknownVariableType] - any cell will do

    def _say(self, text: str) -> None:
        self.query_one("#state", Static).update(printable(text))

    async def action_order(self, by: str) -> None:
        """Order the actors anew."""
        self._by = by
        self._table("actors").clear()
        await self.look()

    def action_pause(self) -> None:
        """Stop looking, or go on."""
        self._paused = not self._paused
        self._say("paused; p goes on" if self._paused else "")
