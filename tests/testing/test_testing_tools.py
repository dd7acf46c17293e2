"""The probe, the manual clock and the recorder."""

from __future__ import annotations

import anyio
import pytest

from papyra import Actor, ActorSystem, AskTimeout, Backoff, Strategy, SupervisionPolicy
from papyra.events import ActorRestarted, ActorStarted
from papyra.persistence import InMemoryPersistence, RetentionPolicy
from papyra.testing import EventRecorder, ManualClock, Probe


class Echo(Actor):
    async def receive(self, message: object) -> object:
        if message == "fail":
            raise ValueError("told to")
        if message == "sleep":
            await anyio.sleep_forever()
        return message


async def test_probe_expects_messages_in_order() -> None:
    async with ActorSystem() as system:
        probe = Probe(system, reply=lambda message: f"re: {message}")
        assert await probe.ref.ask("a") == "re: a"
        await probe.ref.tell(1)
        assert await probe.expect("a") == "a"
        assert await probe.expect(int, where=lambda number: number > 0) == 1
        await probe.expect_none()
        assert probe.messages == ["a", 1]


async def test_probe_tells_what_came_instead() -> None:
    async with ActorSystem() as system:
        probe = Probe(system)
        await probe.ref.tell("other")
        with pytest.raises(AssertionError, match=r"expected 'this', but 'other' came"):
            await probe.expect("this")
        with pytest.raises(AssertionError, match="no message came"):
            await probe.expect(within=0.01)
        await probe.ref.tell("unwanted")
        with pytest.raises(AssertionError, match="'unwanted' came"):
            await probe.expect_none(within=30)


async def test_probe_watches() -> None:
    async with ActorSystem() as system:
        probe, ref = Probe(system), system.spawn(Echo)
        await probe.watch(ref)
        await system.stop(ref)
        assert (await probe.expect_terminated(ref)).reason == "stopped"


async def test_manual_clock_drives_ask_timeouts() -> None:
    clock = ManualClock()
    async with ActorSystem(time_fn=clock, shutdown_timeout=5) as system:
        ref = system.spawn(Echo)
        async with anyio.create_task_group() as group:

            async def ask() -> None:
                with pytest.raises(AskTimeout):
                    await ref.ask("sleep", timeout=3600)
                clock.advance(3600)
                group.cancel_scope.cancel()

            group.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            clock.advance(3599)
            await anyio.wait_all_tasks_blocked()
            assert not group.cancel_scope.cancel_called
            clock.advance(1)
            await anyio.sleep(3)
        assert group.cancel_scope.cancel_called
        async with anyio.create_task_group() as group:
            group.start_soon(system.aclose)  # the actor still sleeps: its time is over when the clock says so
            await anyio.wait_all_tasks_blocked()
            clock.advance(5)


async def test_manual_clock_drives_backoff_and_stamps() -> None:
    clock = ManualClock(start=1000.0)
    policy = SupervisionPolicy(Strategy.RESTART, backoff=Backoff(60, 60, jitter=0))
    async with ActorSystem(time_fn=clock) as system:
        ref = system.spawn(Echo, policy=policy)
        await ref.tell("fail")
        await anyio.wait_all_tasks_blocked()
        clock.advance(59)
        await anyio.wait_all_tasks_blocked()
        assert not [event for event in system.events() if isinstance(event, ActorRestarted)]
        clock.advance(1)
        restarted = await system.wait_for_event(ActorRestarted)
        assert restarted.timestamp == 1060.0
        assert system.now() == 1060.0


async def test_manual_clock_drives_retention() -> None:
    clock = ManualClock()
    store = InMemoryPersistence(RetentionPolicy(max_age_seconds=10))
    async with ActorSystem(time_fn=clock, persistence=store) as system:
        await system.spawn(Echo).ask(1)
        await system.flush()
        assert len(await store.list_events()) == 2  # of the system and of the actor
        clock.advance(11)
        assert await store.list_events() == []


def test_manual_clock_only_moves_forward() -> None:
    with pytest.raises(ValueError, match="only moves forward"):
        ManualClock().advance(-1)


async def test_recorder_keeps_everything() -> None:
    recorder = EventRecorder()
    async with ActorSystem(hooks=recorder) as system:
        ref = system.spawn(Echo)
        await recorder.wait_until(lambda seen: any(isinstance(event, ActorStarted) for event in seen.events))
        await ref.tell("fail")
        await ref.tell("left")
        await recorder.wait_until(lambda seen: len(seen.dead_letters) == 1)
        system.audit()
        await recorder.wait_until(lambda seen: "ActorStopped 1" in seen.names())
        assert recorder.names() == ["ActorStarted 1", "ActorCrashed 1", "ActorStopped 1"]
        assert str(recorder.failures[0].error) == "told to"
        assert len(recorder.audits) == 1
        with pytest.raises(AssertionError, match="did not hold"):
            await recorder.wait_until(lambda _: False, within=0.01)
