"""One running system: its parts, its close, and the cancellation of its host."""

from __future__ import annotations

import logging
import math
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import anyio

from papyra._runtime.containment.log import LOG, log_error
from papyra._runtime.containment.stack_guard import need_frames
from papyra._runtime.containment.user_values import is_a, leaves, type_name
from papyra._runtime.facts.run_facts import RunFacts
from papyra._runtime.facts.run_id import new_run_id
from papyra._runtime.lifecycle import Lifecycle
from papyra._runtime.observation.busy_actors import BusyActors
from papyra._runtime.observation.watchdog import Watchdog
from papyra._runtime.phases import STOPPED
from papyra._runtime.process.interrupts import INTERRUPTS
from papyra._runtime.resources.answering import BACKGROUND
from papyra._runtime.runtime import Runtime
from papyra._runtime.stopping import ABANDON, CANCEL_BUT_ON_STOP, force, request_stop, stop_waiter
from papyra._runtime.timers import Timers
from papyra._runtime.wait_graph import end_wait, wait_for_child
from papyra._runtime.worker_loop import WORKER_LOOP, Workers

if TYPE_CHECKING:
    from papyra._runtime._eventloop import Loop
    from papyra._runtime.cell import Cell
    from papyra._runtime.fact_writer import FactWriter
    from papyra._runtime.history import History
    from papyra._runtime.hook_calls import HookCalls
    from papyra._runtime.process.clock import Clock
    from papyra.system import ActorSystem

__all__ = ["RunningSystem"]

CLOSE_FRAMES = 60
"""Frames for the start of a close."""

QUIET_CLOSE_SECONDS = 1.0
"""Time after which a close says for whom it waits."""

MAX_NAMED_ACTORS = 5

LEAVE_SECONDS = 2.0
"""How long a closing system waits for its cluster to withdraw services, names and singletons."""

ON_STOP_SECONDS, REST_SECONDS = 0.25, 0.4
"""After the ``shutdown_timeout`` of a close: for each ``on_stop``, then for facts and hooks.

Together they are less than the second by which a close may exceed its time."""


