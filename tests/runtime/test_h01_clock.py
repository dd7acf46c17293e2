"""H1, H2: a ``time_fn`` that raises, or returns nonsense, harms nobody. Its last good reading is used."""

from __future__ import annotations

import logging
import math
import signal
import time
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from papyra import (
    ActorStopped,
    ActorSystem,
    Backoff,
    GroupPolicy,
    RestartStrategy,
    Strategy,
    SupervisionPolicy,
)
from papyra.persistence import InMemoryPersistence, RetentionPolicy
from papyra.testing import ManualClock

from .support import Echo, Runs, running, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

STARTED = 1_000.0


class BrokenClock:
    """Gives ``good`` good readings, and then raises or returns ``bad`` each time."""

    def __init__(self, bad: object, good: int = 1) -> None:
        self.bad = bad
        self.good = good

    def __bool__(self) -> bool:
        raise SystemExit("nobody asks a clock whether it is true")

    def __call__(self) -> Any:
        self.good -= 1
        if self.good >= 0:
            return STARTED
        if isinstance(self.bad, type) and issubclass(self.bad, BaseException):
            raise self.bad("boom")
        return self.bad


class BrokenDrivenClock(BrokenClock):
    """Drives the timers, too."""

    def attach(self, advanced: Callable[[], None]) -> None: ...

    def detach(self, advanced: Callable[[], None]) -> None:
        raise self.bad("detach") if self.bad is SystemExit else ValueError("detach")


class Family(Runs):
    """A parent whose children restart together."""

    children_policy = GroupPolicy(RestartStrategy.ONE_FOR_ALL)


def broken(system: ActorSystem) -> list[int]:
    return [each["failed"] for each in system.control_panel()["hooks"]]


@pytest.mark.parametrize("kind", [BrokenClock, BrokenDrivenClock])
@pytest.mark.parametrize(
    "bad", [ValueError, SystemExit, GeneratorExit, BaseException, None, "soon", math.nan]
)
async def test_h01_a_clock_that_raises_harms_nobody(
    kind: type[BrokenClock], bad: object, caplog: pytest.LogCaptureFixture
) -> None:
    store = InMemoryPersistence(RetentionPolicy(max_age_seconds=60.0))
    async with running(time_fn=kind(bad), persistence=store) as system:
        restarts = SupervisionPolicy(Strategy.RESTART, backoff=Backoff(0.0, 0.0))
        echo = system.spawn(Echo, name="echo", policy=restarts)
        with pytest.raises(RuntimeError, match="boom"):
            await echo.ask("boom")
        assert await echo.ask(1) == 1
        family = system.spawn(Family)
        child = system.spawn(Echo, parent=family)
        with pytest.raises(RuntimeError, match="boom"):
            await child.ask("boom")
        assert await child.ask(2) == 2
        assert system.audit().timestamp == system.now() == STARTED
        system.monotonic()
        await system.stop(child)
        with pytest.raises(ActorStopped):
            await child.tell(3)
        await system.compact()
        facts = await store.list_events()
        counts = broken(system)
    assert len(counts) == 1
    assert counts[0] > 5
    assert [record.levelno for record in caplog.records if "time_fn=...) raised" in record.message] == [
        logging.ERROR
    ]
    assert {fact.timestamp for fact in facts} == {STARTED}
    assert system.state == "closed"


async def test_h01_a_clock_that_never_worked_is_the_hosts() -> None:
    before = time.time()
    async with running(time_fn=BrokenClock(SystemExit, good=0)) as system:
        assert before <= system.now() <= time.time()


async def test_h01_a_clock_that_drives_the_timers_goes_on_after_an_error() -> None:
    class Odd(ManualClock):
        odd = False

        def __call__(self) -> float:
            if self.odd:
                raise SystemExit
            return super().__call__()

    clock, rang = Odd(), list[int]()
    async with running(time_fn=clock) as system:
        actor = system.spawn(Runs)
        clock.odd = True
        await actor.ask(lambda one: one.context.timers.start_single("k", 1.0, call=lambda: rang.append(1)))
        clock.advance(0.5)
        clock.odd = False
        clock.advance(1.0)
        await wait_until(lambda: rang)


async def test_h01_ctrl_c_as_a_clock_is_let_go_is_not_lost() -> None:
    class Odd(ManualClock):
        def detach(self, advanced: Callable[[], None]) -> None:
            raise KeyboardInterrupt

    system = ActorSystem(time_fn=Odd())
    await system.start()
    with pytest.raises(KeyboardInterrupt):
        await system.aclose()
    assert system.state == "closed"


async def test_h01_ctrl_c_in_a_clock_ends_the_system() -> None:
    before = signal.getsignal(signal.SIGINT)
    clock = BrokenClock(KeyboardInterrupt, good=2)
    with pytest.raises(KeyboardInterrupt):
        async with running(time_fn=clock) as system:
            await system.stop(system.spawn(Echo))
    assert signal.getsignal(signal.SIGINT) is before


async def test_h14_the_traceback_of_an_error_that_a_clock_raises_again_does_not_grow() -> None:
    error = ValueError("one object")

    def clock() -> float:
        raise error

    async with running(time_fn=clock) as system:
        lengths = []
        for _ in range(3):
            for _ in range(20):
                system.now()
            lengths.append(len(traceback.extract_tb(error.__traceback__)))
    assert len(set(lengths)) == 1
