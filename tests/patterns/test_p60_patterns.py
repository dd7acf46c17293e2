"""P60 and P61: retry, circuit breaker, first of."""

from __future__ import annotations

import pickle

import anyio
import pytest

from papyra import Actor, ActorSystem, AskTimeout, Backoff, Strategy, SupervisionPolicy
from papyra.testing import ManualClock
from papyra_contrib.patterns import CircuitBreaker, CircuitOpen, first_of, retry

QUICK = Backoff(0.001, 0.002)


class Flaky(Actor):
    """Fails so often, then replies with the number of the call; a float makes it sleep."""

    def __init__(self, failures: int, calls: list[object]) -> None:
        self.failures = failures
        self.calls = calls  # the same list after a restart

    async def receive(self, message: object) -> int:
        if isinstance(message, float):
            await anyio.sleep(message)
        if isinstance(message, anyio.Event):
            await message.wait()
        if message == "calls":
            return len(self.calls)
        self.calls.append(message)
        if len(self.calls) <= self.failures:
            raise ValueError(f"failure {len(self.calls)}")
        return len(self.calls)


def flaky(system: ActorSystem, failures: int):
    return system.spawn(Flaky, failures, [], policy=SupervisionPolicy(Strategy.RESTART, max_restarts=100))


async def test_p60_it_repeats_for_the_named_errors_alone():
    async with ActorSystem(shutdown_timeout=0.1) as system:
        ref = flaky(system, 2)
        assert await retry(ref.request("go"), backoff=QUICK, on=(ValueError,)) == 3
        other = flaky(system, 2)
        with pytest.raises(ValueError, match="failure 1"):
            await retry(other.request("go"), backoff=QUICK)


async def test_p60_the_last_error_says_how_often():
    async with ActorSystem(shutdown_timeout=0.1) as system:
        ref = flaky(system, 9)
        with pytest.raises(ValueError, match="failure 3") as raised:
            await retry(ref.request("go"), attempts=3, backoff=QUICK, on=(ValueError,))
        assert raised.value.__notes__[0].startswith("given up after 3 attempts in ")


async def test_p60_the_deadline_holds():
    async with ActorSystem(shutdown_timeout=0.1) as system:
        ref = flaky(system, 0)
        began = anyio.current_time()
        with pytest.raises(TimeoutError) as raised:
            await retry(ref.request(5.0), attempts=50, backoff=QUICK, deadline=0.1)
        assert anyio.current_time() - began < 4
        assert "given up after 1 attempts" in raised.value.__notes__[0]
        with pytest.raises(AskTimeout):
            await retry(flaky(system, 0).request(5.0, timeout=0.01), attempts=2, backoff=QUICK)


@pytest.mark.parametrize("arguments", [{"attempts": 0}, {"deadline": 0}])
async def test_p60_bad_arguments(arguments):
    async with ActorSystem(shutdown_timeout=0.1) as system:
        with pytest.raises(ValueError, match="must be"):
            await retry(flaky(system, 0).request("go"), **arguments)


async def test_p61_the_breaker_opens_and_lets_one_probe_through():
    clock = ManualClock()
    async with ActorSystem(time_fn=clock) as system:
        ref = flaky(system, 3)
        breaker = CircuitBreaker(system, max_failures=2, reset_timeout=30.0)
        for _ in range(2):
            with pytest.raises(ValueError, match="failure"):
                await breaker.call(ref.request("go"))
        assert breaker.state == "open"
        with pytest.raises(CircuitOpen) as raised:
            await breaker.call(ref.request("go"))
        assert 0 < raised.value.retry_after <= 30
        assert await ref.ask("calls") == 2
        clock.advance(31)
        assert breaker.state == "half-open"
        with pytest.raises(ValueError, match="failure 3"):
            await breaker.call(ref.request("go"))
        assert breaker.state == "open"
        clock.advance(31)
        assert await breaker.call(ref.request("go")) == 4
        assert breaker.state == "closed"


