"""Looking at a running system: events, audits, actors and names."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from functools import partial
from typing import Any

import anyio
import pytest

from papyra import (
    Actor,
    ActorAddress,
    ActorInfo,
    ActorRef,
    ActorSystem,
    AskDeadlock,
    PapyraError,
    Settings,
    Strategy,
    SupervisionPolicy,
)
from papyra import events as ev
from papyra._runtime.runtime import SEND_BUDGET
from papyra.audit import AuditReport, MailboxDepth
from papyra.events import ActorCrashed
from papyra.exceptions import SystemNotRunning
from papyra.persistence.startup import PersistenceStartupMode

from .support import Echo, Runs, begin, boom, running, wait_until


class Special(Echo):
    pass


class Keeps(Actor):
    def __init__(self, kept: list[object]) -> None:
        self.kept = kept

    async def receive(self, message: object) -> None:
        self.kept.append(message)


class Gated(Actor):
    """Handle nothing before the gate opens."""

    def __init__(self, entered: anyio.Event, gate: anyio.Event) -> None:
        self.entered = entered
        self.gate = gate

    async def receive(self, _message: object) -> None:
        self.entered.set()
        await self.gate.wait()


# -- events


async def test_g8_a_life_in_events() -> None:
    now = 5.0
    async with running(system_id="sys", time_fn=lambda: now) as system:
        ref = system.spawn(Echo, policy=SupervisionPolicy(Strategy.RESTART))
        await ref.tell("boom")
        await ref.ask(1)
        await system.stop(ref)
        events = system.events()
    assert [type(event) for event in events] == [
        ev.ActorStarted,
        ev.ActorCrashed,
        ev.ActorRestarted,
        ev.ActorStopped,
    ]
    for event in events:
        assert event.address == {"system": "sys", "actor_id": ref.address.actor_id}
        assert event.timestamp == now
        json.dumps(dataclasses.asdict(event))  # plain data
        with pytest.raises(dataclasses.FrozenInstanceError):
            event.timestamp = 1.0  # type: ignore[misc]  # on purpose
    kind = f"{Echo.__module__}.Echo"
    assert events[0].payload == {"type": kind}
    assert events[0].reason is None
    assert events[1].payload == {
        "type": kind, "message_type": "str", "error": "RuntimeError: boom", "decision": "restart", "restarts": 1,
    }  # fmt: skip
    assert events[2].payload == {"type": kind, "reason": "actor restarted", "restarts": 1}
    assert events[3].payload == {"type": kind, "reason": "stopped", "processed": 2}
    assert events[3].reason == "stopped"


async def test_what_a_reader_does_to_events_changes_nothing() -> None:
    async with running() as system:
        ref = system.spawn(Echo)
        await system.stop(ref)
        system.events().clear()
        for event in system.events():
            event.payload["mine"] = True
            event.address["mine"] = True
        assert all("mine" not in event.payload and "mine" not in event.address for event in system.events())
        assert len(system.events()) == 2


@pytest.mark.parametrize("reason", ["stopped", "failed", "restart_limit", "shutdown"])
async def test_g8_a_stop_carries_its_reason(reason: str) -> None:
    policy = SupervisionPolicy(Strategy.RESTART, max_restarts=0) if reason == "restart_limit" else None
    async with running() as system:
        ref = system.spawn(Echo, policy=policy)
        if reason == "stopped":
            await system.stop(ref)
        elif reason != "shutdown":
            await ref.tell("boom")
            await system.wait_for_event(ev.ActorStopped)
    assert [event.reason for event in system.events() if isinstance(event, ev.ActorStopped)] == [reason]


async def test_wait_for_event_finds_what_happened_and_what_will() -> None:
    async with running() as system, anyio.create_task_group() as tasks:
        first, second = system.spawn(Echo), system.spawn(Echo)
        await second.ask(1)
        assert (await system.wait_for_event(ev.ActorStarted)).address == first.address.to_dict()
        found = await system.wait_for_event(
            lambda event: event.address["actor_id"] == second.address.actor_id, timeout=0
        )
        assert isinstance(found, ev.ActorStarted)
        assert (await system.wait_for_event(ev.ActorEvent)) == system.events()[0]
        tasks.start_soon(system.stop, first)
        assert (await system.wait_for_event(ev.ActorStopped, timeout=None)).address == first.address.to_dict()


async def test_wait_for_event_skips_up_to_start_index() -> None:
    async with running() as system:
        refs = [system.spawn(Echo) for _ in range(3)]
        await refs[-1].ask(1)
        for index, ref in enumerate(refs):
            event = await system.wait_for_event(ev.ActorStarted, start_index=index)
            assert event.address == ref.address.to_dict()
        with pytest.raises(TimeoutError):
            await system.wait_for_event(ev.ActorStarted, start_index=3, timeout=0.01)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(system.stop, refs[0])
            tasks.start_soon(system.stop, refs[1])
            late = await system.wait_for_event(ev.ActorStopped, start_index=4)
        assert late == system.events()[4]


async def test_start_index_counts_from_the_start_also_of_events_no_longer_kept() -> None:
    async with running(settings=Settings(max_events=2)) as system:
        refs = [system.spawn(Echo) for _ in range(5)]
        await refs[-1].ask(1)
        assert [event.address["actor_id"] for event in system.events()] == [4, 5]
        for start, expected in ((0, 4), (3, 4), (4, 5)):
            event = await system.wait_for_event(ev.ActorStarted, start_index=start, timeout=0)
            assert event.address["actor_id"] == expected


async def test_wait_for_event_times_out_and_says_for_what() -> None:
    async with running() as system:
        with pytest.raises(TimeoutError, match=r"ActorCrashed within 0\.01 s"):
            await system.wait_for_event(ev.ActorCrashed, timeout=0.01)
        assert not system._history._event_waiters, "a waiter that gave up is forgotten"


async def test_wait_for_event_lets_a_predicates_error_through() -> None:
    def broken(_event: ev.ActorEvent) -> bool:
        raise LookupError("predicate")

    async with running() as system:
        await system.spawn(Echo).ask(1)
        with pytest.raises(LookupError):
            await system.wait_for_event(broken)


async def test_many_wait_for_the_same_event() -> None:
    got: list[ev.ActorEvent] = []

    async def wait() -> None:
        got.append(await system.wait_for_event(ev.ActorStopped, timeout=4))

    async with running() as system:
        ref = system.spawn(Echo)
        await ref.ask(1)
        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            await system.stop(ref)
    assert len(got) == 10


# -- audits


async def test_an_audit_counts_all_there_is_and_ever_was() -> None:
    entered, gate = anyio.Event(), anyio.Event()

    class SlowStop(Echo):
        async def on_stop(self) -> None:
            entered.set()
            await gate.wait()

    async with running(system_id="sys") as system, anyio.create_task_group() as tasks:
        named = system.spawn(Echo, name="named")
        gone = system.spawn(Echo, name="gone")
        await system.stop(gone)
        slow = system.spawn(SlowStop, name="slow")
        await slow.ask(1)
        tasks.start_soon(system.stop, slow)
        await entered.wait()
        report = system.audit()
        assert (report.system_id, report.total_actors, report.alive_actors) == ("sys", 3, 1)
        assert (report.stopping_actors, report.restarting_actors) == (1, 0)
        assert (report.registry_size, report.registry_orphans, report.registry_dead) == (2, (), ())
        assert [info.name for info in report.actors] == ["named", "slow"]
        assert [info.state for info in report.actors] == ["idle", "stopping"]
        assert (await system.audit(include_actor_details=False)).actors == ()
        lines = report.summary_lines()
        assert lines[0] == "system sys"
        assert "1 alive, 1 stopping, 0 restarting, 3 ever" in lines[1]
        assert "names: 2 in use" in lines
        assert any("sys:1 Echo named idle mailbox=0" in line for line in lines)
        assert all("\n" not in line for line in lines)
        gate.set()
        await named.ask(1)


async def test_an_audit_counts_who_restarts() -> None:
    entered, gate = anyio.Event(), anyio.Event()

    class SlowStop(Echo):
        async def on_stop(self) -> None:
            entered.set()
            await gate.wait()

    async with running() as system:
        ref = system.spawn(SlowStop, policy=SupervisionPolicy(Strategy.RESTART))
        await ref.tell("boom")
        await entered.wait()
        report = system.audit()
        assert (report.restarting_actors, report.alive_actors) == (1, 1)
        info = system.actor_info(ref)
        assert info is not None
        assert (info.restarting, info.stopping, info.alive, info.state) == (True, False, True, "restarting")
        gate.set()
        await ref.ask(1)
        assert system.audit().restarting_actors == 0


async def test_actor_info_tells_the_tree_and_the_mailbox() -> None:
    entered, gate = anyio.Event(), anyio.Event()

    class Parent(Actor):
        async def on_start(self) -> None:
            self.context.spawn_child(Echo)
            self.context.spawn_child(partial(Gated, entered, gate), name="gated")

        async def receive(self, message: object) -> object:
            return message

    async with running() as system:
        parent = system.spawn(Parent)
        await parent.ask(1)
        gated = system.ref_for_name("gated")
        assert gated is not None
        for _ in range(4):
            await gated.tell(1)
        await entered.wait()
        info = system.actor_info("gated")
        assert info is not None
        assert (
            info
            == system.actor_info(gated)
            == system.actor_info(gated.address)
            == system.actor_info("local:3")
        )
        assert info.parent_rid == 1
        assert info.state == "running"
        assert info.mailbox_depth == 3
        assert info.actor_type == "Gated"
        top = system.actor_info(parent)
        assert top is not None
        assert (top.rid, top.parent_rid, top.children_rids, top.name) == (1, None, (2, 3), None)
        assert top.processed == 1
        gate.set()
        await system.stop(parent)
        dead = system.actor_info(parent)
        assert dead is not None
        assert (dead.alive, dead.stopping, dead.state, dead.children_rids) == (False, False, "stopped", ())
        assert system.actor_info("gated") is None
        assert system.actor_info(gated.address) is None
        assert system.actor_info("nobody") is None


async def test_actor_info_is_as_if_its_constructor_had_built_it() -> None:
    async with running() as system:
        refs = [system.spawn(Echo, name="one"), system.spawn(Echo)]
        await system.stop(refs[1])
        for ref in refs:
            info = system.actor_info(ref)
            assert info is not None
            built = ActorInfo(**{each.name: getattr(info, each.name) for each in dataclasses.fields(info)})
            assert type(info) is type(built)
            assert info == built
            assert hash(info) == hash(built)
            assert repr(info) == repr(built)
            assert (
                pickle.loads(pickle.dumps(info)) == copy.deepcopy(info) == dataclasses.replace(info) == info
            )
            assert dataclasses.asdict(info) == dataclasses.asdict(built)
            with pytest.raises(dataclasses.FrozenInstanceError):
                info.rid = 0  # type: ignore[misc]  # it is frozen


async def test_list_actors_and_names() -> None:
    async with running() as system:
        refs = [system.spawn(Echo, name=name) for name in ("c", "a", "b")]
        assert list(system.list_names()) == ["c", "a", "b"]
        assert [info.name for info in system.list_actors()] == ["c", "a", "b"]
        await system.stop(refs[1])
        assert list(system.list_names()) == ["c", "b"]
        assert [info.rid for info in system.list_actors(alive_only=True)] == [1, 3]
        assert system.spawn(Echo, name="a") != refs[1]
        assert list(system.list_names()) == ["c", "b", "a"]


async def test_refs_of_the_living_and_of_all() -> None:
    entered, gate = anyio.Event(), anyio.Event()
    async with running() as system, anyio.create_task_group() as tasks:
        quiet = system.spawn(Echo)
        gated = system.spawn(partial(Gated, entered, gate))
        await gated.tell(1)
        await entered.wait()
        tasks.start_soon(system.stop, gated)
        await anyio.wait_all_tasks_blocked()
        assert not gated.is_alive()
        assert system.refs() == [quiet]
        assert system.refs(alive_only=False) == [quiet, gated]
        assert system.refs_by_type(Gated) == []
        assert system.refs_by_type(Gated, alive_only=False) == [gated]
        gate.set()


async def test_refs_by_type_takes_classes_and_names() -> None:
    async with running() as system:
        quiet, special = system.spawn(Echo), system.spawn(lambda: Special())
        assert system.refs_by_type(Echo) == [quiet, special]
        assert system.refs_by_type(Special) == [special]
        assert system.refs_by_type("Echo") == [quiet]
        assert system.refs_by_type("Special") == [special]
        assert system.refs_by_type(Actor) == [quiet, special]
        assert system.refs_by_type("nobody") == system.refs_by_type(Gated) == []


async def test_ref_for_finds_the_living_only() -> None:
    async with running() as system:
        ref = system.spawn(Echo, name="quiet")
        for address in (ref.address, str(ref.address), f"local://{ref.address.actor_id}"):
            assert system.ref_for(address) == ref
        assert system.ref_for(ActorAddress("other", 1)) is None
        assert system.ref_for(ActorAddress("local", 99)) is None
        assert system.ref_for_name("nobody") is None
        with pytest.raises(ValueError, match="not an actor address"):
            system.ref_for("nonsense")
        await system.stop(ref)
        assert system.ref_for(ref.address) is None
        assert system.ref_for_name("quiet") is None


async def test_is_alive_over_a_life() -> None:
    entered, gate = anyio.Event(), anyio.Event()
    async with running() as system, anyio.create_task_group() as tasks:
        ref = system.spawn(partial(Gated, entered, gate))
        assert ref.is_alive()
        await ref.tell(1)
        await entered.wait()
        assert ref.is_alive()
        tasks.start_soon(system.stop, ref)
        await anyio.wait_all_tasks_blocked()
        assert not ref.is_alive()
        gate.set()
    assert not ref.is_alive()


async def test_broadcast_reaches_the_living_of_a_type_and_counts_them() -> None:
    kept: list[object] = []
    async with running() as system:
        keepers = [system.spawn(partial(Keeps, kept)) for _ in range(3)]
        quiet = system.spawn(Echo)
        assert await system.broadcast("all") == 4
        assert await system.broadcast("keeps", Keeps) == 3
        assert await system.broadcast("by name", "Keeps") == 3
        assert await system.broadcast("nobody", Gated) == 0
        await system.stop(keepers[0])
        assert await system.broadcast("left", Keeps) == 2
        for ref in (*keepers[1:], quiet):
            await system.stop(ref)
        assert sorted(map(str, kept)) == ["all"] * 3 + ["by name"] * 3 + ["keeps"] * 3 + ["left"] * 2
        assert system.dead_letters.count == 0


async def test_broadcast_goes_on_where_an_actor_stops_while_it_waits_for_room() -> None:
    entered, gate = anyio.Event(), anyio.Event()
    told: list[int] = []
    async with running() as system, anyio.create_task_group() as tasks:
        full = system.spawn(partial(Gated, entered, gate), mailbox_capacity=1)
        kept: list[object] = []
        system.spawn(partial(Keeps, kept))
        await full.tell(1)
        await entered.wait()
        await full.tell(2)

        async def broadcast() -> None:
            told.append(await system.broadcast("x"))

        tasks.start_soon(broadcast)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(partial(system.stop, full, timeout=0.01))
    assert told == [1]


async def test_broadcast_skips_an_actor_that_stops_while_it_yields() -> None:
    async with running() as system:
        system.spawn(Runs)
        refs = [system.spawn(Echo) for _ in range(4 * SEND_BUDGET)]
        await refs[-1].ask("started")
        told = await system.broadcast(lambda actor: refs[-1].stop() if isinstance(actor, Runs) else None)
        assert told == len(refs)  # the first actor, and all of these but the last one
        assert system.dead_letters.count == 0


async def broadcast_into(found: list[object], actor: Runs) -> None:
    try:
        found.append(await actor.context.system.broadcast("x"))
    except AskDeadlock as error:
        found.append(str(error).partition(":")[0])


async def test_broadcast_of_an_actor_is_a_wait_for_each_full_one_until_it_has_room() -> None:
    kept: list[object] = []
    found: list[object] = []
    gates = [anyio.Event(), anyio.Event()]
    async with running() as system:
        sender: ActorRef[Any, Any] = system.spawn(Runs)
        system.spawn(partial(Keeps, kept))

        async def in_a_ring(_actor: Runs) -> None:
            await gates[0].wait()
            with pytest.raises(AskDeadlock):
                await sender.ask("in a ring")

        full: list[ActorRef[Any, Any]] = [system.spawn(Runs, mailbox_capacity=1) for _ in gates]
        for ref, deed in zip(full, (in_a_ring, lambda _: gates[1].wait()), strict=True):
            await begin(ref, deed)
            ref.tell_nowait("fills")
        await sender.tell(partial(broadcast_into, found))
        await wait_until(lambda: kept)
        gates[0].set()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(full[0].ask, lambda _: sender.ask("in no ring any more"))
            await wait_until(lambda: full[0]._cell.waits_for is not None)
            gates[1].set()
        assert found == [4]


async def test_broadcast_to_one_that_waits_for_the_sender_is_a_deadlock_and_reaches_the_others() -> None:
    kept: list[object] = []
    found: list[object] = []
    gate = anyio.Event()
    async with running() as system:
        sender: ActorRef[Any, Any] = system.spawn(Runs)
        full: ActorRef[Any, Any] = system.spawn(Runs, mailbox_capacity=1)
        system.spawn(partial(Keeps, kept))
        await sender.tell(lambda _: gate.wait())
        await sender.tell(partial(broadcast_into, found))
        await full.tell(lambda _: sender.ask("answered later"))
        await wait_until(lambda: full._cell.waits_for is not None)
        full.tell_nowait("fills")
        gate.set()
        await wait_until(lambda: found)
        assert found == [
            "waiting for room in a full mailbox would never end, because the wait goes in a circle"
        ]
        assert kept == ["x"]


async def test_broadcast_does_not_wait_for_a_full_sibling_that_waits_for_a_parent_that_stops() -> None:
    """The sibling has failed, and the parent fails before it has decided what becomes of it."""
    found: list[object] = []
    busy, gate = anyio.Event(), anyio.Event()

    class Decides(Runs):
        async def on_child_failure(self, child_ref: ActorRef[Any, Any], exc: Exception) -> None:
            pytest.fail("it has stopped")

    async def work(actor: Decides) -> None:
        busy.set()
        await gate.wait()
        await boom(actor)

    async with running() as system:
        parent = system.spawn(Decides)
        full = await parent.ask(lambda actor: actor.context.spawn_child(Runs, mailbox_capacity=1))
        child = await parent.ask(lambda actor: actor.context.spawn_child(Runs))
        await parent.tell(work)
        await busy.wait()
        await full.tell(boom)
        await wait_until(lambda: full._cell.failure is not None)
        full.tell_nowait("fills")
        await child.tell(partial(broadcast_into, found))
        await wait_until(lambda: full._cell.senders)
        gate.set()
        await wait_until(lambda: found)
        assert found == [
            "waiting for room in a full mailbox would never end, because the wait goes in a circle"
        ]


async def test_the_control_panel_is_plain_data() -> None:
    entered, gate = anyio.Event(), anyio.Event()
    system = ActorSystem()
    with pytest.raises(SystemNotRunning):
        system.control_panel()
    with anyio.fail_after(5):
        async with system:
            ref = system.spawn(partial(Gated, entered, gate), name="gated")
            await ref.tell(1)
            await entered.wait()
            await ref.tell(2)
            panel = system.control_panel()
            assert json.loads(json.dumps(panel)) == panel
            assert panel["system_id"] == "local"
            assert panel["state"] == "running"
            assert panel["actors"] == {"alive": 1, "stopping": 0, "restarting": 0, "ever": 1}
            assert panel["names"] == 1
            assert panel["longest_mailboxes"] == [{"actor": "local:1", "name": "gated", "depth": 1}]
            assert panel["workers"]["running"] == 1
            await system.flush()
            facts = {"buffered": 0, "store": "memory", "healthy": True, "dropped_share": 0.0}
            assert system.control_panel()["facts"] == facts
            gate.set()
        assert system.control_panel()["state"] == "closed"


async def test_what_needs_a_running_system_says_so() -> None:
    system = ActorSystem()
    for nothing in (system.events(), system.list_actors(), system.list_names(), system.refs()):
        assert not nothing
    for call in (system.audit, lambda: system.ref_for("local:1"), lambda: system.ref_for_name("x")):
        with pytest.raises(SystemNotRunning, match="not started"):
            call()
    with pytest.raises(SystemNotRunning):
        await system.wait_for_event(ev.ActorStarted)
    await system.aclose()
    with pytest.raises(SystemNotRunning, match="closed"):
        system.audit()


async def test_wait_for_event_ends_when_the_system_closes() -> None:
    system = ActorSystem()
    await system.start()
    raised: list[BaseException] = []
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:

            async def wait() -> None:
                try:
                    await system.wait_for_event(lambda _event: False, timeout=None)
                except PapyraError as error:
                    raised.append(error)

            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            await system.aclose()
    assert "closed" in str(raised[0])


async def test_actor_info_of_an_unknown_name_is_none() -> None:
    async with ActorSystem() as system:
        assert system.actor_info("nobody") is None
        assert system.actor_info("svc:nobody") is None
        assert system.actor_info("local:99") is None


def test_an_audit_for_a_person_names_what_waits_and_what_is_wrong() -> None:
    depth = MailboxDepth(5, 3, "shop:2", "till")
    report = AuditReport("shop", 4, 3, 1, 0, 2, ("old",), ("gone", "lost"), 7, mailbox_depth=depth)
    assert report.summary_lines()[4:] == [
        "messages waiting: 5, at most 3 (shop:2 till)",
        "orphaned names: old",
        "dead names: gone, lost",
    ]
    nameless = AuditReport("shop", 4, 3, 1, 0, 2, (), (), 7, mailbox_depth=MailboxDepth(1, 1, "shop:2"))
    assert nameless.summary_lines()[4:] == ["messages waiting: 1, at most 1 (shop:2)"]


async def test_before_the_start_a_system_has_no_actors() -> None:
    system = ActorSystem(persistence_startup=PersistenceStartupMode.SCAN_ONLY)
    assert await system.broadcast("hello") == 0
    assert system.tree() == []
    assert system.persistence_startup.mode is PersistenceStartupMode.SCAN_ONLY
    assert system.persistence_recovery is None
    await system.aclose()


async def test_a_crash_says_its_error_and_statistics_are_plain_data() -> None:
    async with running() as system:
        with pytest.raises(ValueError, match="boom"):
            await system.spawn(Runs).ask(boom)
        crash = await system.wait_for_event(lambda event: isinstance(event, ActorCrashed))
        assert isinstance(crash, ActorCrashed)
        assert crash.error == "ValueError: boom"
        kind = system.statistics().kinds["Runs"].to_dict()
        assert (kind["processed"], kind["failures"]) == (1, 1)
