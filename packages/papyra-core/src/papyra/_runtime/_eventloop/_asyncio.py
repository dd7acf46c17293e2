"""asyncio's side of `papyra._runtime._eventloop`; imported only where asyncio runs."""

from __future__ import annotations

import asyncio
import contextvars
import math
import types
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio._backends._asyncio as _anyio

from papyra._runtime.containment.stack_guard import SPAWN_FRAMES, expect_debug_mode, need_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from papyra._runtime._eventloop import Waiter

__all__ = ["AsyncioLoop", "current_task"]


class _NamedTask(asyncio.Task[None]):
    """A task whose name is worked out when somebody looks: naming each turn would cost 150 ns a message."""

    label: Callable[[], str] = staticmethod(lambda: "papyra")  # until it is set: asyncio may ask before

    def get_name(self) -> str:
        return self.label()


@types.coroutine
def _yield_once() -> Generator[None, None, None]:
    yield


def _raise(error: BaseException) -> None:
    """Raise ``error``. Used until the system sets a handler."""
    raise error


def _nothing() -> None:
    pass


def current_task() -> object | None:
    """Return the running task of asyncio, None outside of its loop."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None  # no loop runs in this thread


class _Scopes:
    """The cancel scopes of a task, as anyio keeps them privately."""

    __slots__ = ("_task", "state")

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self._task = task
        states: Any = getattr(_anyio, "_task_states")  # noqa: B009 - its types are not known
        self.state: Any = states[task]

    @property
    def cancel_scope(self) -> object:
        return self.state.cancel_scope

    def is_cancelled(self, scope: object) -> bool:
        return False  # `AsyncioLoop.ending` knows

    def is_cancelled_inside(self, scope: object) -> bool:
        inner = self.state.cancel_scope
        while inner is not None and inner is not scope:
            if inner.cancel_called:
                return True
            inner = inner._parent_scope
        return False

    def forget_cancellation(self) -> None:
        while self._task.cancelling():
            self._task.uncancel()

    def close_down_to(self, scope: object) -> None:
        while self.state.cancel_scope is not scope:
            inner = self.state.cancel_scope
            inner._tasks.discard(self._task)  # the worker itself continues
            inner.cancel()
            outer = inner._parent_scope
            outer._child_scopes.discard(inner)
            outer._tasks.add(self._task)
            self.state.cancel_scope = outer


class AsyncioLoop:
    """asyncio, plain: futures and tasks."""

    name = "asyncio"
    has_strays = True

    def __init__(self) -> None:
        self.fatal: Callable[[BaseException], None] = _raise
        self._loop = asyncio.get_running_loop()
        if self._loop.get_debug():
            expect_debug_mode()
        self._struck = -math.inf  # the time at which a task was last cancelled from outside of the runtime
        self._tasks: set[asyncio.Task[None]] = set()  # a loop keeps only weak references
        self.clean_context = contextvars.copy_context()
        self.time = self._loop.time
        self.waiter: Callable[[], Waiter] = self._loop.create_future
        # In context variables of its own: not in those of the thread that calls.
        self.from_thread: Callable[[Callable[[], object]], object] = partial(
            self._loop.call_soon_threadsafe, context=self.clean_context.copy()
        )

    def current_task(self) -> object | None:
        """Return the running task."""
        return asyncio.current_task(self._loop)

    def spawn(
        self,
        make: Callable[[], Coroutine[Any, Any, None]],
        label: Callable[[], str],
        context: contextvars.Context | None = None,
    ) -> None:
        """Start a task."""
        need_frames(SPAWN_FRAMES)  # else an error could come when the task is there already
        self.rouse()
        begun: list[bool] = []
        task = _NamedTask(
            self._guarded(make, begun),
            loop=self._loop,
            context=self.clean_context.copy() if context is None else context,
        )
        task.label = label
        self._tasks.add(task)

        def done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if not begun:  # cancelled before its first step: its work must still be done
                self.spawn(make, label, context)

        task.add_done_callback(done)

    async def _guarded(self, make: Callable[[], Coroutine[Any, Any, None]], begun: list[bool]) -> None:
        begun.append(True)
        try:
            await make()
        except asyncio.CancelledError:
            self._struck = self._loop.time()
            raise
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001 - raised on in the host, which asyncio would not do
            self.fatal(error)

    def ending(self) -> bool:
        """Whether all tasks of the runtime are being cancelled, as asyncio.run does at its end.

        Either all are, of several, or one that runs no actor has ended so just now.
        """
        tasks = [task for task in self._tasks if not task.done()]
        return self._loop.time() - self._struck < 0.1 or (
            len(tasks) > 1 and all(task.cancelling() for task in tasks)
        )

    def rouse(self) -> bool:
        """Let the selector return at once, unless a task runs; return False if the loop was closed."""
        if asyncio.current_task(self._loop) is None:
            if self._loop.is_closed():
                return False
            self._loop.call_soon_threadsafe(_nothing)
        return True

    def is_closed(self) -> bool:
        """Whether the loop was closed."""
        return self._loop.is_closed()

    def is_running(self) -> bool:
        """Return whether the loop runs now."""
        return self._loop.is_running()

    def runs_child(self) -> bool:
        """Return whether a task of the runtime started the running task in a task group of anyio."""
        task: Any = asyncio.current_task(self._loop)
        if task is None or task in self._tasks:
            return False
        state = getattr(_anyio, "_task_states").get(task)  # noqa: B009 - as in `_Scopes`
        scope = None if state is None else state.cancel_scope
        while scope is not None:
            if scope._host_task in self._tasks:
                return True
            scope = scope._parent_scope
        return False

    def interruption(self, main: object | None) -> BaseException:
        """Return the exception that ends the running code after Ctrl-C.

        asyncio lets a `KeyboardInterrupt` out of a task and out of the loop at once, half-way through the
        close. So tasks are cancelled, except the runtime's own and ``main``, whose exception ends the loop
        anyway. If ``main`` is not known, only tasks of an actor's task group are cancelled, because nothing
        else would end the program.
        """
        task = asyncio.current_task(self._loop)
        is_own = isinstance(task, _NamedTask)  # perhaps of another system
        if task is None or task is main or is_own or (main is None and not self.runs_child()):
            return KeyboardInterrupt()
        return asyncio.CancelledError()

    def scopes(self) -> _Scopes:
        """Return the cancel scopes of the running task."""
        task = asyncio.current_task(self._loop)
        assert task is not None  # noqa: S101 - only tasks call this
        return _Scopes(task)

    def is_running_here(self) -> bool:
        """Return whether the calling code runs in this loop."""
        return asyncio._get_running_loop() is self._loop

    def cancelling(self) -> Callable[[], int] | None:
        """Return a function that counts the calls of ``cancel()`` on the running task."""
        task = asyncio.current_task(self._loop)
        return task.cancelling if task is not None else None

    async def yield_to_loop(self) -> None:
        """Go once around the loop."""
        await _yield_once()
