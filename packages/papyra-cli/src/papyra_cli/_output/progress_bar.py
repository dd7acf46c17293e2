"""The progress line.

Imported when it is drawn, because importing rich takes longer than most commands run.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from papyra_cli._output.formats import count, size

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import RenderableType
    from rich.progress import Task

    from papyra_cli._output.progress import Gauge

__all__ = ["Line"]


class Line:
    """One line on stderr that is erased when its ``with`` block ends.

    A spinner, and a bar if the length is known.
    """

    def __init__(self, label: str, gauge: Gauge, began: float, *, colored: bool) -> None:
        self._gauge = gauge
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            _KnownBarColumn(),
            TextColumn("{task.fields[detail]}", markup=False),
            TimeElapsedColumn(),
            console=Console(
                file=sys.stderr, force_terminal=True, no_color=not colored, highlight=False, emoji=False
            ),
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,  # stdout is for results
            redirect_stderr=False,
        )
        self._task = self._bars.add_task(label, total=None, detail="")
        self._bars.tasks[0].start_time = began  # by the monotonic clock, which rich uses too

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def redraw(self) -> None:
        """Draw the state of the gauge."""
        gauge = self._gauge
        if gauge.latest is not None:
            done, total = gauge.latest
            detail = f"{size(done)} of {size(total)}" if gauge.in_bytes else f"{done:,} of {total:,}"
            self._bars.update(self._task, completed=done, total=total, detail=detail)
        elif gauge.records:
            self._bars.update(self._task, detail=count(gauge.records, "record", "records"))
        self._bars.refresh()


class _KnownBarColumn(BarColumn):
    """A bar, or nothing if the length of the work is unknown."""

    def render(self, task: Task) -> RenderableType:  # type: ignore[override]  # wider, as the base class of columns has it
        """Return the bar, or an empty text."""
        return Text("") if task.total is None else super().render(task)