async def test_p61_exactly_one_call_goes_through_a_half_open_breaker():
    clock = ManualClock()
    async with ActorSystem(time_fn=clock) as system:
        ref = flaky(system, 1)
        breaker = CircuitBreaker(system, max_failures=1, reset_timeout=1.0)
        with pytest.raises(ValueError, match="failure 1"):
            await breaker.call(ref.request("go"))
        clock.advance(2)
        results: list[object] = []

        async def call() -> None:
            try:
                results.append(await breaker.call(ref.request("go")))
            except CircuitOpen as error:
                results.append(error)

        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(call)
        assert sorted(type(one).__name__ for one in results) == ["CircuitOpen"] * 9 + ["int"]


async def test_p61_a_cancelled_probe_counts_as_a_failure():
    clock = ManualClock()
    async with ActorSystem(time_fn=clock) as system:
        ref, stuck = flaky(system, 1), flaky(system, 0)
        breaker = CircuitBreaker(system, max_failures=1, reset_timeout=1.0)
        with pytest.raises(ValueError, match="failure 1"):
            await breaker.call(ref.request("go"))
        clock.advance(2)
        gate = anyio.Event()
        with anyio.move_on_after(0.05) as scope:
            await breaker.call(stuck.request(gate))
        gate.set()
        assert scope.cancelled_caught
        assert breaker.state == "open"


async def test_p61_a_call_from_before_it_opened_does_not_move_the_next_probe():
    clock = ManualClock()
    async with ActorSystem(time_fn=clock) as system:
        ref, late = flaky(system, 1), flaky(system, 1)
        breaker = CircuitBreaker(system, max_failures=1, reset_timeout=30.0)
        gate = anyio.Event()

        async def call_late() -> None:
            with pytest.raises(ValueError, match="failure 1"):
                await breaker.call(late.request(gate))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call_late)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(ValueError, match="failure 1"):
                await breaker.call(ref.request("go"))
            clock.advance(20)
            gate.set()
        with pytest.raises(CircuitOpen) as raised:
            await breaker.call(ref.request("go"))
        assert raised.value.retry_after == pytest.approx(10)
        assert pickle.loads(pickle.dumps(raised.value)).retry_after == raised.value.retry_after
        assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)


@pytest.mark.parametrize("name", ["max_failures", "call_timeout", "reset_timeout"])
async def test_p61_bad_arguments_are_refused(name: str):
    async with ActorSystem(shutdown_timeout=0.1) as system:
        with pytest.raises(ValueError, match=f"{name} must be"):
            CircuitBreaker(system, **{name: 0})


async def test_p61_errors_that_do_not_count_do_not_trip_it():
    async with ActorSystem(shutdown_timeout=0.1) as system:
        ref = flaky(system, 9)
        breaker = CircuitBreaker(
            system, max_failures=1, counts=lambda error: not isinstance(error, ValueError)
        )
        for _ in range(3):
            with pytest.raises(ValueError, match="failure"):
                await breaker.call(ref.request("go"))
        assert breaker.state == "closed"
        timed = CircuitBreaker(system, max_failures=1, call_timeout=0.01, counts=lambda error: False)
        with pytest.raises(TimeoutError):
            await timed.call(flaky(system, 0).request(60.0))
        assert timed.state == "open"


async def test_first_of_takes_the_first_reply():
    async with ActorSystem(shutdown_timeout=0.1) as system:
        slow, failing, quick = flaky(system, 0), flaky(system, 9), flaky(system, 0)
        assert await first_of(slow.request(60.0), failing.request("go"), quick.request("go")) == 1
        with pytest.raises(ExceptionGroup) as raised:
            await first_of(failing.request("go"), failing.request("go"))
        failures = sorted(str(error) for error in raised.value.exceptions)
        # The first ask above may have expired.
        assert failures in (["failure 1", "failure 2"], ["failure 2", "failure 3"])
        with pytest.raises(TimeoutError):
            await first_of(slow.request(60.0), timeout=0.01)
        with pytest.raises(ValueError, match="at least one request"):
            await first_of()
