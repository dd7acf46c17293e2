"""From the record alone: the class and the name of each actor, and why what happened to it (promise R2)."""

from __future__ import annotations

import enum
from dataclasses import FrozenInstanceError
from typing import Any

import anyio
import pytest

from papyra import (
    Actor,
    ActorRef,
    ActorStopped,
    ActorSystem,
    Backoff,
    FailureInfo,
    Strategy,
    SupervisionPolicy,
    SupervisorDecision,
    SystemHooks,
)
from papyra._runtime import supervision
from papyra.events import ActorCrashed, ActorEvent
from papyra.persistence import InMemoryPersistence
from papyra.persistence.models import PersistedEvent

RESTART = SupervisionPolicy(Strategy.RESTART, max_restarts=2)


class Worker(Actor):
    """Raises on demand, also where it starts and stops."""

    starts = 0

    async def on_start(self) -> None:
        type(self).starts += 1
        if type(self).starts in self.bad_starts:
            raise OSError("no start")

    bad_starts: tuple[int, ...] = ()
    bad_stop = False

    async def on_stop(self) -> None:
        if self.bad_stop:
            raise OSError("no stop")

    async def receive(self, message: Any) -> Any:
        if isinstance(message, Exception):
            raise message
        if message == "spawn":
            return self.context.spawn_child(Worker, name="child")
        return message


async def stored(system: ActorSystem, kind: str = "", actor: object = None) -> list[PersistedEvent]:
    await system.flush()
    return [
        event
        for event in await system.persistence.list_events()
        if kind in ("", event.event_type) and (actor is None or event.actor_address == str(actor))
    ]


NAME = f"{Worker.__module__}.Worker"


async def test_r02_each_event_has_the_class_and_the_name() -> None:
    async with ActorSystem() as system:
        ref = system.spawn(Worker, name="orders", policy=RESTART)
        await ref.tell(ValueError("bad"))
        child: ActorRef[Any, Any] = await ref.ask("spawn")
        await system.stop(ref)
        found = await stored(system, actor=ref.address)
        assert [event.event_type for event in found] == [
            "ActorStarted", "ActorCrashed", "ActorRestarted", "ActorStopped",
        ]  # fmt: skip
        assert {(event.payload["type"], event.payload["name"]) for event in found} == {(NAME, "orders")}
        assert "parent" not in found[0].payload
        started, stopped = await stored(system, actor=child.address)
        assert started.payload == {"type": NAME, "name": "child", "parent": str(ref.address)}
        assert stopped.payload == {"type": NAME, "name": "child", "reason": "stopped", "processed": 0}


class Other(Worker):
    """Another class."""


async def test_r02_events_of_classes_in_turn_have_each_its_own() -> None:
    kinds = [(Worker, None), (Other, None), (Other, "one"), (Worker, None), (Worker, "two"), (Worker, None)]
    async with ActorSystem() as system:
        refs = [system.spawn(kind, name=name) for kind, name in kinds]
        for ref in refs:
            await system.stop(ref)
        for ref, (kind, name) in zip(refs, kinds, strict=True):
            found = await stored(system, actor=ref.address)
            assert [event.event_type for event in found] == ["ActorStarted", "ActorStopped"]
            for event in found:
                assert event.payload["type"] == f"{Worker.__module__}.{kind.__name__}"
                assert event.payload.get("name") == name
                assert type(event) is PersistedEvent
                with pytest.raises(FrozenInstanceError):
                    event.run = ""  # type: ignore[misc]  # that is tested


async def test_r02_any_compaction_leaves_events_that_say_who() -> None:
    async with ActorSystem(persistence="memory:?max_records=1") as system:
        ref = system.spawn(Worker, name="orders")
        await system.stop(ref)
        await system.compact()
        (last,) = await stored(system)
        assert (last.payload["type"], last.payload["name"]) == (NAME, "orders")


