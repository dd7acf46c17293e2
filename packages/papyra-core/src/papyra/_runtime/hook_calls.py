"""One who is told what happens: called without harm to anybody, and watched."""

from __future__ import annotations

import inspect
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from papyra._runtime._eventloop import Loop, Waiter

__all__ = ["Observer"]

_logger = logging.getLogger("papyra")

MAX_PENDING = 10_000
"""How many async calls of an observer may wait for their turn; one more is dropped."""

SLOW = 0.1  # seconds for which a plain hook may keep the event loop
LATE = 60.0  # seconds after which an async one that has not ended is told of, while others wait behind it


class Observer:
    """An object with hooks. Plain ones run on the spot, async ones in order in a task of the observer's own.

    What goes wrong is logged once for each kind of thing, and then counted.
    """

    def __init__(self, name: str, fatal: Callable[[BaseException], None]) -> None:
        self.name = name
        self.failed = 0
        self.slow = 0
        self.dropped = 0
        self._fatal = fatal
        self._told: set[str] = set()
        self._pending: deque[tuple[str, Awaitable[object]]] = deque()
        self._loop: Loop | None = None
        self._running = False
        self._call_began: float | None = None
        self._scope: anyio.CancelScope | None = None
        self._idle: list[Waiter] = []

    @property
    def pending(self) -> int:
        """How many async calls have not ended, the one that runs among them."""
        return len(self._pending) + (self._call_began is not None)

    def tell(self, hook: str, call: Callable[[Any], object], value: object, loop: Loop | None) -> None:
        """Call a hook; the rest of an async one runs later, on ``loop``."""
        began = time.perf_counter()
        try:
            result = call(value)
        except Exception as error:  # noqa: BLE001 - a stranger's code
            result = None
            self._count_failure(hook, error)
        except BaseException as error:  # noqa: BLE001 - not into the runtime, which is in the middle of a step
            result = None
            self._fatal(error)
        took = time.perf_counter() - began
        if took > SLOW:
            self.slow += 1
            self._say_once(
                "slow", "%s kept the event loop for %.2f s in %s; make it async or quick", took, hook
            )
        if inspect.isawaitable(result):
            self._later(hook, result, loop)

    def _later(self, hook: str, result: Awaitable[object], loop: Loop | None) -> None:
        if loop is None or len(self._pending) >= MAX_PENDING:
            self._drop(result)
            self._say_once("late", "%s is slower than what it is told: calls of %s are dropped", hook)
            return
        self._pending.append((hook, result))
        if not self._running:
            self._running = True
            self._loop = loop
            loop.spawn(self._run, lambda: f"papyra hooks: {self.name}")
        elif self._call_began is not None and time.monotonic() - self._call_began > LATE:
            self._say_once("late", "%s has not ended an async call for over %.0f s", LATE)

    async def _run(self) -> None:
        try:
            with anyio.CancelScope() as self._scope:
                while self._pending:
                    hook, result = self._pending.popleft()
                    self._call_began = time.monotonic()
                    await self._finish(hook, result)
                    self._call_began = None
        finally:
            self._running, self._call_began = False, None
            self._forget()  # what was cancelled takes no more
            waiters, self._idle = self._idle, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    async def _finish(self, hook: str, result: Awaitable[object]) -> None:
        try:
            await result
        except Exception as error:  # noqa: BLE001 - a stranger's code
            self._count_failure(hook, error)
        except anyio.get_cancelled_exc_class() as error:
            cancelling = self._loop.cancelling() if self._loop is not None else None
            if cancelling is None or cancelling():
                raise
            # Nobody cancelled this task: the hook awaited something that was cancelled.
            self._count_failure(hook, error)
        except BaseException as error:  # noqa: BLE001 - ends the system, as out of a plain hook
            self._fatal(error)

    async def drain(self) -> None:
        """Return when no async call waits any more."""
        if self._running and self._loop is not None:
            waiter = self._loop.waiter()
            self._idle.append(waiter)
            await waiter

    def give_up(self) -> None:
        """Cancel the async call that runs, and forget those that wait."""
        if not self._running:
            return
        self._say_once("late", "%s did not end %d async calls in time for the close", self.pending)
        self.dropped += self._call_began is not None
        self._forget()
        if self._scope is not None:
            self._scope.cancel()

    def _forget(self) -> None:
        pending, self._pending = self._pending, deque()
        for _, result in pending:
            self._drop(result)

    def _drop(self, result: Awaitable[object]) -> None:
        self.dropped += 1
        if inspect.iscoroutine(result):
            result.close()

    def _count_failure(self, hook: str, error: BaseException) -> None:
        self.failed += 1
        self._say_once("failed", "%s raised in %s; the system goes on", hook, error=error)

    def _say_once(self, kind: str, text: str, *about: object, error: BaseException | None = None) -> None:
        if kind not in self._told:
            self._told.add(kind)
            text += " (said once; control_panel() counts)"
            _logger.log(logging.ERROR if error else logging.WARNING, text, self.name, *about, exc_info=error)
