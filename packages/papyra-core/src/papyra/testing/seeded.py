"""Run a test in an order drawn from a seed: same seed, same interleaving.

A random generator decides which cell runs next, how many messages its turn has, and where the event loop
goes round. Time is virtual: if nothing can run, the clock jumps to the next timer. So a scenario that sleeps
for minutes takes a millisecond, thousands of orders can be tried in seconds, and an order that fails can be
run again. The idea is that of FoundationDB's simulation.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from contextlib import contextmanager
from functools import partial
from itertools import count
from sys import getrefcount
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import anyio

from papyra._runtime.containment.failures import left_open
from papyra._runtime.context_guard import keep
from papyra._runtime.delivery.sending import grant
from papyra._runtime.envelope import SIGNAL, Envelope
from papyra._runtime.runtime import MAX_IDLE_STOPS
from papyra._runtime.worker_loop import TURN_MESSAGES, WORKER_LOOP, Workers, answer, observed

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator

    from papyra._runtime.cell import Cell
    from papyra._runtime.context_guard import ContextGuard
    from papyra._runtime.runtime import Runtime
    from papyra._runtime.worker import Worker

__all__ = ["SeededWorkers", "SimulationDeadlock", "explore", "run_seeded"]

_T = TypeVar("_T")

_IO_PATIENCE_SECONDS = 5.0  # real seconds to wait for a thread or a socket before the run counts as stuck
_END_OF_TIME_SECONDS = 1e9  # virtual seconds on trio, later than any timer


class SeededWorkers(Workers):
    """Workers that take any cell of the queue and run it for any number of messages, with pauses anywhere."""

    def __init__(self, rng: random.Random, rt: Runtime, fatal: Callable[[BaseException], None]) -> None:
        super().__init__(rt, fatal)
        self._rng = rt.rng = rng
        rt.max_idle_stops = rng.choice((1, MAX_IDLE_STOPS))

    async def _work(self, worker: Worker, ready: deque[Cell], guard: ContextGuard) -> bool:
        """Run the cells of ``ready``: the loop of `Workers`, without its short cuts."""
        rt, rng = self._rt, self._rng
        shared = worker.home is None
        cancelling = rt.loop.cancelling()
        task = rt.loop.current_task()
        references = worker.references = worker.references or getrefcount(task)
        while True:
            while ready:
                cell = _draw(ready, rng)
                if cell.variables is not None and shared:
                    self.start(cell)
                    continue
                worker.cell, cell.worker = cell, worker
                if ready and not rt.awake:
                    rt.wake()
                ended = await self._turn(worker, cell, ready)
                if ended is not None:
                    return ended
                if shared and getrefcount(task) != references and await self._holds(worker, cell, references):
                    if worker.queue is None:
                        return True
                    shared, ready = False, worker.queue
                if shared and guard.changed():
                    keep(cell, worker)
                    return True
                if shared and cancelling is not None and cancelling():
                    return True
                if (ready or shared) and rng.random() < 0.3:
                    await self._pause(worker)
            worker.cell = None
            if worker.home is not None:
                if not await self._stays(worker, worker.home, guard, references):
                    return True
                assert worker.queue is not None  # noqa: S101 - it has a home
                ready = worker.queue
                continue
            if rt.closing:
                return True
            await self._park(worker)

    async def _turn(self, worker: Worker, cell: Cell, ready: deque[Cell]) -> bool | None:
        """Run one turn of ``cell``. Return None to continue, else what `_work` returns."""
        rt, box = self._rt, cell.box
        only_messages = box is not None
        item: object = None
        try:
            for _ in range(self._rng.randint(1, TURN_MESSAGES)):
                if not box:
                    break
                item = box.popleft()
                if cell.senders is not None:
                    grant(cell)
                if item is SIGNAL:
                    only_messages = False
                    break
                cell.processed += 1
                if type(item) is Envelope:
                    await (answer(cell, item, worker) if item.marks is None else observed(cell, item, worker))
                else:
                    actor: Any = cell.actor
                    await (cell.receive or actor.receive)(item)
        except BaseException as error:  # noqa: BLE001 - classified there; all but failures are raised again
            only_messages = False
            if not self._shielded(worker, cell, error) and await self._message_failed(
                worker, cell, error, item
            ):
                return True
        if worker.interrupted and not self._shielded(worker, cell):
            return self._release(worker, cell)
        if not worker.own and worker.left_open():
            worker.close_scopes()
            only_messages = False
            if await self._message_failed(worker, cell, left_open(cell, "a message"), item):
                return True
        if only_messages:
            if box:
                ready.append(cell)
            else:
                cell.box = None
            return None
        try:
            rest = rt.lifecycle.begin(cell, worker) if cell.fresh else rt.lifecycle.step(cell)
            if rest is not None:
                await rest
        except BaseException as error:  # noqa: BLE001 - as above
            if self._shielded(worker, cell, error):
                ready.append(cell)
                return None
            await self._step_failed(worker, cell, error)
            return True
        if worker.interrupted and not self._shielded(worker, cell):
            return self._cut_short(worker, cell)
        return None


def _draw(ready: deque[Cell], rng: random.Random) -> Cell:
    """Take a cell from anywhere in the queue."""
    index = rng.randrange(len(ready))
    ready.rotate(-index)
    cell = ready.popleft()
    ready.rotate(index)
    return cell


class SimulationDeadlock(AssertionError):
    """Every task waits and no timer is set, but the test has not ended."""


class _JumpingSelector(selectors.DefaultSelector):
    """A selector that advances the clock where it would wait."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is not None and timeout > 0:
            self.now += timeout
            return ready
        ready = super().select(_IO_PATIENCE_SECONDS)
        if not ready:
            raise SimulationDeadlock("every task waits, and no timer is set: nothing can happen any more")
        return ready