class RunningSystem:
    """The parts of a system that exist from its start to its end.

    Its tasks run outside of the host's cancel scopes. So `ActorSystem.start` and ``aclose`` may be called
    from different tasks, and the actors of a cancelled host still stop in order.
    """

    def __init__(
        self,
        system: ActorSystem,
        loop: Loop,
        history: History,
        fact_writer: FactWriter,
        hooks: HookCalls,
        clock: Clock | None,
        shutdown_timeout: float | None,
    ) -> None:
        loop.fatal = hooks.fatal = self._on_fatal
        run = new_run_id()
        history.bind(loop, run)
        fact_writer.bind(loop, run)
        self.timers = Timers(loop, clock)
        window_clock = loop.time if clock is None else clock
        self.rt = Runtime(system, loop, history, fact_writer, self.timers, hooks, window_clock)
        self.lifecycle = self.rt.lifecycle = Lifecycle(self.rt)
        WORKER_LOOP.get()(self.rt, self._on_fatal)
        self.busy = BusyActors(self.rt)
        self.watchdog = Watchdog(self.rt)
        if WORKER_LOOP.get() is Workers:  # a test's own loop has no real time
            self._watch_from_first_worker()
        self.facts = RunFacts(self.rt)
        self.end_reason = "closed"  # or cancelled, or error: what SystemStopped says
        self.fatal: BaseException | None = None
        self.host: anyio.CancelScope | None = None
        self.closed = anyio.Event()
        self.closing = False
        self._ended = anyio.Event()  # the task that closes
        self._cut = False  # that task was cancelled, as any code can do on asyncio
        self._forced = False
        self._timeout = shutdown_timeout
        self._deadline: float | None = None  # of the close, on the loop's clock

    def _watch_from_first_worker(self) -> None:
        """Start the watchdog with the first worker: a system without actors needs no thread."""
        start_worker = self.rt.start_worker

        def start_first(home: Cell | None) -> None:
            self.rt.start_worker = start_worker
            if not self.closing:
                self.watchdog.start()
            start_worker(home)

        self.rt.start_worker = start_first

    @property
    def forced(self) -> bool:
        """Whether the close cancelled running code, because its time was over or the host was cancelled."""
        return self._forced

    @property
    def grace(self) -> float:
        """Seconds for an ``on_stop`` after all else was cancelled, and for the last facts of the store."""
        return 10.0 if self._timeout is None else self._timeout

    def _on_fatal(self, error: BaseException) -> None:
        """End the system, because an actor raised something other than an `Exception`."""
        self.end_reason = "error"
        if self.fatal is None:
            # In a group it would not be Ctrl-C to the caller any more, nor to Python.
            self.fatal = next((leaf for leaf in leaves(error) if is_a(leaf, KeyboardInterrupt)), error)
            text = "the actor system ends: an actor raised %s"
            log_error(text, type_name(type(error)), error=error, level=logging.CRITICAL)
        self.begin_close(forced=True)
        if self.host is not None:
            self.host.cancel()

    def begin_close(self, *, forced: bool) -> None:
        """Stop the tree. With ``forced``, cancel the running code, even if the stop has begun already."""
        if not self.closing or self._cut:
            # Before the flags: an error half-way would leave a close that never ends.
            need_frames(CLOSE_FRAMES)
            self.closing, self._cut = True, False
            self._ended = anyio.Event()
            self.rt.loop.spawn(self._close, lambda: "papyra close")
            if self._timeout is not None and self._deadline is None:
                self._limit(self._timeout, ON_STOP_SECONDS, REST_SECONDS)
        if forced and not self._forced:
            self._forced = True
            self.lifecycle.guardian.reason = "shutdown"
            force(self.lifecycle.guardian, self.grace, CANCEL_BUT_ON_STOP)

    def limit_close(self, seconds: float) -> None:
        """Give the close that begins now ``seconds``, in place of the system's ``shutdown_timeout``.

        The mailboxes get 60 % of them, ``on_stop`` gets 20 %, and the facts get the rest.
        """
        self._timeout = None
        self._limit(0.6 * seconds, 0.2 * seconds, 0.2 * seconds)

    def _limit(self, mailboxes: float, on_stop: float, rest: float) -> None:
        """Limit the seconds of the mailboxes, then of each ``on_stop``, then of facts and hooks."""
        self._deadline = self.rt.loop.time() + mailboxes + on_stop + rest
        self.timers.after(mailboxes, partial(self._out_of_time, on_stop))
        # Code that ignores its cancellation is abandoned half-way through the time of the facts.
        self.timers.after(
            mailboxes + on_stop + 0.5 * rest, partial(force, self.lifecycle.guardian, 0.1, ABANDON)
        )

    def _left(self, share: float, otherwise: float) -> float:
        """Return a share of the seconds that are left until the deadline of the close, if it has one."""
        if self._deadline is None:
            return otherwise
        return max(0.05, share * (self._deadline - self.rt.loop.time()))

    async def close_after_loop(self) -> None:
        """Close the store of a system whose event loop ended before it. Its actors are gone."""
        self.rt.abandon()
        self.closing = True
        self.watchdog.close()
        INTERRUPTS.leave(self)
        self.closed.set()
        with anyio.move_on_after(max(1.0, self.grace), shield=True) as scope:
            await self.rt.fact_writer.backend.aclose()
        if scope.cancelled_caught:
            LOG.error("closing the store did not end within %s s", max(1.0, self.grace))

    def called_from_inside(self) -> bool:
        """Return whether the current task is one of an actor of this system, or was started by one."""
        if BACKGROUND.get() is self.rt:
            return True
        tasks = {task.id: task.parent_id for task in anyio.get_running_tasks()}
        workers = {id(task) for task, worker in self.rt.workers.items() if worker.cell is not None}
        step: int | None = anyio.get_current_task().id
        while step is not None and step not in workers:
            step = tasks.get(step)
        return step is not None

    async def close(self, *, forced: bool, error: BaseException | None = None) -> None:
        """Stop everything and return when it is done.

        Cancelling the caller forces the stop; the caller still waits. ``error`` is what ended the host, if
        anything did.
        """
        if self.end_reason == "closed" and not self.closing and (forced or error is not None):
            self.end_reason = "error" if is_a(error, Exception) else "cancelled"
        self.begin_close(forced=forced)
        me = self.rt.current_cell()
        if me is not None:
            # An actor of another system closes this one: an actor in here that asks it would wait for ever.
            wait_for_child(me, self.lifecycle.guardian)
        try:
            with anyio.CancelScope(shield=forced):
                await self._until_closed()
        except anyio.get_cancelled_exc_class():
            if self.end_reason == "closed":
                self.end_reason = "cancelled"
            self.begin_close(forced=True)
            await self._until_closed_all_the_same()
            raise
        finally:
            if me is not None:
                end_wait(me)

    async def _until_closed(self) -> None:
        while not self.closed.is_set():
            await self._ended.wait()
            if self._cut:
                self.begin_close(forced=False)
                self.timers.resume()  # if all tasks were cancelled, so was theirs

    async def _until_closed_all_the_same(self) -> None:
        while True:
            try:
                with anyio.CancelScope(shield=True):
                    return await self._until_closed()
            except anyio.get_cancelled_exc_class():
                pass  # asyncio's own cancel() once more, which no shield stops: the caller raises the first one

    async def _close(self) -> None:
        lifecycle, rt = self.lifecycle, self.rt
        guardian = lifecycle.guardian
        try:
            if rt.cluster is not None and not self._forced:
                with anyio.move_on_after(self._left(0.2, LEAVE_SECONDS), shield=True):
                    await rt.cluster.leave()
            request_stop(guardian, "shutdown")
            self.timers.after(QUIET_CLOSE_SECONDS, self._say_whom)
            await stop_waiter(guardian)
            if rt.cluster is not None:
                with anyio.move_on_after(self._left(0.2, math.inf), shield=self._deadline is not None):
                    await rt.cluster.close()
            seconds = max(1.0, self.grace)
            with anyio.move_on_after(self._left(0.2, 1.0), shield=True):
                for portal in list(rt.portals):
                    await portal.close()
            await rt.fact_writer.close(
                self._left(0.5, seconds),
                self._left(0.3, seconds),
                lambda: self.facts.stopped(self.end_reason),
            )
            with anyio.move_on_after(self._left(0.5, seconds), shield=True):
                await rt.hooks.drain()
            rt.hooks.give_up()
            with anyio.move_on_after(self._left(0.5, math.inf), shield=self._deadline is not None):
                await rt.instruments.close()
            with anyio.move_on_after(self._left(0.5, 1.0), shield=True) as scope:
                await rt.close()
            if scope.cancelled_caught:
                LOG.error("%d workers did not end", len(rt.workers))
        except Exception as error:  # noqa: BLE001 - a bug of this package: raised in the host
            log_error("closing the actor system raised", error=error)
            self.fatal = self.fatal or error
        except anyio.get_cancelled_exc_class():
            self._cut = self.rt.loop.has_strays
            raise
        finally:
            if not self._cut:
                self.rt.history.dead_letters.close()
                self.lifecycle.supervision.decisions.log.close()
                self.watchdog.close()
                INTERRUPTS.leave(self)
                self.timers.close()
                self.closed.set()
                self.rt.history.wake_waiters()
            self._ended.set()

    def _say_whom(self) -> None:
        """Log for whom a close waits."""
        if self.lifecycle.guardian.phase == STOPPED:
            facts = len(self.rt.fact_writer.buffer)
            LOG.warning("closing waits for the store (%d facts), the hooks and the instruments", facts)
            return
        busy = self.busy.look()
        named = [
            f"{each.address} ({f'{each.name!r}, ' if each.name else ''}{each.actor_type}) in {each.where or 'its own task'}"
            for each in busy[:MAX_NAMED_ACTORS]
        ] or [str(cell) for cell in islice(reversed(self.rt.cells.values()), MAX_NAMED_ACTORS)]
        left = len(self.rt.cells)
        more = f", and {left - len(named)} more" if left > len(named) else ""
        LOG.warning("closing waits for %s%s", "; ".join(named), more)

    def _out_of_time(self, grace: float) -> None:
        self._forced = True
        force(self.lifecycle.guardian, grace)
