"""H14: one line for a failure says what was decided.

Like failures are counted, and tracebacks do not grow.
"""

from __future__ import annotations

import logging
import traceback

import anyio
import anyio.lowlevel
import pytest

from papyra import (
    Actor,
    ActorRef,
    ActorStopped,
    ActorSystem,
    Backoff,
    GroupPolicy,
    RestartStrategy,
    Strategy,
    SupervisionPolicy,
    SupervisorDecision,
)
from papyra._runtime import supervision
from papyra.testing import ManualClock

RESTART = SupervisionPolicy(Strategy.RESTART)


class Failing(Actor):
    """Raises one and the same exception object for each message."""

    def __init__(self) -> None:
        self.error = ValueError("no luck")

    async def receive(self, message: object) -> object:
        raise self.error


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "dead letter" not in record.getMessage()]


async def fail(ref: ActorRef[object, object], times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises((ValueError, ActorStopped)):
            await ref.ask("fail")


async def test_h14_a_restart_says_its_number_its_limit_and_its_delay(
    caplog: pytest.LogCaptureFixture,
) -> None:
    policy = SupervisionPolicy(Strategy.RESTART, 2, backoff=Backoff(0.4, 4.0, jitter=0.0))
    clock = ManualClock()
    async with ActorSystem(time_fn=clock) as system:
        till = system.spawn(Failing, name="till", policy=policy)
        for seconds in (0.4, 0.8, 0.0):
            await fail(till)
            await anyio.wait_all_tasks_blocked()
            clock.advance(seconds)
    assert lines(caplog) == [
        "actor local:1 ('till', Failing) failed with ValueError: restart 1 of 2 in 60 s, after 0.4 s",
        "actor local:1 ('till', Failing) failed with ValueError: restart 2 of 2 in 60 s, after 0.8 s",
        "actor local:1 ('till', Failing) failed with ValueError: stopped for good: 2 restarts in 60 s",
    ]
    assert caplog.text.count("Traceback") == 3


async def test_h14_an_explicit_policy_restarts_at_once_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    async with ActorSystem() as system:
        await fail(system.spawn(Failing, policy=RESTART))
    assert lines(caplog) == [
        "actor local:1 (Failing) failed with ValueError: restart 1 of 3 in 60 s, at once"
    ]


class Parent(Actor):
    def __init__(self, decision: SupervisorDecision | None) -> None:
        self.decision = decision

    async def receive(self, message: object) -> ActorRef[object, object]:
        return self.context.spawn_child(Failing, policy=RESTART)

    def on_child_failure(self, child_ref: object, exc: BaseException) -> SupervisorDecision | None:
        return self.decision


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        (None, "restart 1 of 3 in 60 s, at once"),
        (SupervisorDecision.RESTART, "restart 1 of 3 in 60 s, at once, as its parent decided"),
        (SupervisorDecision.RESUME, "resumed, as its parent decided"),
        (SupervisorDecision.STOP, "stopped, as its parent decided"),
        (SupervisorDecision.IGNORE, "stopped, as its parent decided"),
        (SupervisorDecision.ESCALATE, "stopped, and escalated to local:1 (Parent), as its parent decided"),
    ],
)
async def test_h14_the_parents_decision_is_named(
    decision: SupervisorDecision | None, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with ActorSystem() as system:
        parent = system.spawn(Parent, decision)
        await fail(await parent.ask("spawn"))
        if decision is SupervisorDecision.ESCALATE:
            while parent.is_alive():
                await anyio.lowlevel.checkpoint()
    assert lines(caplog)[0] == f"actor local:2 (Failing) failed with ValueError: {said}"
    assert caplog.text.count("Traceback") == 1
    if decision is SupervisorDecision.ESCALATE:
        assert (
            lines(caplog)[1]
            == "actor local:1 (Parent) fails with what its child escalated, ValueError: stopped"
        )
    else:
        assert len(lines(caplog)) == 1


async def test_h14_an_actor_without_a_parent_cannot_escalate(caplog: pytest.LogCaptureFixture) -> None:
    async with ActorSystem() as system:
        await fail(system.spawn(Failing, policy=SupervisionPolicy(Strategy.ESCALATE)))
    assert lines(caplog)[0].endswith("failed with ValueError: stopped: it would escalate, and has no parent")


async def test_h14_a_parent_that_takes_long_is_named_and_the_decision_follows(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "MAX_UNDECIDED_SECONDS", 0.01)

    class Slow(Parent):
        async def receive(self, message: object) -> ActorRef[object, object]:
            child = await super().receive(message)
            await child.tell("fail")
            while not lines(caplog):  # noqa: ASYNC110 - a log line sets no event
                await anyio.sleep(0.001)
            return child

    async with ActorSystem() as system:
        await system.spawn(Slow, SupervisorDecision.RESUME).ask("spawn")
        with anyio.fail_after(60):
            while len(lines(caplog)) < 2:  # noqa: ASYNC110 - as above
                await anyio.sleep(0.001)
    assert lines(caplog) == [
        "actor local:2 (Failing) failed with ValueError: its parent has not decided yet",
        "actor local:2 (Failing) failed before with ValueError: resumed, as its parent decided",
    ]
    assert caplog.text.count("Traceback") == 1


async def test_h14_members_of_a_group_say_so(caplog: pytest.LogCaptureFixture) -> None:
    class Shop(Actor):
        children_policy = GroupPolicy(RestartStrategy.ONE_FOR_ALL, max_restarts=1)

        async def receive(self, message: object) -> ActorRef[object, object]:
            self.context.spawn_child(Failing)
            return self.context.spawn_child(Failing)

    async with ActorSystem() as system:
        member = await system.spawn(Shop).ask("open")
        await fail(member, 2)
    assert lines(caplog)[:2] == [
        "actor local:3 (Failing) failed with ValueError: restart 1 of 1 in 60 s, one_for_all",
        (
            "actor local:3 (Failing) failed with ValueError: "
            "stopped for good: 1 restart in 60 s, and its parent fails"
        ),
    ]


async def test_h14_an_on_stop_that_fails_says_what_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    class Dirty(Failing):
        async def on_stop(self) -> None:
            raise OSError("still busy")

    async with ActorSystem() as system:
        await fail(system.spawn(Dirty, policy=RESTART))
    assert lines(caplog) == [
        "actor local:1 (Dirty) failed with ValueError: restart 1 of 3 in 60 s, at once",
        "on_stop of actor local:1 (Dirty) ended with OSError: the restart goes on",
        "on_stop of actor local:1 (Dirty) ended with OSError: the stop goes on",
    ]


# -- like failures are counted


async def test_h14_after_ten_like_failures_in_a_minute_a_line_counts_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = ManualClock()
    async with ActorSystem(time_fn=clock) as system:

        async def fail_unnamed(times: int) -> None:
            for _ in range(times):
                await fail(system.spawn(Failing))

        await fail_unnamed(30)
        assert len(lines(caplog)) == 10
        clock.advance(60)
        assert len(lines(caplog)) == 11
        line = lines(caplog)[10]
        assert line.startswith(
            "20 more failures like those above in 60 s (Failing: ValueError at test_h14_failure_log.py:"
        )
        assert line.endswith(", stopped)")
        await fail_unnamed(1)
        assert len(lines(caplog)) == 12


async def test_h14_failures_of_another_kind_are_logged_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    async with ActorSystem() as system:
        for _ in range(12):
            await fail(system.spawn(Failing))
        await fail(system.spawn(Failing, policy=RESTART))
        assert lines(caplog)[10:] == [
            "actor local:13 (Failing) failed with ValueError: restart 1 of 3 in 60 s, at once"
        ]
    assert lines(caplog)[11].startswith("2 more failures like those above in ")  # at the close, none is lost


async def test_h14_the_number_of_kinds_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    async with ActorSystem() as system:
        log = system._core.lifecycle.supervision.decisions.log  # type: ignore[union-attr]  # it runs
        for number in range(1_100):
            await fail(system.spawn(type(f"Kind{number}", (Failing,), {})))
        assert len(log._kinds) == 1_000


# -- tracebacks


async def test_h14_the_traceback_of_an_exception_that_is_raised_again_does_not_grow() -> None:
    async with ActorSystem() as system:
        parent = system.spawn(Parent, SupervisorDecision.RESUME)
        ref = await parent.ask("spawn")

        async def frames_after(times: int) -> list[str]:
            for _ in range(times):
                with pytest.raises(ValueError, match="no luck") as caught:
                    await ref.ask("fail")
            return [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]

        few = await frames_after(4)
        assert await frames_after(16) == few
    assert few.count("receive") <= 3
    assert few[-1] == "receive"


async def test_h14_the_frames_of_an_error_that_went_through_several_actors_stay() -> None:
    class Chain(Actor):
        def __init__(self, following: ActorRef[object, object]) -> None:
            self.following = following

        async def receive(self, message: object) -> object:
            return await self.following.ask(message)

    async with ActorSystem() as system:
        ref: ActorRef[object, object] = system.spawn(Failing)
        for _ in range(3):
            ref = system.spawn(Chain, ref)
        with pytest.raises(ValueError, match="no luck") as caught:
            await ref.ask("fail")
    shown = traceback.extract_tb(caught.value.__traceback__)
    assert "raise self.error" in str(shown[-1].line)
    assert any("self.following.ask" in str(frame.line) for frame in shown)


class _Failing(Actor):
    async def receive(self, message: object) -> object:
        if message == "boom":
            raise ValueError("as asked")
        return message


class _Above(Actor):
    async def receive(self, message: object) -> object:
        policy = SupervisionPolicy(strategy=Strategy.ESCALATE)
        await self.context.spawn_child(_Failing, policy=policy).tell("boom")
        return None


class _Root(Actor):
    async def receive(self, message: object) -> ActorRef[object, object]:
        return self.context.spawn_child(_Above, name="100 %s")


async def test_h14_a_percent_sign_in_a_name_is_not_part_of_the_format(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with ActorSystem() as system:
        root = system.spawn(_Root)
        above = await root.ask(1)
        await above.ask(1)
        with anyio.fail_after(60):
            while not any("escalated" in record.getMessage() for record in caplog.records):
                await anyio.lowlevel.checkpoint()
    assert "'100 %s'" in "".join(record.getMessage() for record in caplog.records)


async def test_h14_a_log_filter_that_raises_does_not_end_the_system() -> None:
    def raises(record: logging.LogRecord) -> bool:
        raise ZeroDivisionError

    logger = logging.getLogger("papyra")
    logger.addFilter(raises)
    try:
        async with ActorSystem() as system:
            failing = system.spawn(_Failing, policy=RESTART)
            with pytest.raises(ValueError, match="as asked"):
                await failing.ask("boom")
            assert await failing.ask("on") == "on"
    finally:
        logger.removeFilter(raises)
