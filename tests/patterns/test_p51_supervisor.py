"""P51: supervisors as data."""

from __future__ import annotations

import pytest

from papyra import Actor, ActorSystem
from papyra_contrib.supervisor import PERMANENT, TEMPORARY, TRANSIENT, ChildSpec, Supervisor

from .support import until


class Child(Actor):
    async def receive(self, message: str) -> str:
        if message == "crash":
            raise ValueError("as asked")
        if message == "stop":
            self.context.stop_self()
        return message


async def until_named(system: ActorSystem, name: str, other_than: object = None):
    """Return the living actor of a name, once it is another one than before."""
    await until(lambda: system.ref_for_name(name) not in (None, other_than))
    return system.ref_for_name(name)


async def test_p51_a_permanent_child_is_there_again_after_any_end():
    async with ActorSystem() as system:
        system.spawn(Supervisor, ChildSpec(Child, "child", PERMANENT))
        first = await until_named(system, "child")
        await first.tell("stop")
        second = await until_named(system, "child", first)
        assert await second.ask("still here") == "still here"
        await second.tell("crash")
        assert await second.ask("again") == "again"


@pytest.mark.parametrize(("restart", "comes_back"), [(TRANSIENT, True), (TEMPORARY, False)])
async def test_p51_a_transient_child_comes_back_after_a_failure_alone(restart, comes_back):
    async with ActorSystem() as system:
        system.spawn(Supervisor, ChildSpec(Child, "child", restart), name="top")
        child = await until_named(system, "child")
        await child.tell("crash")
        if comes_back:
            assert await child.ask("here") == "here"
            await child.tell("stop")
        await until(lambda: not (system.ref_for_name("child") is not None))
        assert system.ref_for_name("top").is_alive()


async def test_p51_each_end_counts_and_past_the_intensity_the_supervisor_fails():
    from functools import partial

    async with ActorSystem() as system:
        supervisor = system.spawn(partial(Supervisor, ChildSpec(Child, "child"), max_restarts=2))
        ref = None
        for _ in range(3):
            ref = await until_named(system, "child", ref)
            await ref.tell("stop")
        await until(lambda: not (supervisor.is_alive()))
        assert system.ref_for_name("child") is None


async def test_p51_more_children_by_message_and_by_proxy():
    async with ActorSystem() as system:
        supervisor = system.spawn(Supervisor)
        one = await supervisor.ask(ChildSpec(Child, "one"))
        two = await supervisor.proxy().start_child(ChildSpec(Child, "two"))
        assert (await one.ask("1"), await two.ask("2")) == ("1", "2")


def test_a_spec_that_is_none_is_refused():
    with pytest.raises(TypeError, match="expected a ChildSpec"):
        Supervisor(Child)  # type: ignore[arg-type]
