"""What asyncio and trio do differently and anyio does not offer cheaply.

Measured in one run on asyncio, one wait and wake-up costs 3.0 us with a bare future and 6.0 us with an
``anyio.Event``; a task costs 5.3 us against 40 us in an anyio task group. All else in the runtime is plain
anyio.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable, Coroutine, Generator

__all__ = ["Loop", "Scopes", "Waiter", "coroutine_of", "current_tasks", "running_loop"]


class Waiter(Protocol):
    """An object to await once, woken by ``set_result(None)``, such as an `asyncio.Future`."""

    def __await__(self) -> Generator[Any, None, None]: ...
    def done(self) -> bool: ...
    def set_result(self, result: None, /) -> None: ...


class Scopes(Protocol):
    """The cancel scopes that a task has entered."""

    state: Any
    """An object with the same ``cancel_scope``, and without a call where the loop has one."""

    @property
    def cancel_scope(self) -> object:
        """The innermost one."""
        ...

    def is_cancelled(self, scope: object) -> bool:
        """Return whether ``scope`` or one around it is cancelled, on loops that only cancel scopes."""
        ...

    def is_cancelled_inside(self, scope: object) -> bool:
        """Return whether a scope inside of ``scope`` is cancelled. Any task may ask."""
        ...

    def forget_cancellation(self) -> None:
        """Reset the task's count of cancellations, so that open scopes ignore earlier ones."""
        ...

    def close_down_to(self, scope: object) -> None:
        """Cancel and leave the scopes inside of ``scope``, and the task groups that they belong to."""
        ...


class Loop(Protocol):
    """The event loop as the runtime sees it."""

    name: str
    """``asyncio`` or ``trio``."""

    clean_context: contextvars.Context
    """The context variables of the task that started the system.

    Every task of the runtime begins with them.
    """

    has_strays: bool
    """Whether a task's code can end in a cancellation that nobody asked of the task."""

    fatal: Callable[[BaseException], None]
    """Called with each exception of a spawned task, except cancellations; set by the system."""

    time: Callable[[], float]
    """The loop's clock, in seconds. A test may run on a loop with a clock of its own."""

    waiter: Callable[[], Waiter]
    """Make a waiter."""

    def current_task(self) -> object | None:
        """Return the running task."""
        ...

    def spawn(
        self,
        make: Callable[[], Coroutine[Any, Any, None]],
        label: Callable[[], str],
        context: contextvars.Context | None = None,
    ) -> None:
        """Run ``make()`` in its own task, below no cancel scope, in ``context`` or a clean one.

        What it raises goes to ``fatal``. ``label`` gives the name that the task shows in a task dump,
        whenever asked.
        """
        ...

    def cancelling(self) -> Callable[[], int] | None:
        """Return a function that counts the running task's cancellations; None if scopes alone have them."""
        ...

    def ending(self) -> bool:
        """Whether all tasks of the runtime are being cancelled, as at the end of an event loop."""
        ...

    def rouse(self) -> bool:
        """Make sure that the loop notices a waiter that is woken now. Return False if the loop has ended.

        Call it where a finalizer may wake a waiter. A finalizer may run in the loop's own code, after the
        loop has decided how long it waits for the selector.
        """
        ...

    from_thread: Callable[[Callable[[], object]], object]
    """Make a call on the loop soon, from any thread and from ``__del__``.

    A `RuntimeError` if the loop has ended.
    """

    def is_closed(self) -> bool:
        """Whether the loop has ended, so that nothing runs any more."""
        ...

    def is_running(self) -> bool:
        """Return whether the loop runs now, in any thread: asyncio's may pause and go on later."""
        ...

    def runs_child(self) -> bool:
        """Return whether the running task, of an actor's task group, must be spared a `KeyboardInterrupt`."""
        ...

    def interruption(self, main: object | None, /) -> BaseException:
        """Return the exception that ends the running code after Ctrl-C.

        ``main`` is asyncio's main task, if it is known.
        """
        ...

    def scopes(self) -> Scopes:
        """Return the cancel scopes of the running task."""
        ...

    def is_running_here(self) -> bool:
        """Return whether the calling code runs in this loop."""
        ...

    async def yield_to_loop(self) -> None:
        """Let every other task that can run do so once. Not a cancellation point on trio."""
        ...


def running_loop() -> Loop:
    """Return the loop that runs here; outside of one it is a `RuntimeError`."""
    if "trio" in sys.modules:
        from papyra._runtime._eventloop import _trio

        if _trio.is_running():
            return _trio.TrioLoop()
    # Not at the top: importing asyncio takes longer than importing all of Papyra.
    from papyra._runtime._eventloop import _asyncio

    try:
        return _asyncio.AsyncioLoop()
    except RuntimeError:
        raise RuntimeError("no event loop runs here: start an actor system inside anyio.run(...)") from None


def coroutine_of(task: object) -> object:
    """Return the coroutine that a task of either event loop runs, or None if it has ended."""
    get_coro: Any = getattr(task, "get_coro", None)  # asyncio
    return get_coro() if get_coro is not None else getattr(task, "coro", None)


def current_tasks() -> list[object]:
    """Return the task that runs here: none outside of an event loop, two where trio is a guest of asyncio."""
    tasks: list[object] = []
    if "trio" in sys.modules:
        from papyra._runtime._eventloop import _trio

        if _trio.is_running():
            tasks.append(_trio.current_task())
    if "asyncio" in sys.modules:
        from papyra._runtime._eventloop import _asyncio

        tasks.append(_asyncio.current_task())
    return tasks
