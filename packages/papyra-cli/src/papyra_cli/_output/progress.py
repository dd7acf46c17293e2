"""A sign of life on stderr while work takes long: how far it is, or at least since when it goes on."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from papyra_cli._output.display import Display

__all__ = ["Gauge", "watched"]

_R = TypeVar("_R")

_SILENCE_SECONDS = 1.0
"""Seconds of work before anything is drawn."""

_REDRAW_SECONDS = 0.1
"""Seconds between two drawings."""


class Gauge:
    """How far work has come; the work tells, perhaps from another thread, and a drawing looks.

    Called as a `papyra.persistence.progress.Progress`; work whose end nobody knows counts its ``records`` instead.
    """

    def __init__(self, *, in_bytes: bool) -> None:
        self.in_bytes = in_bytes
        self.latest: tuple[int, int] | None = None
        self.records = 0

    def __call__(self, done: int, total: int) -> None:
        """Take note of ``done`` of ``total``."""
        self.latest = (done, total)


async def watched(display: Display, label: str, gauge: Gauge, work: Callable[[], Awaitable[_R]]) -> _R:
    """Await ``work``; past a second, and only on a terminal, draw on stderr what ``gauge`` says."""
    if not display.animated():
        return await work()
    # Errors are carried out by hand: a task group would wrap them.
    outcome: list[_R] = []
    failure: Exception | None = None
    async with anyio.create_task_group() as group:
        group.start_soon(_draw, display, label, gauge)
        try:
            outcome.append(await work())
        except Exception as error:  # noqa: BLE001 - raised again below, outside the group
            failure = error
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return outcome[0]


async def _draw(display: Display, label: str, gauge: Gauge) -> None:
    began = time.monotonic()
    await anyio.sleep(_SILENCE_SECONDS)
    from papyra_cli._output.progress_bar import Line

    # A terminal that is gone ends no work.
    with suppress(OSError), Line(label, gauge, began, colored=display.colored(sys.stderr)) as line:
        while True:
            line.redraw()
            await anyio.sleep(_REDRAW_SECONDS)
