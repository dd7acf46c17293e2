"""Background work of an actor: a task, and the handling of its result in the actor.

The work is a task of its own, so its asks and waits do not count as the actor's. It belongs to the instance
that started it, and is cancelled and over before ``on_stop`` of that instance.
"""

from __future__ import annotations

import logging
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import anyio

from papyra._runtime.containment.frames import calls_actor
from papyra._runtime.containment.log import LOG, log_error
from papyra._runtime.containment.scope_guard import ScopeGuard
from papyra._runtime.containment.stack_guard import SCOPE_FRAMES, need_frames
from papyra._runtime.containment.thread_guard import check_thread
from papyra._runtime.containment.user_values import is_a, is_awaitable
from papyra._runtime.resources import enqueue_own, resources
from papyra._runtime.resources.answering import BACKGROUND

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from papyra._runtime.cell import Cell
    from papyra.actor import Actor

__all__ = ["Pipe", "abandon_pipes", "pipes_gone", "start_pipe"]


class Pipe:
    """Background work of an actor, as `ActorContext.pipe_to_self` and ``start_soon`` return it."""

    __slots__ = (
        "__weakref__",
        "_cancelled",
        "_catch",
        "_cell",
        "_instance",
        "_name",
        "_scope",
        "_then",
        "_work",
    )

    keeps_drain_open = True

    def __init__(
        self,
        cell: Cell,
        name: str,
        work: Callable[[], Awaitable[Any]] | Awaitable[Any],
        then: Callable[[Any], object] | None,
        catch: Callable[[Exception], object] | None,
    ) -> None:
        self._cell = cell
        self._name = name
        self._work: Callable[[], Awaitable[Any]] | Awaitable[Any] | None = work
        self._then = then
        self._catch = catch
        self._scope: anyio.CancelScope | None = None
        self._cancelled = False
        self._instance = resources(cell).instance

    @property
    def name(self) -> str:
        """The name of the task in a task dump and in the log."""
        return self._name

    def cancel(self) -> None:
        """Cancel the work; neither ``then`` nor ``catch`` runs, even if the result is on its way."""
        check_thread(self._cell.rt, "cancel background work")
        need_frames(SCOPE_FRAMES)
        self._cancelled = True
        if self._scope is not None:
            self._scope.cancel()

    def __repr__(self) -> str:
        return f"<Pipe {self._name} of actor {self._cell}{', cancelled' if self._cancelled else ''}>"

    async def _main(self) -> None:
        try:
            outcome = await self._run()
        finally:
            self._work = None
            self._gone()
        if outcome is not None and not self._cancelled:
            enqueue_own(self._cell, self, self._name, partial(self._deliver, *outcome))

    @calls_actor
    async def _run(self) -> tuple[Any, Exception | None] | None:
        """Do the work. Return its value or its error; None if it was cancelled."""
        work, self._work = self._work, None
        try:
            with anyio.CancelScope() as self._scope:
                if self._cancelled:
                    self._scope.cancel()
                with ScopeGuard(self._cell.rt.loop, f"background task {self._name} of actor {self._cell}"):
                    awaitable = cast("Awaitable[Any]", work() if callable(work) else work)
                    return await awaitable, None
        except Exception as error:  # noqa: BLE001 - user code: it becomes a failure of the actor
            return self._note_error(error)
        except anyio.get_cancelled_exc_class():
            if self._cell.rt.loop.has_strays and not self._cell.rt.loop.ending():
                return None  # it awaited something that was cancelled, which is not a failure
            raise
        except BaseExceptionGroup as group:
            # trio: tasks of a group in the work were cancelled, and some raised on their way out.
            rest = group.split(anyio.get_cancelled_exc_class())[1]
            if rest is not None and not is_a(rest, Exception):
                raise
            return self._note_error(rest) if rest is not None else None
        return None

    def _note_error(self, error: Exception) -> tuple[None, Exception]:
        if self._cancelled:
            text = "background task %s of actor %s raised while it was cancelled"
            log_error(text, self._name, self._cell, error=error, level=logging.WARNING)
        return None, error

    @calls_actor
    async def _deliver(self, value: Any, error: Exception | None, _actor: Actor) -> None:
        mine = self._cell.resources
        if self._cancelled or mine is None or mine.instance != self._instance:
            return
        try:
            if error is None:
                result = self._then(value) if self._then is not None else None
            elif self._catch is not None:
                result = self._catch(error)
            else:
                raise error
            if is_awaitable(result):
                await result
        finally:
            if mine.receive_timeout is not None:
                mine.receive_timeout.note_activity()

    def _gone(self) -> None:
        mine = self._cell.resources
        if mine is not None and mine.pipes is not None:
            mine.pipes.pop(self, None)
            if not mine.pipes and self._cancelled:
                self._cell.rt.signal(self._cell)  # it may wait for this before on_stop


def start_pipe(
    cell: Cell,
    work: Callable[[], Awaitable[Any]] | Awaitable[Any],
    then: Callable[[Any], object] | None,
    catch: Callable[[Exception], object] | None = None,
    name: str | None = None,
) -> Pipe:
    """Start ``work`` in a task of its own, with a copy of the present context variables."""
    mine = resources(cell)
    label: str = name or getattr(work, "__qualname__", None) or type(work).__qualname__
    pipe = Pipe(cell, label, work, then, catch)
    if mine.pipes is None:
        mine.pipes = {}
    mine.pipes[pipe] = None
    context = copy_context()
    context.run(BACKGROUND.set, cell.rt)
    try:
        cell.rt.loop.spawn(pipe._main, lambda: f"papyra actor {cell}: {pipe.name}", context)
    except BaseException:
        mine.pipes.pop(pipe, None)  # or a stop would wait for it
        raise
    return pipe


def pipes_gone(cell: Cell) -> bool:
    """Whether all background work of an ending actor is over. The last task signals the cell."""
    return cell.resources is None or not cell.resources.pipes


def abandon_pipes(cell: Cell) -> None:
    """Abandon background work that ignores its cancellation."""
    mine = cell.resources
    for pipe in list(mine.pipes or ()) if mine is not None else ():
        LOG.error("background task %s of actor %s ignores cancellation and is left behind", pipe.name, cell)
    if mine is not None:
        mine.pipes = None
