"""Promises 33 to 36: siblings that restart together."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import suppress
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from papyra import (
    Actor,
    ActorRef,
    ActorStopped,
    ActorSystem,
    AskDeadlock,
    AskTimeout,
    Backoff,
    GroupPolicy,
    RestartStrategy,
    Strategy,
    SupervisionPolicy,
    SupervisorDecision,
    SystemHooks,
    ask_all,
)
from papyra._runtime.phases import STOPPED, SUSPENDED
from papyra.testing import ManualClock, explore, run_seeded

from .support import (
    RESTART,
    STOP,
    Boom,
    Loop,
    Runs,
    begin,
    both_loops,
    go_round,
    running,
    seeded,
    stuck,
    wait_until,
)


class Member(Actor):
    """Notes its starts and stops, and does what a message says."""

    def __init__(self, name: str, log: list[str], trips: Counter[str]) -> None:
        self.name, self.log, self.trips = name, log, trips

    def trip(self, place: str) -> None:
        if self.trips[f"{place} {self.name}"] > 0:
            self.trips[f"{place} {self.name}"] -= 1
            raise Boom(f"{place} {self.name}")

    async def on_start(self) -> None:
        self.log.append(f"starts {self.name}")
        await anyio.lowlevel.checkpoint()
        self.trip("start")
        self.log.append(f"started {self.name}")

    async def receive(self, message: Any) -> Any:
        if callable(message):
            result = message(self)
            return await result if hasattr(result, "__await__") else result
        if message == "boom":
            raise Boom(self.name)
        return message

    async def on_stop(self) -> None:
        self.log.append(f"stops {self.name}")
        await anyio.lowlevel.checkpoint()
        self.trip("stop")
        self.log.append(f"stopped {self.name}")


class Parent(Actor):
    """Spawns the members of a group."""

    decision: SupervisorDecision | None = None

    def __init__(self, policy: Any, log: list[str], *members: Any) -> None:
        self.children_policy = policy
        self.log = log
        self.trips: Counter[str] = Counter()
        self.members = members
        self.refs: dict[str, ActorRef[Any, Any]] = {}

    async def on_start(self) -> None:
        for member in self.members:
            name, policy = member if isinstance(member, tuple) else (member, None)
            self.refs[name] = self.context.spawn_child(Member, name, self.log, self.trips, policy=policy)

    async def receive(self, message: Any) -> Any:
        result = message(self)
        return await result if hasattr(result, "__await__") else result

    async def on_child_failure(
        self, child_ref: ActorRef[Any, Any], exc: Exception
    ) -> SupervisorDecision | None:
        return self.decision


async def group(
    system: ActorSystem, policy: Any, log: list[str], *members: Any, of: type[Parent] = Parent
) -> Any:
    parent = system.spawn(of, policy, log, *members)
    refs = await parent.ask(lambda actor: actor.refs)
    await wait_until(lambda: sum(each.startswith("started") for each in log) == len(members))
    log.clear()
    return parent, refs


async def boom(ref: ActorRef[Any, Any]) -> None:
    with pytest.raises(Boom):
        await ref.ask("boom")


def down_and_up(*names: str) -> list[str]:
    down = [f"{what} {name}" for name in reversed(names) for what in ("stops", "stopped")]
    return down + [f"{what} {name}" for name in names for what in ("starts", "started")]


# -- 33: who, and in which order


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (RestartStrategy.ONE_FOR_ALL, down_and_up("a", "b", "c")),
        (RestartStrategy.REST_FOR_ONE, down_and_up("b", "c")),
        (RestartStrategy.ONE_FOR_ONE, down_and_up("b")),
    ],
)
async def test_p33_members_go_down_newest_first_and_come_up_oldest_first(
    strategy: RestartStrategy, expected: list[str]
) -> None:
    log: list[str] = []
    async with running() as system:
        _, refs = await group(system, GroupPolicy(strategy), log, "a", "b", "c")
        await boom(refs["b"])
        await wait_until(lambda: len(log) == len(expected))
        assert log == expected
        assert [await ref.ask(1) for ref in refs.values()] == [1, 1, 1]
        kinds = Counter(type(event).__name__ for event in system.events())
        assert kinds["ActorCrashed"] == 1
        reasons = {
            str(event.address["actor_id"]): event.reason
            for event in system.events()
            if type(event).__name__ == "ActorRestarted"
        }
        failed = str(refs["b"].address.actor_id)
        assert reasons.pop(failed) == "actor restarted"
        assert set(reasons.values()) <= {"sibling failed"}
        log.clear()


async def test_p33_names_mailboxes_and_watchers_stay() -> None:
    log: list[str] = []
    async with running() as system:
        _, refs = await group(system, GroupPolicy(), log, "a", "b")
        await refs["b"].tell("boom")
        for ref in refs.values():
            await ref.tell(lambda actor: log.append(f"handled {actor.name}"))
        await wait_until(lambda: sum(each.startswith("handled") for each in log) == 2)
    assert system.dead_letters.count == 0


async def test_p33_a_member_whose_policy_is_stop_is_stopped_for_good_in_its_turn() -> None:
    log: list[str] = []
    async with running() as system:
        gate = anyio.Event()
        _, refs = await group(system, GroupPolicy(), log, "a", ("b", STOP), "c")

        async def hold(_actor: Member) -> None:
            await gate.wait()

        await refs["b"].tell(hold)
        await refs["b"].tell("becomes a dead letter")
        await boom(refs["a"])
        await wait_until(lambda: "stopped c" in log)
        gate.set()
        await wait_until(lambda: "started c" in log)
        assert log == [
            *("stops c", "stopped c", "stops b", "stopped b", "stops a", "stopped a"),
            *("starts a", "started a", "starts c", "started c"),
        ]
        assert not refs["b"].is_alive()
        assert [letter.message for letter in system.dead_letters.messages] == ["becomes a dead letter"]


async def test_p33_one_that_stops_already_or_is_spawned_meanwhile_is_not_a_member() -> None:
    log: list[str] = []
    async with running() as system:
        parent, refs = await group(system, GroupPolicy(), log, "a", "b", "c")
        gate = anyio.Event()
        await refs["c"].tell(lambda _: gate.wait())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(refs["c"].stop)
            await wait_until(lambda: not refs["c"].is_alive())
            await boom(refs["a"])
            late = await parent.ask(
                lambda actor: actor.context.spawn_child(Member, "late", actor.log, actor.trips)
            )
            await wait_until(lambda: "started b" in log)
            assert "stops c" not in log
            assert "stops late" not in log
            gate.set()
        assert await late.ask(1) == 1


class Decides(Parent):
    """Decides on each failed child by its name, once ``free`` is set; notes each question."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.asked: list[str] = []
        self.decisions: dict[str, SupervisorDecision] = {}
        self.free = anyio.Event()

    async def on_child_failure(
        self, child_ref: ActorRef[Any, Any], exc: Exception
    ) -> SupervisorDecision | None:
        self.asked.append(str(exc))
        if len(self.asked) > 1 and not self.free.is_set():
            await self.free.wait()
        return self.decisions.get(str(exc))


