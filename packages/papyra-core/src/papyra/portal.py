"""Reach actors from other threads."""

from __future__ import annotations

import threading
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, overload

import anyio

from papyra._runtime.asks import expire
from papyra._runtime.containment.scope_guard import ScopeGuard
from papyra._runtime.containment.user_values import describe
from papyra._runtime.delivery.sending import deliver, try_enqueue
from papyra._runtime.envelope import Envelope
from papyra._runtime.process.threads import BLOCKING_JOB
from papyra._runtime.wait_graph import begin_wait
from papyra.exceptions import ActorStopped, MailboxFull, PapyraError, SystemNotRunning

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from papyra._runtime._eventloop import Waiter
    from papyra._runtime.cell import Cell
    from papyra._runtime.runtime import Runtime
    from papyra.ref import ActorRef
    from papyra.typing import AskableBy

__all__ = ["Portal"]

_M = TypeVar("_M")
_R = TypeVar("_R")
_T = TypeVar("_T")

_Tell: TypeAlias = tuple["Cell", Any]
"""A message that needs no answer, and its actor."""

LOOK_EVERY_SECONDS = 1.0
"""How often a thread that waits makes sure that the event loop has not ended without a word."""


class _ThreadWaiter:
    """What a thread waits for: set from the event loop. An ask's envelope takes it for the asker's waiter."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = threading.Event()

    def done(self) -> bool:
        return self._event.is_set()

    def set_result(self, _result: None, /) -> None:
        self._event.set()

    def wait(self, seconds: float) -> bool:
        return self._event.wait(seconds)


class _Call:
    """An async function that a thread has called."""

    __slots__ = ("error", "scope", "value", "waiter")

    def __init__(self) -> None:
        self.waiter = _ThreadWaiter()
        self.scope: anyio.CancelScope | None = None  # made on the event loop
        self.value: Any = None
        self.error: BaseException | None = None


class Portal:
    """Sends messages to actors from any thread; `ActorSystem.portal` makes one, on the event loop.

    ``window`` is how many tells may be on their way to mailboxes; one more waits. Each thread's messages
    reach each actor in the order they were sent. On the event loop's own thread every call is a
    `RuntimeError`, because it would wait for itself.
    """

    def __init__(self, rt: Runtime, window: int = 1024) -> None:
        if type(window) is not int or window < 1:
            raise ValueError(f"a portal's window must be a whole number of at least 1, not {window!r}")
        self._rt = rt
        self._window = window
        self._thread = threading.get_ident()
        # A `Condition` that is entered costs two calls in Python, so only those who wait for room use it.
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._inbox: deque[_Tell | Callable[[], object]] = deque()
        self._under_way = 0  # messages that are in no mailbox yet
        self._waiting = 0  # threads that wait for room in the window
        self._woken = False
        self._closed = False
        # What follows is the event loop's alone.
        self._lines: dict[Cell, deque[Envelope | _Tell]] = {}
        self._calls: set[_Call] = set()
        self._idle: Waiter | None = None
        self._draining = False
        self._settled = 0  # messages that have left the window, not yet taken off `_under_way`

    # -- in any thread

    def tell(self, ref: ActorRef[_M, Any], message: _M) -> None:
        """Send ``message``; wait only for room, while ``window`` tells are on their way.

        Raises `ActorStopped` if the actor is known to be stopped or stopping, and `SystemNotRunning` if the
        system is closed. Every message that was sent is handled or is exactly one dead letter.
        """
        cell = ref._cell
        if threading.get_ident() == self._thread or cell.rt is not self._rt:
            self._cell(ref, "tell")  # which raises the error; a call for each tell would cost a tenth of it
        stopped = cell.stopping
        with self._lock:
            while self._under_way >= self._window and not self._closed:
                self._wait_for_room()
            if not self._woken:
                self._wake()
            self._inbox.append((cell, message))
            self._under_way += 1
        if stopped:
            raise ActorStopped(cell)

    @overload
    def ask(
        self, ref: ActorRef[_M, _R], message: AskableBy[ActorRef[_M, _R], _T], *, timeout: float | None = None
    ) -> _T: ...
    @overload
    def ask(self, ref: ActorRef[_M, _R], message: _M, *, timeout: float | None = None) -> _R: ...
    def ask(self, ref: ActorRef[Any, Any], message: Any, *, timeout: float | None = None) -> Any:
        """Send ``message`` and return what ``receive`` returns, or raise the very exception that it raises.

        Raises `ActorStopped` and `AskTimeout` as `ActorRef.ask` does, and `SystemNotRunning` if the system
        ends first. In a thread of `ActorContext.run_blocking` it counts as a wait of the actor that waits for
        the thread, so a wait that could never end is an `AskDeadlock`.
        """
        cell = self._cell(ref, "ask")
        envelope = Envelope(message)
        envelope.waiter = waiter = _ThreadWaiter()
        job = BLOCKING_JOB.get()
        with self._lock:
            self._put(partial(self._ask, cell, envelope, job.cell if job is not None else None, timeout))
        self._wait_for(waiter)
        if envelope.error is not None:
            raise envelope.error
        return envelope.value

    def call(self, async_fn: Callable[..., Awaitable[_T]], *args: Any) -> _T:
        """Run ``await async_fn(*args)`` on the event loop, in a task; return its result, or raise its error.

        The system's close cancels it, and raises `SystemNotRunning` here.
        """
        self._check_thread("await the function")
        call = _Call()
        with self._lock:
            self._put(partial(self._start_call, call, async_fn, args))
        self._wait_for(call.waiter)
        if call.error is not None:
            raise call.error
        return call.value  # type: ignore[no-any-return]  # what async_fn returned

    def _cell(self, ref: ActorRef[Any, Any], method: str) -> Cell:
        self._check_thread(f"await ref.{method}(...)")
        cell = ref._cell
        if cell.rt is not self._rt:
            raise ValueError(
                f"{ref!r} belongs to a different actor system, not to this portal's {self._rt.system_id!r}. "
                "Use a portal of the system that spawned it"
            )
        return cell

    def _check_thread(self, instead: str) -> None:
        if threading.get_ident() == self._thread:
            raise RuntimeError(
                f"a portal is for other threads, and this is the event loop's own: {instead} here"
            )

    def _put(self, entry: Callable[[], object]) -> None:
        """Put an entry into the inbox and wake the loop; the lock is held."""
        if not self._woken:
            self._wake()
        self._inbox.append(entry)

    def _wake(self) -> None:
        """Wake the loop, once for each batch, or raise `SystemNotRunning`; the lock is held."""
        if self._closed:
            raise self._not_running()
        try:
            self._rt.loop.from_thread(self._drain)
        except RuntimeError as error:
            self._closed = True
            raise self._not_running() from error
        self._woken = True

    def _wait_for_room(self) -> None:
        self._waiting += 1
        try:
            if not self._room.wait(LOOK_EVERY_SECONDS):
                self._look()
        finally:
            self._waiting -= 1

    def _wait_for(self, waiter: _ThreadWaiter) -> None:
        while not waiter.wait(LOOK_EVERY_SECONDS):
            self._look()

    def _look(self) -> None:
        """Raise `SystemNotRunning` if the event loop has ended."""
        try:
            self._rt.loop.from_thread(_nothing)
        except RuntimeError as error:
            raise self._not_running() from error

    def _not_running(self) -> SystemNotRunning:
        return SystemNotRunning(self._rt.system_id, "take messages from threads", closed=True)

    # -- on the event loop

    def _drain(self) -> None:
        with self._lock:
            entries, self._inbox = self._inbox, deque()
            # Where messages come, more will: look again in the next round, in place of a wake-up for each.
            self._woken = again = bool(entries) and not self._closed
        if again:
            self._rt.loop.from_thread(self._drain)
        self._draining = True
        for entry in entries:
            if callable(entry):
                entry()
            else:
                self._deliver(entry[0], entry)
        self._draining = False
        self._make_room()

    def _deliver(self, cell: Cell, item: Envelope | _Tell) -> None:
        """Put an item into the mailbox, or into the line of those that wait for room in it."""
        line = self._lines.get(cell)
        if line is not None:
            line.append(item)
        elif not self._try(cell, item):
            self._lines[cell] = deque((item,))
            self._rt.loop.spawn(partial(self._work_off, cell), lambda: f"papyra portal: waits for {cell}")

    def _try(self, cell: Cell, item: Envelope | _Tell) -> bool:
        """Settle an item without waiting, if that can be done."""
        try:
            if not try_enqueue(cell, item if isinstance(item, Envelope) else item[1]):
                return False
        except PapyraError as error:
            self._refused(cell, item, error)
        self._landed(item)
        return True

    async def _work_off(self, cell: Cell) -> None:
        line = self._lines[cell]
        while line:
            item = line.popleft()
            try:
                await deliver(cell, item if isinstance(item, Envelope) else item[1])
            except PapyraError as error:
                self._refused(cell, item, error)
            self._landed(item)
        del self._lines[cell]
        self._note_end()

    def _refused(self, cell: Cell, item: Envelope | _Tell, error: PapyraError) -> None:
        if isinstance(item, Envelope):
            item.reply(None, error)
        elif isinstance(error, MailboxFull):
            # No caller waits for an error: the thread has continued long ago.
            cell.rt.history.dead_letter(cell, item[1], expects_reply=False, reason="dropped")

    def _landed(self, item: Envelope | _Tell) -> None:
        if not isinstance(item, Envelope):
            self._settled += 1
            if not self._draining:
                self._make_room()

    def _make_room(self) -> None:
        """Give room in the window back: once for a whole batch, because each time may switch threads."""
        settled, self._settled = self._settled, 0
        if settled:
            with self._lock:
                self._under_way -= settled
                if self._waiting:
                    self._room.notify_all()

    def _ask(self, cell: Cell, envelope: Envelope, caller: Cell | None, timeout: float | None) -> None:
        try:
            if timeout is not None:
                expire(cell, envelope, timeout)
            if caller is not None:
                begin_wait(caller, cell, envelope)
                envelope.asker = caller
        except (PapyraError, ValueError) as error:
            envelope.reply(None, error)
            return
        self._deliver(cell, envelope)

    def _start_call(
        self, call: _Call, async_fn: Callable[..., Awaitable[Any]], args: tuple[Any, ...]
    ) -> None:
        self._calls.add(call)
        self._rt.loop.spawn(
            partial(self._run_call, call, async_fn, args), lambda: f"papyra portal: {describe(async_fn)}"
        )

    async def _run_call(
        self, call: _Call, async_fn: Callable[..., Awaitable[Any]], args: tuple[Any, ...]
    ) -> None:
        call.error = self._not_running()
        try:
            with anyio.CancelScope() as call.scope:
                if self._closed:
                    call.scope.cancel()
                with ScopeGuard(self._rt.loop, describe(async_fn)):
                    call.value = await async_fn(*args)
                call.error = None
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:  # noqa: BLE001 - the thread's, as if the function had been called there
            call.error = error
        finally:
            self._calls.discard(call)
            call.waiter.set_result(None)
            self._note_end()

    def _note_end(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def close(self) -> None:
        """Take nothing any more, and return when all that came is settled; every actor has stopped."""
        with self._lock:
            self._closed = True
            self._room.notify_all()
        self._drain()
        for call in list(self._calls):
            if call.scope is not None:
                call.scope.cancel()
        while self._lines or self._calls:
            self._idle = self._rt.loop.waiter()
            await self._idle


def _nothing() -> None:
    """Do nothing, on the event loop."""
