"""Calls from the keeper's thread into the program's event loop, on asyncio and trio."""

from __future__ import annotations

import sys
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LoopBridge"]


class LoopBridge:
    """Makes calls in the event loop that was running when the bridge was made, in order.

    Calls that are added while the loop is busy need one wake-up together.
    """

    def __init__(self) -> None:
        self._calls: deque[Callable[[], object]] = deque()
        self._awake = False
        self.is_trio = False
        self._wake = self._trio() or self._asyncio()

    def _trio(self) -> Callable[[], None] | None:
        if "trio" not in sys.modules:
            return None
        # Imported here because most programs run on asyncio.
        import trio

        try:
            token = trio.lowlevel.current_trio_token()
        except RuntimeError:
            return None
        self.is_trio = True
        ended: Any = trio.RunFinishedError

        def wake() -> None:
            try:
                token.run_sync_soon(self._drain)
            except ended as error:
                raise RuntimeError("the event loop has ended") from error

        return wake

    def _asyncio(self) -> Callable[[], None]:
        # Imported here, as trio is.
        import asyncio

        loop = asyncio.get_running_loop()

        def wake() -> None:
            loop.call_soon_threadsafe(self._drain)

        return wake

    def call(self, function: Callable[[], object]) -> None:
        """Call ``function`` in the program's loop soon; `RuntimeError` if that loop has ended. Any thread."""
        self._calls.append(function)
        if not self._awake:
            self._awake = True
            self._wake()

    def _drain(self) -> None:
        self._awake = False  # before the calls are taken: a call that is added later wakes the loop again
        for _ in range(len(self._calls)):
            self._calls.popleft()()
