"""Promises 30, 42 to 47 and H18: asks that are answered late, by others, twice or never, in random orders.

Every ask ends, with its own reply or with an error that is true; sent = handled + dead letters.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import anyio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from papyra import (
    Actor,
    ActorRef,
    ActorStopped,
    ActorSystem,
    AskDeadlock,
    AskTimeout,
    MailboxFull,
    Reject,
    ReplyDropped,
    StashOverflow,
    Strategy,
    SupervisionPolicy,
    SystemHooks,
    UnhandledMessage,
    ask_all,
)
from papyra.testing import run_seeded

from .support import Loop, both_loops, seeded

Job = tuple[float, int, str, str]
"""When, to which actor, what it does with the message, and how it is sent."""

NAMES = range(3)
WORK = [
    "answer",
    "later",
    "twice",
    "fail",
    "drop",
    "forward",
    "stash",
    "unstash",
    "reject",
    "unhandled",
    "ask",
    "boom",
]
WAYS = ["tell", "nowait", "ask", "ask", "impatient", "both", "stop"]
EXPECTED = {
    "fail": LookupError,
    "reject": KeyError,
    "drop": ReplyDropped,
    "unhandled": UnhandledMessage,
    "boom": ValueError,
}


class Server(Actor):
    """Does with a message what the message says."""

    stash_capacity = 3

    def __init__(self, world: dict[str, Any]) -> None:
        self.world = world

    async def receive(self, message: tuple[str, int]) -> Any:
        work, token = message
        context, handled = self.context, self.world["handled"]
        if work == "stash":
            work = "answer"
            if self.world["rng"].random() < 0.7:
                try:
                    return context.stash(message)
                except StashOverflow:
                    pass
        if work == "forward":
            target = self.world["refs"][self.world["rng"].choice(NAMES)]
            return await context.forward(target, ("answer", token))
        if work == "unhandled":
            return context.unhandled(message)
        handled[token] += 1
        match work:
            case "later" | "twice" | "fail":
                handle = context.reply_later()
                context.start_soon(self.reply, handle, work, token)
                return handle.later
            case "drop":
                return context.reply_later().later
            case "reject":
                raise Reject(KeyError(token))
            case "unstash":
                context.unstash_all()
            case "boom":
                raise ValueError(token)
            case "ask":
                others = [ref for ref in self.world["refs"] if ref != context.self_ref]
                asked = [self.world["new"]("answer") for _ in others]
                found = await ask_all(
                    *(ref.request(each) for ref, each in zip(others, asked, strict=True)),
                    return_exceptions=True,
                )
                assert all(isinstance(each, (int, ActorStopped, AskDeadlock)) for each in found), found
                self.world["gone"] |= {
                    number
                    for (_, number), each in zip(asked, found, strict=True)
                    if isinstance(each, Exception)
                }
            case _:
                pass
        return token

    async def reply(self, handle: Any, work: str, token: int) -> None:
        await anyio.sleep(self.world["rng"].random())
        assert not handle.done or not handle.send(token)
        first = handle.fail(LookupError(token)) if work == "fail" else handle.send(token)
        if work == "twice":
            assert not handle.send(-1), "the first answer counts"
        assert handle.done
        self.world["replied"] += first


async def scenario(jobs: list[Job], seed: int) -> Counter[str]:
    rng = random.Random(seed)
    failures: list[Any] = []
    wrong: list[BaseException] = []  # errors of other asks
    gone: set[int] = set()
    ended: Counter[str] = Counter()
    work_of: list[str] = []

    def new(work: str) -> tuple[str, int]:
        work_of.append(work)
        return work, len(work_of) - 1

    world: dict[str, Any] = {"rng": rng, "handled": Counter(), "replied": 0, "new": new, "gone": gone}

    async def ask(ref: ActorRef[Any, Any], message: tuple[str, int], timeout: float | None) -> None:
        work, token = message
        try:
            reply = await ref.ask(message, timeout=timeout)
        except (ActorStopped, AskTimeout, AskDeadlock) as error:
            gone.add(token)
            ended[type(error).__name__] += 1
        except EXPECTED.get(work, ()) as error:
            wrong.extend([error] if work not in ("drop", "unhandled") and error.args != (token,) else [])
            ended[type(error).__name__] += 1
        else:
            assert reply == token, "the reply to another ask"
            ended["reply"] += 1

    async def job(delay: float, number: int, work: str, way: str) -> None:
        await anyio.sleep(delay)
        ref, message = refs[number], new(work)
        try:
            match way:
                case "stop":
                    gone.add(message[1])
                    await ref.stop()
                case "tell":
                    await ref.tell(message)
                case "nowait":
                    ref.tell_nowait(message)
                case "both":
                    await ask(ref, message, 50.0)
                    await ref.tell(new(work))
                case _:
                    await ask(ref, message, 0.3 if way == "impatient" else 50.0)
        except MailboxFull:
            gone.add(message[1])
        except ActorStopped:
            ended["refused"] += 1

    policy = SupervisionPolicy(Strategy.RESTART, max_restarts=1_000)
    hooks = SystemHooks(on_failure=lambda failure: failures.append(failure.error))
    with anyio.fail_after(5_000):
        async with ActorSystem(shutdown_timeout=100, hooks=hooks) as system:
            refs = [system.spawn(Server, world, policy=policy, mailbox_capacity=2) for _ in NAMES]
            world["refs"] = refs
            async with anyio.create_task_group() as tasks:
                for each in jobs:
                    tasks.start_soon(job, *each)
    assert [error for error in failures if not isinstance(error, ValueError)] == []
    assert wrong == []
    letters = Counter(letter.message[1] for letter in system.dead_letters.messages)
    for token, work in enumerate(work_of):
        count = world["handled"][token] + letters[token]
        assert count == 1 or (count == 0 and token in gone), (token, work, count)
    return ended


JOBS = st.lists(
    st.tuples(
        st.sampled_from((0.0, 0.1, 0.5, 1.0, 2.0)),
        st.sampled_from(NAMES),
        st.sampled_from(WORK),
        st.sampled_from(WAYS),
    ),
    min_size=1,
    max_size=25,
)


def _random_jobs(seed: int) -> list[Job]:
    rng = random.Random(seed)
    return [
        (rng.random() * 3, rng.choice(NAMES), rng.choice(WORK), rng.choice(WAYS))
        for _ in range(rng.randrange(1, 40))
    ]


@seeded(40)
def test_p30_p42_p43_p44_p45_p46_p47_seeded_schedules(backend: Loop, seeds: range) -> None:
    ended: Counter[str] = Counter()
    for seed in seeds:
        ended += run_seeded(seed, scenario, _random_jobs(seed), seed, backend=backend)
    every = {"reply", "ActorStopped", "AskTimeout", *(error.__name__ for error in EXPECTED.values())}
    assert set(ended) >= every, "each way to end was there"


@both_loops
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(jobs=JOBS, seed=st.integers(0, 2**16))
@example(jobs=[(0.1, 0, "ask", "tell"), (0.1, 1, "ask", "tell")], seed=0)  # each asks the other
@example(  # on trio: forwards to itself what has no room
    jobs=[(0.1, 1, "answer", "tell"), (0.1, 0, "forward", "tell"), (0.1, 1, "forward", "tell")], seed=0
)
def test_p30_p42_p43_p44_p45_p46_p47_machine(backend: Loop, jobs: list[Job], seed: int) -> None:
    run_seeded(seed, scenario, jobs, seed, backend=backend)