async def test_a_crash_says_at_what_and_what_followed() -> None:
    async with ActorSystem() as system:
        ref = system.spawn(Worker, name="orders", policy=RESTART)
        for _ in range(3):
            with pytest.raises(ValueError, match="bad"):
                await ref.ask(ValueError("bad"))
        with pytest.raises(ActorStopped):
            await ref.ask("late")
        crashes = await stored(system, "ActorCrashed")
        assert [event.payload["message_type"] for event in crashes] == ["ValueError"] * 3
        assert [event.payload["error"] for event in crashes] == ["ValueError: bad"] * 3
        assert [event.payload["decision"] for event in crashes] == ["restart", "restart", "stop"]
        assert [event.payload["restarts"] for event in crashes] == [1, 2, 2]
        assert all("reason" not in event.payload for event in crashes)
        restarts = [event.payload["restarts"] for event in await stored(system, "ActorRestarted")]
        assert restarts == [1, 2]
        (stop,) = await stored(system, "ActorStopped")
        assert stop.payload == {
            "type": NAME, "name": "orders", "reason": "restart_limit", "processed": 3, "error": "ValueError: bad",
        }  # fmt: skip


async def test_a_crash_outside_of_receive_names_the_method() -> None:
    class Bad(Worker):
        starts = 0
        bad_starts = (1, 2)
        bad_stop = True

    builds: list[Worker] = []

    def factory() -> Worker:
        builds.append(Bad())
        if len(builds) == 2:
            raise LookupError("no instance")
        return builds[-1]

    async with ActorSystem() as system:
        policy = SupervisionPolicy(Strategy.RESTART, max_restarts=9)
        ref = system.spawn(factory, name="bad", policy=policy)
        assert await ref.ask("runs") == "runs"
        await system.stop(ref)
        crashes = await stored(system, "ActorCrashed")
        assert [(event.payload["message_type"], event.payload["decision"]) for event in crashes] == [
            ("on_start", "restart"), ("on_stop", "restart"), ("factory", "restart"),
            ("on_start", "restart"), ("on_stop", "restart"), ("on_stop", "stop"),
        ]  # fmt: skip


@pytest.mark.parametrize("decision", list(SupervisorDecision))
async def test_a_crash_has_the_decision_of_the_parent(decision: SupervisorDecision) -> None:
    class Parent(Worker):
        async def on_child_failure(self, child: ActorRef[Any, Any], exc: BaseException) -> SupervisorDecision:
            await anyio.lowlevel.checkpoint()
            return decision

    async with ActorSystem() as system:
        parent = system.spawn(Parent)
        child = await parent.ask("spawn")
        with pytest.raises(ValueError, match="bad"):
            await child.ask(ValueError("bad"))
        await system.stop(parent)
        crash = (await stored(system, "ActorCrashed", child.address))[0]
        assert crash.payload["decision"] == decision.value


async def test_a_crash_is_stored_though_the_parent_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "MAX_UNDECIDED_SECONDS", 0.01)
    go_on = anyio.Event()

    class Parent(Worker):
        async def receive(self, message: Any) -> Any:
            if message == "busy":
                await go_on.wait()
            return await super().receive(message)

        async def on_child_failure(self, child: ActorRef[Any, Any], exc: BaseException) -> SupervisorDecision:
            return SupervisorDecision.RESTART

    async with ActorSystem() as system:
        parent = system.spawn(Parent)
        child = await parent.ask("spawn")
        await parent.tell("busy")
        with pytest.raises(ValueError, match="bad"):
            await child.ask(ValueError("bad"))
        with anyio.fail_after(10):
            while not await stored(system, "ActorCrashed"):  # noqa: ASYNC110 - the store sets no event
                await anyio.sleep(0.01)
        go_on.set()
        assert await child.ask("again") == "again"
        (crash,) = await stored(system, "ActorCrashed")
        assert "decision" not in crash.payload


async def test_g20_the_record_and_events_have_one_order_though_a_parent_decides_late() -> None:
    class Parent(Worker):
        async def on_child_failure(self, child: ActorRef[Any, Any], exc: BaseException) -> SupervisorDecision:
            await self.context.system.stop(others.pop())
            return SupervisorDecision.RESTART

    async with ActorSystem() as system:
        others = [system.spawn(Worker)]
        parent = system.spawn(Parent)
        child = await parent.ask("spawn")
        with pytest.raises(ValueError, match="bad"):
            await child.ask(ValueError("bad"))
        assert await child.ask("again") == "again"
        kept = [event.event_type for event in await stored(system) if event.event_type != "SystemStarted"]
        assert kept == [type(event).__name__ for event in system.events()]
        assert kept[-3:] == ["ActorStopped", "ActorCrashed", "ActorRestarted"]