async def fail_together(parent: ActorRef[Any, Any], *members: ActorRef[Any, Any]) -> None:
    """Let members fail while their parent is busy: the first one restarts the group."""
    gate = anyio.Event()
    await parent.tell(lambda _: gate.wait())
    for member in members:
        await boom(member)
    gate.set()


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage().partition(" failed with ")[2] for record in caplog.records]


@pytest.mark.parametrize(
    ("policy", "said"), [(None, "Boom: restarts with its siblings"), (STOP, "Boom: stopped")]
)
async def test_p33_members_that_wait_for_a_decision_go_down_without_one(
    policy: SupervisionPolicy | None, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    log: list[str] = []
    async with running(time_fn=ManualClock()) as system:
        parent, refs = await group(system, GroupPolicy(), log, "a", "b", ("c", policy), of=Decides)
        decider = await parent.ask(lambda actor: actor)
        await fail_together(parent, *refs.values())
        await wait_until(lambda: log[-1:] == [f"started {'b' if policy is STOP else 'c'}"])
        assert decider.asked == ["a", "b"]
        assert refs["c"].is_alive() is (policy is None)
        decider.free.set()
        assert lines(caplog)[1:] == [said, "Boom: restarts with its siblings"]  # newest first


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        (SupervisorDecision.RESTART, "restarts with its siblings"),
        (SupervisorDecision.RESUME, "restarts with its siblings"),
        (SupervisorDecision.STOP, "stopped, as its parent decided"),
    ],
)
async def test_p33_a_decision_on_a_member_that_goes_down_can_only_stop_it(
    decision: SupervisorDecision, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    log: list[str] = []
    async with running(time_fn=ManualClock()) as system:
        parent, refs = await group(system, GroupPolicy(), log, "a", "b", of=Decides)
        await parent.ask(lambda actor: actor.free.set() or actor.decisions.update(b=decision))
        await fail_together(parent, *refs.values())
        ends = {"stopped b", f"started {'a' if decision == 'stop' else 'b'}"}  # in any order, if b only stops
        await wait_until(lambda: ends <= set(log))
        assert Counter(log)["stopped b"] == 1
        assert lines(caplog)[1] == f"Boom: {said}"


async def test_p33_a_member_that_failed_on_the_way_down_can_be_stopped() -> None:
    log: list[str] = []
    async with running(time_fn=ManualClock()) as system:
        _, refs = await group(system, GroupPolicy(), log, "a", "b", "c")
        gate = anyio.Event()
        await refs["c"].tell(lambda _: gate.wait())
        await boom(refs["a"])
        await wait_until(lambda: refs["c"]._cell.group is not None)
        await boom(refs["b"])
        await refs["b"].stop()
        gate.set()
        await wait_until(lambda: log[-1] == "started c")
        assert log == ["stops b", "stopped b", *down_and_up("a", "c")]


async def test_p33_a_member_in_its_own_backoff_comes_up_with_the_group() -> None:
    log: list[str] = []
    slow = SupervisionPolicy(Strategy.RESTART, backoff=Backoff(100, 100))
    async with running(time_fn=ManualClock()) as system:  # whose time does not pass
        parent, refs = await group(system, GroupPolicy(), log, "a", ("b", slow), of=Decides)
        await parent.ask(lambda actor: actor.decisions.update(b=SupervisorDecision.RESTART))
        await boom(refs["b"])
        await wait_until(lambda: log == ["stops b", "stopped b"])
        await parent.ask(lambda actor: actor.free.set())
        await boom(refs["a"])
        assert await refs["b"].ask(1) == 1
        assert log[2:] == ["stops a", "stopped a", "starts a", "started a", "starts b", "started b"]


async def test_p33_a_member_that_fails_to_start_may_be_resumed_on_the_way_up() -> None:
    log: list[str] = []
    async with running() as system:
        parent, refs = await group(system, GroupPolicy(), log, "a", "b", "c", of=Decides)
        await parent.ask(lambda actor: actor.free.set() or actor.trips.update({"start b": 1}))
        await parent.ask(lambda actor: actor.decisions.update({"start b": SupervisorDecision.RESUME}))
        await boom(refs["a"])
        assert await refs["c"].ask(1) == await refs["b"].ask(1) == 1
        assert log[-5:] == ["starts a", "started a", "starts b", "starts c", "started c"]


# -- 34: members that take their time


async def test_p34_a_busy_member_is_cancelled_after_its_grace() -> None:
    clock, log = ManualClock(), []
    answers: list[Any] = []
    async with running(time_fn=clock) as system:
        _, refs = await group(system, GroupPolicy(grace=5), log, "a", "b")

        async def ask() -> None:
            try:
                await refs["b"].ask(lambda _: anyio.sleep_forever())
            except ActorStopped as error:
                answers.append(error)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await wait_until(lambda: refs["b"]._cell.answering is not None)
            await boom(refs["a"])
            await wait_until(lambda: refs["b"]._cell.group is not None)
            clock.advance(4.9)
            assert not answers
            clock.advance(0.1)
        await wait_until(lambda: "started b" in log)
        assert len(answers) == 1
        assert log == down_and_up("a", "b")


@pytest.mark.parametrize("policy", [None, STOP])
async def test_p34_a_busy_child_of_a_member_is_cancelled_after_the_grace(
    policy: SupervisionPolicy | None,
) -> None:
    clock, log = ManualClock(), []
    async with running(time_fn=clock) as system:
        _, refs = await group(system, GroupPolicy(grace=5), log, "a", ("b", policy))
        child = await refs["b"].ask(lambda actor: actor.context.spawn_child(Runs))
        await child.tell(stuck)
        await boom(refs["a"])
        await wait_until(lambda: not child.is_alive())
        clock.advance(4.9)
        await go_round()
        assert "started a" not in log
        clock.advance(0.1)
        await wait_until(lambda: "started a" in log)
        assert await refs["a"].ask(1) == 1
        assert refs["b"].is_alive() is (policy is None)


async def test_p34_a_member_that_ignores_cancellation_is_left_behind() -> None:
    clock, log = ManualClock(), []
    async with running(time_fn=clock, shutdown_timeout=0.2) as system:
        _, refs = await group(system, GroupPolicy(grace=1), log, "a", "b")
        gate = anyio.Event()
        cancelled: list[int] = []

        async def stubborn(_actor: Member) -> None:
            with anyio.CancelScope(shield=True):
                await gate.wait()
            cancelled.append(1)

        await begin(refs["b"], stubborn)
        await boom(refs["a"])
        await wait_until(lambda: refs["b"]._cell.group is not None)
        try:
            for _ in range(3):
                clock.advance(1)
                for _ in range(20):
                    await anyio.lowlevel.checkpoint()
                assert refs["b"]._cell.phase < STOPPED
            clock.advance(1)
            await wait_until(lambda: "started a" in log)
            assert not refs["b"].is_alive()
            assert await refs["a"].ask(1) == 1
            assert "stops b" not in log
        finally:
            gate.set()
        await wait_until(lambda: cancelled)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("how", ["ask", "through", "ask_all"])
async def test_p34_a_member_that_waits_for_a_member_gets_actor_stopped_at_once(how: str, when: str) -> None:
    clock, log = ManualClock(), []  # no grace passes: the clock does not move
    async with running(time_fn=clock) as system:
        _, refs = await group(system, GroupPolicy(), log, "a", "b", "c")
        other: ActorRef[Any, Any] = system.spawn(Runs, policy=RESTART)
        gate = anyio.Event()
        found: list[Any] = []

        async def asks(_actor: Member) -> None:
            if when == "after":
                await gate.wait()
            try:
                if how == "ask_all":
                    await ask_all(other.request(1), refs["c"].request(1))
                else:
                    await (refs["c"].ask(1) if how == "ask" else other.ask(lambda _: refs["c"].ask(1)))
            except ActorStopped as error:
                found.append(error)

        async def hold(_actor: Member) -> None:
            await gate.wait()
            raise Boom

        await refs["c"].tell(hold if when == "before" else lambda _: None)
        await begin(refs["b"], asks)
        if when == "before":
            await wait_until(lambda: refs["b"]._cell.waits_for is not None)
            await refs["a"].tell("boom")
            gate.set()
        else:
            await boom(refs["a"])
            await wait_until(lambda: "stopped c" in log)
            gate.set()
        await wait_until(lambda: "started c" in log and "started b" in log)
        assert len(found) == 1


async def test_p34_a_wait_on_the_way_up_for_a_member_that_is_not_up_is_cut() -> None:
    log: list[str] = []
    found: list[Any] = []

    class Asks(Member):
        async def on_start(self) -> None:
            await super().on_start()
            if self.trips["ask"]:
                self.trips["ask"] = 0
                try:
                    await self.context.system.ref_for_name("other").ask(1)  # type: ignore[union-attr]  # it is there
                except ActorStopped as error:
                    found.append(error)

    class Two(Parent):
        async def on_start(self) -> None:
            self.refs["a"] = self.context.spawn_child(Asks, "a", self.log, self.trips)
            self.refs["b"] = self.context.spawn_child(Member, "b", self.log, self.trips, name="other")

    async with running() as system:
        parent = system.spawn(Two, GroupPolicy(), log)
        refs = await parent.ask(lambda actor: actor.trips.update(ask=1) or actor.refs)
        await refs["b"].ask(1)
        await boom(refs["b"])
        await wait_until(lambda: log.count("started b") == 2)
        assert len(found) == 1


# -- 35: limits, and failures on the way


async def test_p35_what_a_member_raises_on_its_way_down_decides_nothing() -> None:
    log: list[str] = []
    async with running() as system:
        parent, refs = await group(system, GroupPolicy(max_restarts=1), log, "a", "b")
        await parent.ask(lambda actor: actor.trips.update({"stop b": 1}))
        await boom(refs["a"])
        await wait_until(lambda: "started b" in log)
        assert await refs["b"].ask(1) == 1
        assert [type(event).__name__ for event in system.events()].count("ActorCrashed") == 2


async def test_p35_a_failing_start_on_the_way_up_is_one_more_group_restart() -> None:
    log: list[str] = []
    async with running() as system:
        parent, refs = await group(system, GroupPolicy(max_restarts=2), log, "a", "b", "c")
        await parent.ask(lambda actor: actor.trips.update({"start b": 1}))
        await boom(refs["a"])
        await wait_until(lambda: "started c" in log)
        assert log == [
            *("stops c", "stopped c", "stops b", "stopped b", "stops a", "stopped a"),
            *("starts a", "started a", "starts b"),  # fails
            *("stops b", "stopped b", "stops a", "stopped a"),  # c has no instance
            *("starts a", "started a", "starts b", "started b", "starts c", "started c"),
        ]


async def test_p35_past_the_limit_the_child_stops_and_the_parent_fails_with_its_exception() -> None:
    log: list[str] = []
    async with running() as system:
        grandparent = system.spawn(Nested, log)
        parent, refs = await grandparent.ask(None)
        await boom(refs["a"])
        await wait_until(lambda: log.count("started b") == 2)
        await boom(refs["b"])  # the second one within the window: the parent fails, and is restarted itself
        await wait_until(lambda: log.count("started b") == 3)
        assert parent.is_alive()
        reasons = [event.reason for event in system.events() if type(event).__name__ == "ActorStopped"]
        assert "restart_limit" in reasons
        crashed = [event for event in system.events() if type(event).__name__ == "ActorCrashed"]
        assert [event.payload["error"] for event in crashed[-2:]] == ["Boom: b", "Boom: b"]


class Nested(Actor):
    """A supervisor of a supervisor."""

    children_policy = GroupPolicy()

    def __init__(self, log: list[str]) -> None:
        self.log = log

    async def receive(self, _message: Any) -> Any:
        parent = self.context.spawn_child(Parent, GroupPolicy(max_restarts=1), self.log, "a", "b")
        return parent, await parent.ask(lambda actor: actor.refs)


async def test_p35_the_window_pauses_while_the_group_is_down() -> None:
    clock, log = ManualClock(), []
    async with running(time_fn=clock) as system:
        policy = GroupPolicy(max_restarts=1, within_seconds=10, backoff=Backoff(100, 100, jitter=0))
        _, refs = await group(system, policy, log, "a", "b")
        await boom(refs["a"])
        while "started b" not in log:  # down for longer than the window
            clock.advance(10)
            await go_round()
        await boom(refs["a"])
        await refs["a"].stop()
        assert "restart_limit" in [event.reason for event in system.events()]


# -- 36: who decides


async def test_p36_on_child_failure_comes_first_and_decides_for_that_child_alone() -> None:
    log: list[str] = []
    async with running() as system:
        parent, refs = await group(system, GroupPolicy(), log, "a", "b")
        await parent.ask(lambda actor: setattr(actor, "decision", SupervisorDecision.RESTART))
        await boom(refs["a"])
        await wait_until(lambda: "started a" in log)
        assert log == down_and_up("a")
        await parent.ask(lambda actor: setattr(actor, "decision", None))
        log.clear()
        await boom(refs["a"])
        await wait_until(lambda: "started b" in log)
        assert log == down_and_up("a", "b")


async def test_p36_a_child_whose_own_policy_is_stop_stops_alone() -> None:
    log: list[str] = []
    async with running() as system:
        parent, refs = await group(system, GroupPolicy(), log, "a", ("b", STOP))
        await boom(refs["b"])
        await wait_until(lambda: "stopped b" in log)
        assert await refs["a"].ask(1) == 1
        assert log == ["stops b", "stopped b"]
        await parent.ask(lambda actor: setattr(actor, "children_policy", "nonsense"))
        with pytest.raises(TypeError, match="must be a GroupPolicy"):
            await parent.ask(lambda actor: actor.context.spawn_child(Member, "c", [], Counter()))


async def test_p36_a_policy_of_another_type_fails_the_parent_when_a_child_fails() -> None:
    log: list[str] = []
    async with running() as system:
        parent, refs = await group(system, GroupPolicy(), log, "a")
        await parent.ask(lambda actor: setattr(actor, "children_policy", "nonsense"))
        await boom(refs["a"])
        await wait_until(lambda: not parent.is_alive())
        crash = [event for event in system.events() if type(event).__name__ == "ActorCrashed"][-1]
        assert crash.address == parent.address.to_dict()
        assert "children_policy of Parent must be a GroupPolicy" in str(crash.payload["error"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"strategy": "one_for_all_"},
        {"max_restarts": -1},
        {"within_seconds": 0},
        {"grace": -1},
        {"backoff": 1},
    ],
)
def test_p36_a_group_policy_checks_its_values(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        GroupPolicy(**wrong)


# -- all of it at once, in random orders


class Noisy(Member):
    """A member that also asks its siblings, and is slow at times."""

    over = False

    async def on_stop(self) -> None:
        assert not self.over, "on_stop runs once in an instance"
        self.over = True
        await super().on_stop()

    async def receive(self, message: Any) -> Any:
        work, token, world = message
        assert not self.over, "no message after on_stop"
        world["handled"][token] += 1
        match work:
            case "boom":
                raise Boom(self.name)
            case "slow":
                await anyio.sleep(world["rng"].random() * 3)
            case "stuck":
                await anyio.sleep(40)
            case "halt":
                self.context.stop_self()
            case "later":
                handle = self.context.reply_later()
                self.context.timers.start_single(("reply", token), 0.2, call=lambda: handle.send(token))
                return handle.later
            case "stash" if self.context.stashed < 2:
                return self.context.stash(message)
            case "unstash":
                self.context.unstash_all()
            case "sibling":
                ref = world["rng"].choice(list(world["refs"].values()))
                with suppress(ActorStopped, AskDeadlock, Boom):
                    await world["ask"](ref, "ping")
            case "pipe":
                self.context.pipe_to_self(lambda: anyio.sleep(0.1), lambda _: None)
            case "fails later":
                self.context.start_soon(fails)
            case _:
                pass
        return token


async def fails() -> None:
    await anyio.sleep(0.05)
    raise Boom("background")


WORK = [
    "ping",
    "ping",
    "boom",
    "slow",
    "stuck",
    "halt",
    "later",
    "stash",
    "unstash",
    "sibling",
    "pipe",
    "fails later",
]
POLICIES = [None, None, None, STOP, SupervisionPolicy(Strategy.ESCALATE)]


class World(Parent):
    def __init__(self, policy: GroupPolicy, plan: list[Any], log: list[str]) -> None:
        super().__init__(policy, log)
        self.plan = plan

    async def on_start(self) -> None:
        for name, policy in self.plan:
            self.refs[name] = self.context.spawn_child(Noisy, name, self.log, self.trips, policy=policy)


async def scenario(strategy: RestartStrategy, plan: list[Any], jobs: list[Any], seed: int) -> None:
    rng = random.Random(seed)
    log: list[str] = []
    sent: list[int] = []
    given_up: set[int] = set()
    handled: Counter[int] = Counter()
    world: dict[str, Any] = {"rng": rng, "handled": handled}
    ended = Counter[str]()

    async def ask(ref: Any, work: str) -> None:
        token = len(sent)
        sent.append(token)
        try:
            await ref.ask((work, token, world), timeout=1_000)  # one may be stashed for ever
        except BaseException:
            given_up.add(token)  # an ask whose asker is gone may be skipped
            raise

    async def job(delay: float, name: str, work: str, asks: bool) -> None:
        await anyio.sleep(delay)
        ref = world["refs"][name]
        try:
            if work.startswith("trip"):
                await parent.ask(lambda actor: actor.trips.update({f"{work[5:]} {name}": 1}))
            elif work == "stop":
                await ref.stop(timeout=2)
            elif asks:
                await ask(ref, work)
            else:
                token = len(sent)
                sent.append(token)
                await ref.tell((work, token, world))
            ended["fine"] += 1
        except (ActorStopped, AskDeadlock, AskTimeout, Boom) as error:
            ended[type(error).__name__] += 1

    world["ask"] = ask
    failures: list[Any] = []
    with anyio.fail_after(5_000):
        async with ActorSystem(shutdown_timeout=20, hooks=SystemHooks(on_failure=failures.append)) as system:
            policy = GroupPolicy(strategy, max_restarts=5, within_seconds=30, grace=1.0)
            parent = system.spawn(World, policy, plan, log, policy=RESTART)
            world["refs"] = await parent.ask(lambda actor: actor.refs)
            async with anyio.create_task_group() as tasks:
                for each in jobs:
                    tasks.start_soon(job, *each)
        assert ended.total() == len(jobs), "no job hangs"
        assert [each for each in failures if isinstance(each.error, AssertionError)] == []
        letters = Counter(letter.message[1] for letter in system.dead_letters.messages)
        for token in sent:
            assert handled[token] + letters[token] >= 1 or token in given_up, (token, "was lost")
            assert letters[token] <= 1, (token, "is more than one dead letter")


DELAYS = [0.0, 0.0, 0.1, 0.5, 1.0, 2.0]
JOBS = st.lists(
    st.tuples(
        st.sampled_from(DELAYS),
        st.sampled_from("abcd"),
        st.sampled_from([*WORK, "stop", "trip start", "trip stop"]),
        st.booleans(),
    ),
    min_size=1,
    max_size=25,
)


def _plan(rng: random.Random) -> list[Any]:
    return [(name, rng.choice(POLICIES)) for name in "abcd"]


@seeded(50)
def test_p33_p34_p35_seeded_schedules(backend: Loop, seeds: range) -> None:
    for seed in seeds:
        rng = random.Random(seed)
        jobs = [
            (
                rng.choice(DELAYS),
                rng.choice("abcd"),
                rng.choice([*WORK, "stop", "trip start", "trip stop"]),
                rng.random() < 0.6,
            )
            for _ in range(rng.randrange(1, 30))
        ]
        explore(
            scenario, rng.choice(list(RestartStrategy)), _plan(rng), jobs, seed, seeds=[seed], backend=backend
        )


@both_loops
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(strategy=st.sampled_from(RestartStrategy), jobs=JOBS, seed=st.integers(0, 2**16), stops=st.booleans())
def test_p33_p34_p35_machine(
    backend: Loop, strategy: RestartStrategy, jobs: list[Any], seed: int, stops: bool
) -> None:
    plan = [(name, STOP if stops and name == "b" else None) for name in "abcd"]
    run_seeded(seed, scenario, strategy, plan, jobs, seed, backend=backend)


@pytest.mark.parametrize("first", ["the wait", "the failure"])
async def test_p33_a_parent_that_waits_for_a_member_decides_on_one_that_fails_as_it_comes_up(
    first: str,
) -> None:
    starts: Counter[str] = Counter()
    rising, goes_on = anyio.Event(), anyio.Event()

    class Fails(Actor):
        def __init__(self, name: str) -> None:
            self.name = name

        async def on_start(self) -> None:
            starts[self.name] += 1
            if self.name == "older" and starts["older"] == 2:
                rising.set()
                await goes_on.wait()
                raise Boom

        async def receive(self, message: str) -> str:
            if message == "fail":
                raise Boom
            return message

    class Parent(Actor):
        children_policy = GroupPolicy(RestartStrategy.ONE_FOR_ALL)

        async def on_start(self) -> None:
            self.older, self.younger = (
                self.context.spawn_child(Fails, name) for name in ("older", "younger")
            )

        async def receive(self, message: str) -> str:
            if message == "fail":
                await self.older.tell("fail")
                return message
            goes_on.set()
            if first == "the failure":
                await wait_until(lambda: self.older._cell.phase == SUSPENDED)
            return await self.younger.ask(message)

        async def on_child_failure(self, child_ref: ActorRef, exc: Exception) -> None:
            return None

    async with running() as system:
        parent = system.spawn(Parent)
        await parent.ask("fail")
        await rising.wait()
        assert await parent.ask("hello", timeout=20) == "hello"
        assert starts == {"older": 3, "younger": 2}
