"""G1 and G7: a finalizer, which Python may run at any call, may send to an actor."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import sniffio
import trio

from papyra import Actor, ActorStopped
from papyra._runtime import worker_loop
from papyra._runtime._eventloop import running_loop
from papyra._runtime.observation.watchdog import Watchdog
from papyra.persistence.memory import InMemoryPersistence
from papyra.persistence.models import PersistedDeadLetter

from .support import Runs, go_round, nothing, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from papyra import ActorRef


class Counts(Actor):
    """Keeps its messages, and counts those that came while another one was handled."""

    def __init__(self, on_start: bool = False) -> None:
        self.got: list[Any] = []
        self.at_once = 0
        self.busy = False
        if on_start:
            self.on_start = go_round  # type: ignore[method-assign]  # one that awaits

    async def receive(self, message: Any) -> Any:
        if message == "count":
            return self.got, self.at_once
        self.at_once += self.busy
        self.busy = True
        await go_round(3)
        self.busy = False
        self.got.append(message)
        return message


class Pool(deque[Any]):
    """Mailboxes. The next call that takes one meets a finalizer."""

    finalizer: Callable[[], object] | None = None

    def pop(self) -> Any:  # type: ignore[override]  # it takes no index
        finalizer, self.finalizer = self.finalizer, None
        if finalizer is not None:
            finalizer()
        return super().pop() if self else deque()


async def tell(ref: ActorRef[Any, Any]) -> None:
    await ref.tell("sent")


async def tell_nowait(ref: ActorRef[Any, Any]) -> None:
    ref.tell_nowait("sent")


async def ask(ref: ActorRef[Any, Any]) -> None:
    assert await ref.ask("sent") == "sent"


async def unbecome(ref: ActorRef[Any, Any]) -> None:
    """Signal the actor that something other than a message is due."""
    ref._cell.actor.become(ref._cell.actor.receive)
    await ref.tell("sent")


@pytest.mark.parametrize("fresh", [None, False, True])
@pytest.mark.parametrize("send", [tell, tell_nowait, ask, unbecome])
async def test_g07_a_finalizer_that_tells_loses_nothing_and_starts_no_second_turn(
    send: Any, fresh: bool | None
) -> None:
    async with running() as system:
        ref: Any = system.spawn(Counts, bool(fresh))
        if fresh is None:
            assert await ref.ask("count") == ([], 0)
            await go_round()
        rt = ref._cell.rt
        rt.mailbox_pool = pool = Pool([deque() for _ in range(5)])
        pool.finalizer = lambda: ref.tell_nowait("finalized")
        if fresh is None:
            await send(ref)
        else:
            await go_round(2)  # its first turn may take a mailbox
            async with anyio.create_task_group() as group:
                group.start_soon(send, ref)
        for _ in range(3):
            await ref.tell("more")
        got, at_once = await ref.ask("count")
        assert at_once == 0
        assert sorted(got) == sorted(
            ["sent", "more", "more", "more"] + ["finalized"] * (pool.finalizer is None)
        )
        assert pool.finalizer is None or fresh is False, "it has run"


@contextmanager
def as_the_loop_goes_to_sleep(
    finalizer: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Call ``finalizer`` once, when the loop has decided how long to wait and has not begun to."""
    calls = [finalizer]

    def finalize(timeout: float | None) -> None:
        if calls and timeout != 0:
            calls.pop()()

    if sniffio.current_async_library() == "trio":
        instrument: Any = type("Sleep", (trio.abc.Instrument,), {"before_io_wait": staticmethod(finalize)})()
        trio.lowlevel.add_instrument(instrument)
        yield
        trio.lowlevel.remove_instrument(instrument)
    else:
        selector = getattr(asyncio.get_running_loop(), "_selector", None)
        if selector is None:
            pytest.skip("a loop whose selector is not in Python")
        select = selector.select

        def select_after(timeout: float | None = None) -> Any:
            finalize(timeout)
            return select(timeout)

        with monkeypatch.context() as patch:
            patch.setattr(selector, "select", select_after)
            yield
    assert not calls, "it has run"


@pytest.mark.parametrize(
    "work", ["wake a worker", "start a worker", "spawn", "write a fact", "start a timer"]
)
async def test_g07_what_a_finalizer_begins_as_the_loop_goes_to_sleep_is_done_at_once(
    work: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Watchdog, "start", lambda _: None)  # on trio it rouses the loop every 5 seconds
    if work == "start a worker":
        monkeypatch.setattr(worker_loop, "MAX_PARKED", 0)
    done = anyio.Event()

    class Store(InMemoryPersistence):
        async def record_batch(self, records: Any) -> None:
            await super().record_batch(records)
            if any(isinstance(record, PersistedDeadLetter) for record in records):
                done.set()

    async with running(persistence=Store()) as system:
        ref: Any = system.spawn(Runs)
        await ref.ask(nothing)
        dead: Any = system.spawn(Runs)
        await dead.stop()
        await system.flush()
        await go_round(5)

        async def end(_: Actor) -> None:
            done.set()

        def finalizer() -> None:
            if work == "write a fact":
                with suppress(ActorStopped):
                    dead.tell_nowait("late")
            elif work == "start a timer":
                ref._cell.rt.timers.after(0, done.set)
            elif work == "spawn":
                system.spawn(Runs).tell_nowait(end)
            else:
                ref.tell_nowait(end)

        with anyio.fail_after(20), as_the_loop_goes_to_sleep(finalizer, monkeypatch):
            began = anyio.current_time()
            await done.wait()
            assert anyio.current_time() - began < 10


@pytest.mark.parametrize("anyio_backend", ["trio"])
@pytest.mark.parametrize("before", ["current_task", "wait_task_rescheduled"])
async def test_g07_a_finalizer_wakes_a_task_that_begins_to_wait(
    before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiter = running_loop().waiter()
    call = getattr(trio.lowlevel, before)

    def finalized(*args: Any) -> Any:
        monkeypatch.undo()
        waiter.set_result(None)
        return call(*args)

    with anyio.fail_after(20):
        monkeypatch.setattr(trio.lowlevel, before, finalized)
        await waiter