async def test_a_restart_after_a_backoff_has_its_delay() -> None:
    policy = SupervisionPolicy(Strategy.RESTART, backoff=Backoff(0.01, 0.01, jitter=0.0))
    async with ActorSystem() as system:
        ref = system.spawn(Worker, policy=policy)
        await ref.tell(ValueError("bad"))
        assert await ref.ask("runs") == "runs"
        (restart,) = await stored(system, "ActorRestarted")
        assert (restart.payload["restarts"], restart.payload["delay"]) == (1, 0.01)


async def test_hooks_get_the_same() -> None:
    failures: list[FailureInfo] = []
    events: list[ActorEvent] = []
    hooks = SystemHooks(on_failure=failures.append, on_event=events.append)
    async with ActorSystem(hooks=hooks) as system:
        ref = system.spawn(Worker, name="orders")
        await ref.tell(error := ValueError("bad"))
        await system.stop(ref)
        records = await stored(system)
    (failure,) = failures
    assert (failure.message, failure.name, failure.actor_type) == (error, "orders", NAME)
    shown = {type(event).__name__: event.payload for event in events}
    assert [
        (record.event_type, record.payload) for record in records if record.actor_address == "local:1"
    ] == [(kind, payload) for kind, payload in shown.items() if kind.startswith("Actor")]


async def test_a_class_without_a_module_is_stored_by_its_name() -> None:
    names = {"Worker": Worker}  # globals without a __name__
    exec('Made = type("Made", (Worker,), {})', names)
    async with ActorSystem() as system:
        system.spawn(names["Made"])
        await system.stop_all()
        assert (await stored(system, "ActorStarted"))[0].payload["type"] == "Made"


async def test_names_that_are_not_plain_texts_are_stored_as_their_text() -> None:
    class Names(enum.StrEnum):
        ORDERS = "orders"

    async with ActorSystem() as system:
        system.spawn(Worker, name=Names.ORDERS)
        system.spawn(Worker, name="half \ud83d")
        await system.stop_all()
        names = [event.payload["name"] for event in await stored(system, "ActorStarted")]
        assert names == ["orders", "half \\ud83d"]


class Unhashable(type):
    __hash__ = None  # type: ignore[assignment]  # on purpose

    def __getattribute__(cls, name: str) -> Any:
        if name in ("__module__", "__qualname__", "__name__"):
            raise RuntimeError("no name for you")
        return super().__getattribute__(name)


async def test_a_metaclass_does_not_come_between_an_actor_and_its_facts() -> None:
    class Odd(Worker, metaclass=Unhashable):
        pass

    async with ActorSystem() as system:
        ref = system.spawn(Odd)
        assert await ref.ask(1) == 1
        (started,) = await stored(system, "ActorStarted")
        assert str(started.payload["type"]).endswith(".Odd")


async def test_an_audit_has_the_longest_mailbox() -> None:
    store = InMemoryPersistence()
    async with ActorSystem(persistence=store) as system:
        assert system.audit().mailbox_depth.whose is None
        idle, busy = system.spawn(Worker), system.spawn(Worker, name="busy")
        await idle.ask(0)
        await busy.ask(0)
        for number in range(3):
            await busy.tell(number)
        await idle.tell(1)
        depth = system.audit().mailbox_depth
        assert (depth.sum, depth.greatest, depth.whose, depth.name) == (4, 3, str(busy.address), "busy")
        await system.flush()
        *_, audit = await store.list_audits()
        assert audit.mailbox_depth == {
            "sum": 4, "greatest": 3, "whose": str(busy.address), "name": "busy",
        }  # fmt: skip


async def test_r02_the_crash_of_a_group_names_what_is_in_it() -> None:
    class Grouped(Actor):
        async def receive(self, message: object) -> None:
            raise ExceptionGroup("unhandled errors", [ConnectionResetError("gone") for _ in range(9)])

    async with ActorSystem() as system:
        await system.spawn(Grouped).tell(1)
        crashed = await system.wait_for_event(ActorCrashed, timeout=30)
    one = "ConnectionResetError: gone"
    expected = f"ExceptionGroup: unhandled errors (9 sub-exceptions) [{one}; {one}; {one}]"
    assert crashed.payload["error"] == expected
