"""trio's side of `papyra._runtime._eventloop`; imported only where trio runs."""

from __future__ import annotations

import contextvars
import math
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import in_trio_task, reschedule

from papyra._runtime.containment.stack_guard import SPAWN_FRAMES, need_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from papyra._runtime._eventloop import Waiter

__all__ = ["TrioLoop", "current_task", "is_running"]


def is_running() -> bool:
    """Whether the calling code runs inside a trio task."""
    return in_trio_task()


def current_task() -> object:
    """Return the running task of trio."""
    return trio.lowlevel.current_task()


class _Woken:
    """The outcome of every wait.

    It is like an `outcome.Value` of None, but one object serves all waits: an `outcome.Value` can be used
    only once.
    """

    def unwrap(self) -> None:
        return None


_WOKEN: Any = _Woken()  # trio asks no more of an outcome: 0.6 us less for each wait


class _TrioWaiter:
    """The counterpart of an asyncio future: awaited by one task, woken once."""

    __slots__ = ("_done", "_task")

    def __init__(self) -> None:
        self._done = False
        self._task: trio.lowlevel.Task | None = None

    def __await__(self) -> Generator[Any, None, None]:
        # Without a coroutine of its own in between: each costs 0.2 us a wait.
        self._task = trio.lowlevel.current_task()  # before the look at `_done`: a finalizer may come between
        if self._done:
            self._task = None
            return trio.lowlevel.checkpoint().__await__()  # noqa: ASYNC105 - the caller awaits it
        return trio.lowlevel.wait_task_rescheduled(self._abort).__await__()  # noqa: ASYNC105 - as above

    def _abort(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._task = None
        self._done = True  # like a cancelled future: it takes no result any more
        return trio.lowlevel.Abort.SUCCEEDED

    def done(self) -> bool:
        return self._done

    def set_result(self, _result: None, /) -> None:
        self._done = True
        task: Any = self._task
        if task is None:
            return
        if task._abort_func == self._abort and in_trio_task():
            self._task = None
            reschedule(task, _WOKEN)
        else:
            # A finalizer calls, in trio's own code, where only this call is safe, or before the wait begins.
            trio.lowlevel.current_trio_token().run_sync_soon(self._reschedule)

    def _reschedule(self) -> None:
        task: Any = self._task
        self._task = None
        # After a RecursionError in `__await__` the task waits for something else, or not at all.
        if task is not None and task._abort_func == self._abort:
            reschedule(task, _WOKEN)


class _Name(str):
    """A task's name that is worked out when somebody prints it."""

    __slots__ = ("_label",)
    _label: Callable[[], str]

    @classmethod
    def of(cls, label: Callable[[], str]) -> _Name:
        name = cls("papyra")
        name._label = label
        return name

    def __str__(self) -> str:
        return self._label()

    def __repr__(self) -> str:
        return repr(self._label())

    def __format__(self, spec: str) -> str:
        return format(self._label(), spec)

    def __contains__(self, part: object) -> bool:
        return isinstance(part, str) and part in self._label()


def _raise(error: BaseException) -> None:
    """Raise ``error``. Used until the system sets a handler."""
    raise error


def _nothing() -> None:
    pass


class _Scopes:
    """The cancel scopes of a task, as trio keeps them privately."""

    __slots__ = ("_task", "state")

    def __init__(self, task: Any) -> None:
        self._task = task
        self.state: Any = self

    @property
    def cancel_scope(self) -> object:
        return self._task._cancel_status

    def is_cancelled(self, scope: object) -> bool:
        status: Any = scope
        return bool(status.effectively_cancelled)

    def is_cancelled_inside(self, scope: object) -> bool:
        inner = self._task._cancel_status
        while inner is not None and inner is not scope:
            if inner._scope.cancel_called:
                return True
            inner = inner._parent
        return False

    def forget_cancellation(self) -> None:
        """Do nothing: trio cancels only scopes."""

    def close_down_to(self, scope: object) -> None:
        while self._task._cancel_status is not scope:
            inner = self._task._cancel_status._scope
            inner.cancel()
            inner.__exit__(None, None, None)
        self._task._child_nurseries.clear()


class TrioLoop:
    """Plain trio: system tasks, so that actors are in no cancel scope except their own."""

    name = "trio"
    has_strays = False

    def __init__(self) -> None:
        self.fatal: Callable[[BaseException], None] = _raise
        self.clean_context = contextvars.copy_context()
        self.time = trio.current_time
        self.waiter: Callable[[], Waiter] = _TrioWaiter
        self.from_thread: Callable[[Callable[[], object]], object] = (
            trio.lowlevel.current_trio_token().run_sync_soon
        )
        self._token = trio.lowlevel.current_trio_token()

    def current_task(self) -> object | None:
        """Return the running task."""
        return trio.lowlevel.current_task()

    def spawn(
        self,
        make: Callable[[], Coroutine[Any, Any, None]],
        label: Callable[[], str],
        context: contextvars.Context | None = None,
    ) -> None:
        """Start a system task."""
        need_frames(SPAWN_FRAMES)  # else an error could come when the task is there already
        if not in_trio_task():  # as in `_TrioWaiter.set_result`
            self._token.run_sync_soon(self.spawn, make, label, context)
            return
        task = trio.lowlevel.spawn_system_task(
            self._guarded, make, context=self.clean_context.copy() if context is None else context
        )
        task.name = _Name.of(label)

    async def _guarded(self, make: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await make()
        except (trio.Cancelled, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - raised on in the host; out of a system task it is a TrioInternalError
            self.fatal(error)

    def ending(self) -> bool:
        """Return whether the running task is being cancelled, as at the end of the run."""
        return trio.current_effective_deadline() == -math.inf

    def rouse(self) -> bool:
        """Return whether the run goes on: trio itself notices new tasks and waiters that are woken."""
        return not self.is_closed()

    def is_closed(self) -> bool:
        """Return whether the run has ended. Only trio's own error proves it."""
        if trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is self._token:
            return False
        try:
            self._token.run_sync_soon(_nothing, idempotent=True)
        except trio.RunFinishedError:
            return True
        return False  # it runs in another thread

    def is_running(self) -> bool:
        """Return whether the run has not ended."""
        return not self.is_closed()

    def runs_child(self) -> bool:
        """Return False: trio's own handler interrupts such a task, and its nursery raises that on."""
        return False

    def interruption(self, _main: object | None) -> BaseException:
        """Return the exception that ends the running code after Ctrl-C."""
        return KeyboardInterrupt()

    def scopes(self) -> _Scopes:
        """Return the cancel scopes of the running task."""
        return _Scopes(trio.lowlevel.current_task())

    def is_running_here(self) -> bool:
        """Return whether the calling code runs in this run of trio."""
        return trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is self._token

    def cancelling(self) -> None:
        """Return None: on trio a cancellation is always a scope's."""

    async def yield_to_loop(self) -> None:
        """Go once around the loop."""
        await trio.lowlevel.cancel_shielded_checkpoint()