def run_seeded(
    seed: int,
    main: Callable[..., Awaitable[_T]],
    *args: Any,
    backend: Literal["asyncio", "trio"] = "asyncio",
) -> _T:
    """Run ``main(*args)`` in virtual time, with the interleaving of ``seed``.

    The seed decides the order of the actors, and on trio also that of the tasks of ``main``; asyncio runs
    these first come, first served. A run is repeatable, in any process, if ``main`` uses no threads, sockets
    or other sources of chance, such as the order of a set of strings. A seed gives the same interleaving for
    one version of Papyra on one backend only.
    """
    token = WORKER_LOOP.set(partial(SeededWorkers, random.Random(seed)))  # noqa: S311 - repeatable on purpose
    try:
        return _on_asyncio(main, args) if backend == "asyncio" else _on_trio(seed, main, args)
    finally:
        WORKER_LOOP.reset(token)


def _on_asyncio(main: Callable[..., Awaitable[_T]], args: tuple[Any, ...]) -> _T:
    def make_loop() -> asyncio.AbstractEventLoop:
        selector = _JumpingSelector()
        loop = asyncio.SelectorEventLoop(selector)
        loop.set_task_factory(make_task)
        loop.time = lambda: selector.now  # type: ignore[method-assign]  # documented as the loop's clock, and the one place it is read from
        return loop

    with _numbered_tasks() as make_task:
        return anyio.run(main, *args, backend="asyncio", backend_options={"loop_factory": make_loop})


@contextmanager
def _numbered_tasks() -> Generator[Any]:
    """Yield a task factory; make tasks and cancel scopes whose hash is the order in which they were made.

    anyio and asyncio keep those that are cancelled together in sets, whose order is that of addresses else.
    """
    import anyio._backends._asyncio as of_anyio

    import papyra._runtime._eventloop._asyncio as of_runtime

    scope, task = of_anyio.CancelScope, of_runtime._NamedTask
    numbers = count()
    numbered_task = _numbered(asyncio.Task, numbers)

    def make_task(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> Any:
        return numbered_task(coro, loop=loop, **options)

    of_anyio.CancelScope = _numbered(scope, numbers)  # type: ignore[misc]  # only scopes of this run count
    of_runtime._NamedTask = _numbered(task, numbers)  # type: ignore[misc]  # as above
    try:
        yield make_task
    finally:
        of_anyio.CancelScope, of_runtime._NamedTask = scope, task  # type: ignore[misc]


def _numbered(kind: Any, numbers: Iterator[int]) -> Any:
    def new(cls: Any, *args: Any, **options: Any) -> Any:
        made: Any = kind.__new__(cls, *args, **options)
        made.order = next(numbers)
        return made

    def order(self: Any) -> Any:
        return self.order

    return type(kind.__name__, (kind,), {"__new__": new, "__hash__": order})


def _on_trio(seed: int, main: Callable[..., Awaitable[_T]], args: tuple[Any, ...]) -> _T:
    import trio
    import trio._core._run as scheduler
    import trio.testing

    async def bounded() -> _T:
        # The clock jumps to the next timer, and to this one if there is no other.
        with trio.move_on_after(_END_OF_TIME_SECONDS):
            return await main(*args)
        raise SimulationDeadlock("every task waits, and no timer is set: nothing can happen any more")

    # Sorted before they are shuffled: a cancelled scope wakes its tasks in the order of their addresses.
    former = scheduler._r, scheduler._ALLOW_DETERMINISTIC_SCHEDULING
    scheduler._r, scheduler._ALLOW_DETERMINISTIC_SCHEDULING = random.Random(seed), True  # type: ignore[misc]  # noqa: S311 - repeatable on purpose
    try:
        # Not anyio.run: that of anyio 4.7 drops its backend_options, and the clock with them.
        return trio.run(bounded, clock=trio.testing.MockClock(autojump_threshold=0))
    finally:
        scheduler._r, scheduler._ALLOW_DETERMINISTIC_SCHEDULING = former  # type: ignore[misc]


def explore(
    main: Callable[..., Awaitable[object]],
    *args: Any,
    seeds: Iterable[int] = range(1000),
    backend: Literal["asyncio", "trio"] = "asyncio",
) -> None:
    """Run ``main(*args)`` once with each seed; an error is noted with its seed and raised."""
    for seed in seeds:
        try:
            run_seeded(seed, main, *args, backend=backend)
        except BaseException as error:
            error.add_note(
                f"with seed {seed}; run it again with run_seeded({seed}, ..., backend={backend!r})"
            )
            raise
