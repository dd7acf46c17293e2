"""Progress on stderr while work takes long: a bar, or at least the time that has passed."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from papyra_cli._output.display import Display

__all__ = ["Gauge", "beside", "watched"]

_R = TypeVar("_R")

_SILENCE_SECONDS = 1.0
"""The time of work before anything is drawn."""

_REDRAW_SECONDS = 0.1
"""The time between two drawings."""


class Gauge:
    """How far work has come; the work sets it, perhaps from another thread, and the drawing reads it.

    Called as a `papyra.persistence.progress.Progress`. Work of unknown length counts its ``records`` instead.
    """

    def __init__(self, *, in_bytes: bool) -> None:
        self.in_bytes = in_bytes
        self.latest: tuple[int, int] | None = None
        self.records = 0

    def __call__(self, done: int, total: int) -> None:
        """Note that ``done`` of ``total`` is done."""
        self.latest = (done, total)


async def watched(display: Display, label: str, gauge: Gauge, work: Callable[[], Awaitable[_R]]) -> _R:
    """Await ``work``; after a second, and only on a terminal, draw on stderr what ``gauge`` says."""
    if not display.animated():
        return await work()
    return await beside(work, lambda: _draw(display, label, gauge))


async def beside(work: Callable[[], Awaitable[_R]], helper: Callable[[], Awaitable[None]]) -> _R:
    """Await ``work`` while ``helper`` runs beside it; what the helper raises ends the work.

    Errors leave as they are, where a task group would wrap them.
    """
    outcome: list[_R] = []
    failures: list[Exception] = []

    async def run_helper() -> None:
        try:
            await helper()
        except Exception as error:  # noqa: BLE001 - raised again below, outside the group
            failures.append(error)
            group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(run_helper)
        try:
            outcome.append(await work())
        except Exception as error:  # noqa: BLE001 - raised again below, outside the group
            failures.append(error)
        group.cancel_scope.cancel()
    if failures:
        raise failures[0]
    return outcome[0]


async def _draw(display: Display, label: str, gauge: Gauge) -> None:
    began = time.monotonic()
    await anyio.sleep(_SILENCE_SECONDS)
    from papyra_cli._output.progress_bar import Line

    # A terminal that is gone must not end the work.
    with suppress(OSError), Line(label, gauge, began, colored=display.colored(sys.stderr)) as line:
        while True:
            line.redraw()
            await anyio.sleep(_REDRAW_SECONDS)
