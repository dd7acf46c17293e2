"""Blocking work in threads: cancelled callers, interrupts, limits and progress."""

from __future__ import annotations

import asyncio
import threading

import anyio
import pytest

from papyra.persistence.blocking import CallbackFailed, Work, WorkCancelled, run_blocking

PATIENCE = 20


class Statement:
    """A connection whose statement ends only when it is interrupted."""

    def __init__(self) -> None:
        self.interrupted = threading.Event()

    def interrupt(self) -> None:
        self.interrupted.set()


async def _until(event: threading.Event) -> None:
    with anyio.fail_after(PATIENCE):
        while not event.is_set():  # noqa: ASYNC110 - a thread sets it
            await anyio.sleep(0.001)


async def test_the_result_comes_back_and_the_loop_runs_meanwhile():
    began, loop_ran = threading.Event(), threading.Event()

    def wait(_: Work) -> str:
        began.set()
        assert loop_ran.wait(PATIENCE)
        return "done"

    async def run_the_loop() -> None:
        await _until(began)
        loop_ran.set()

    async with anyio.create_task_group() as group:
        group.start_soon(run_the_loop)
        assert await run_blocking(wait) == "done"


async def test_an_error_comes_back_as_it_was_raised():
    cause = ValueError("why")

    def fail(_: Work) -> None:
        raise LookupError("lost") from cause

    with pytest.raises(LookupError, match="lost") as caught:
        await run_blocking(fail)
    assert caught.value.__cause__ is cause


async def test_a_cancelled_caller_interrupts_the_statement_and_waits_for_the_thread():
    statement, began, ended = Statement(), threading.Event(), threading.Event()

    def work_on(work: Work) -> None:
        with work.interruptible(statement):
            began.set()
            statement.interrupted.wait(PATIENCE)
        with pytest.raises(WorkCancelled):
            work.check()
        ended.set()

    async with anyio.create_task_group() as group:
        group.start_soon(run_blocking, work_on)
        await _until(began)
        group.cancel_scope.cancel()
    assert ended.is_set()


async def test_the_interrupt_is_repeated_until_the_thread_ends():
    # The first interrupt comes before the statement begins and has no effect.
    class Deaf(Statement):
        calls = 0

        def interrupt(self) -> None:
            self.calls += 1
            if self.calls == 3:
                self.interrupted.set()

    statement, began = Deaf(), threading.Event()

    def work_on(work: Work) -> None:
        with work.interruptible(statement):
            began.set()
            assert statement.interrupted.wait(PATIENCE)

    async with anyio.create_task_group() as group:
        group.start_soon(run_blocking, work_on)
        await _until(began)
        group.cancel_scope.cancel()
    assert statement.calls >= 3


async def test_an_abandoned_thread_is_left_behind_and_stops_at_its_next_step():
    began, go_on, stopped = threading.Event(), threading.Event(), threading.Event()

    def work_on(work: Work) -> None:
        began.set()
        assert go_on.wait(PATIENCE)
        try:
            work.check()
        finally:
            stopped.set()

    async with anyio.create_task_group() as group:
        group.start_soon(lambda: run_blocking(work_on, abandon=True))
        await _until(began)
        group.cancel_scope.cancel()
    assert not stopped.is_set()
    go_on.set()
    await _until(stopped)


async def test_a_caller_that_is_cancelled_in_the_queue_leaves_at_once_and_its_function_never_runs():
    limiter, began, go_on = anyio.CapacityLimiter(1), threading.Event(), threading.Event()
    ran: list[str] = []

    def first(_: Work) -> None:
        began.set()
        assert go_on.wait(PATIENCE)
        ran.append("first")

    async with anyio.create_task_group() as group:
        group.start_soon(lambda: run_blocking(first, limiter=limiter))
        await _until(began)
        with anyio.move_on_after(0.01) as scope:
            await run_blocking(lambda _: ran.append("second"), limiter=limiter)
        assert scope.cancelled_caught
        go_on.set()
    await run_blocking(lambda _: ran.append("third"), limiter=limiter)
    assert ran == ["first", "third"]


async def test_the_limiter_is_held_until_a_cancelled_thread_has_ended():
    limiter, began, go_on = anyio.CapacityLimiter(1), threading.Event(), threading.Event()
    at_once: list[int] = []
    inside = 0

    def slow(_: Work) -> None:
        nonlocal inside
        inside += 1
        at_once.append(inside)
        began.set()
        go_on.wait(PATIENCE)
        inside -= 1

    async def cancelled() -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            await run_blocking(slow, limiter=limiter)

    scopes: list[anyio.CancelScope] = []
    async with anyio.create_task_group() as group:
        group.start_soon(cancelled)
        await _until(began)
        scopes[0].cancel()
        group.start_soon(lambda: run_blocking(slow, limiter=limiter))
        await anyio.wait_all_tasks_blocked()
        assert at_once == [1]
        go_on.set()
    assert at_once == [1, 1]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_cancel_method_of_a_task_waits_for_the_thread_too(anyio_backend):
    statement, began, ended = Statement(), threading.Event(), threading.Event()

    def work_on(work: Work) -> None:
        with work.interruptible(statement):
            began.set()
            statement.interrupted.wait(PATIENCE)
        ended.set()

    task = asyncio.ensure_future(run_blocking(work_on))
    await _until(began)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_an_error_of_a_callback_passes_every_handler_of_the_store():
    class Mine(Exception):
        pass

    def progress(done: int, total: int) -> None:
        raise Mine from LookupError("cause")

    def work_on(work: Work) -> None:
        work.total = 10
        try:
            work.reach(1)
        except (OSError, ValueError, Mine):
            pytest.fail("a handler for errors of the store caught it")

    with pytest.raises(Mine) as caught:
        await run_blocking(work_on, Work(progress))
    assert isinstance(caught.value.__cause__, LookupError)


def test_a_callback_that_fails_says_so_where_the_work_runs_by_itself():
    with pytest.raises(CallbackFailed) as caught:
        Work().guarded(lambda: 1 / 0)()
    assert isinstance(caught.value.error, ZeroDivisionError)


async def test_progress_never_goes_down_and_ends_at_the_total():
    told: list[tuple[int, int]] = []

    def work_on(work: Work) -> None:
        work.left(10)
        work.advance(4)
        work.left(3)  # three of the six fell away
        work.advance(3)
        work.left(2)  # others appended
        work.advance(1)

    await run_blocking(work_on, Work(lambda done, total: told.append((done, total))))
    assert told == [(4, 10), (10, 10), (11, 12), (12, 12)]


async def test_parts_share_the_total():
    told: list[int] = []

    def work_on(work: Work) -> None:
        work.total = 100
        half = work.part(0.5, 1)
        work.part(0, 0.5).reach(0.5)
        half.part(0, 0.5).reach(1)
        half.reach(0.1)  # less than was reported
        half.reach(7)

    await run_blocking(work_on, Work(lambda done, _: told.append(done)))
    assert told == [25, 75, 100]
