"""H1 to H4, H8, H9: nothing that a user's value, hook or thread does hurts anybody but its own actor or
caller.
"""

from __future__ import annotations

import asyncio
import threading
from contextvars import Context, ContextVar
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
import trio

from papyra import Actor, ActorStopped, ActorSystem, SystemHooks, ask_all
from papyra.deadletters import DeadLetterPolicy
from papyra.instruments import Instrument

from .odd import LyingError, OddError, values
from .support import Echo, go_round, running, wait_until


class Place(Actor):
    """Takes a value and uses it, or does not."""

    async def receive(self, message: Any) -> Any:
        if type(message) is tuple:
            raise message[0]
        return "fine"


async def others_are_fine(system: ActorSystem) -> None:
    with anyio.fail_after(5):
        assert await system.spawn(Echo).ask(1) == 1


@pytest.mark.parametrize("number", range(4))
async def test_h01_a_message_is_never_evaluated(number: int) -> None:
    async with ActorSystem() as system:
        ref = system.spawn(Place, mailbox_capacity=2)
        await ref.tell(values()[number])
        assert await ref.ask(values()[number]) == "fine"
        system.spawn(Place)
        await system.stop(ref)
        for send in (ref.tell, ref.ask):
            with pytest.raises(ActorStopped):
                await send(values()[number])
        assert system.dead_letters.count == 2
        await others_are_fine(system)


async def test_h01_watching_looks_at_no_other_message() -> None:
    class Watcher(Actor):
        async def receive(self, message: Any) -> Any:
            if type(message) is list:
                for value in values():
                    await self.context.self_ref.tell(value)
                for ref in message:
                    self.context.watch(ref)
                    self.context.unwatch(ref)
                    self.context.watch(ref)
            return "fine"

    async with ActorSystem() as system:
        dead = [system.spawn(Echo) for _ in range(3)]
        await system.stop_all()
        watcher = system.spawn(Watcher)
        assert await watcher.ask(dead) == "fine"
        assert await watcher.ask(1) == "fine"


@pytest.mark.parametrize("index", range(2))
async def test_h01_an_error_that_misbehaves_fails_its_own_actor_alone(index: int) -> None:
    error: Exception = [OddError(), LyingError()][index]
    async with ActorSystem() as system:
        ref = system.spawn(Place)
        with pytest.raises(type(error)):
            await ref.ask((error,))
        await system.wait_for_event(lambda event: type(event).__name__ == "ActorCrashed")
        await others_are_fine(system)


@pytest.mark.parametrize("index", range(6))
async def test_h01_a_decision_that_is_none_fails_the_parent_alone(index: int) -> None:
    result = [42, "restart", *values()][index]

    class Parent(Actor):
        async def on_start(self) -> None:
            self.child = self.context.spawn_child(Place)

        async def receive(self, message: Any) -> Any:
            return self.child

        async def on_child_failure(self, child_ref: Any, exc: Exception) -> Any:
            return result

    async with ActorSystem() as system:
        parent = system.spawn(Parent)
        child = await parent.ask(1)
        with pytest.raises(ValueError, match="boom"):
            await child.ask((ValueError("boom"),))
        with anyio.fail_after(5):
            await wait_until(lambda: not parent.is_alive())
        await others_are_fine(system)


async def test_h01_a_factory_that_raises_anything_at_a_restart_fails_its_actor_alone() -> None:
    raises = [False]

    class Twice(Place):
        def __init__(self) -> None:
            if raises[0]:
                raise SystemExit("from a factory")

    async with ActorSystem() as system:
        ref = system.spawn(Twice, name="twice")
        raises[0] = True
        with pytest.raises(ValueError, match="boom"):
            await ref.ask((ValueError("boom"),))
        with anyio.fail_after(5):
            await wait_until(lambda: not ref.is_alive())
        await others_are_fine(system)


async def test_h01_the_value_of_a_context_variable_is_never_compared() -> None:
    calls: list[object] = []
    user: ContextVar[Any] = ContextVar("user")

    class Lazy:
        def __eq__(self, other: object) -> bool:
            calls.append(other)
            raise SystemExit("evaluated")

        __hash__ = object.__hash__

    class Sets(Actor):
        async def receive(self, message: Any) -> Any:
            before = user.get()
            user.set(Lazy())
            return before

    first = Lazy()
    user.set(first)
    async with ActorSystem() as system:
        for _ in range(2):
            assert await system.spawn(Sets).ask(1) is first
        await others_are_fine(system)
    assert calls == []


async def test_h05_context_variables_that_a_hook_sets_are_its_own() -> None:
    """A logging library binds its values so."""
    variable: ContextVar[str] = ContextVar("variable", default="clean")

    def bind(_: object) -> None:
        variable.set("of a hook")

    class Reads(Actor):
        async def receive(self, message: Any) -> str:
            if message == "fail":
                raise ValueError(message)
            return variable.get()

    hooks = SystemHooks(on_event=bind, on_failure=bind, on_dead_letter=bind, on_audit=bind)
    async with running(hooks=hooks, dead_letter_policy=DeadLetterPolicy(redact=bind)) as system:
        ref = system.spawn(Reads, name="reads")
        assert await ref.ask(1) == "clean"
        with pytest.raises(ValueError, match="fail"):
            await ref.ask("fail")
        assert await ref.ask(2) == "clean"
        await ref.stop()
        with pytest.raises(ActorStopped):
            await ref.tell("late")
        system.audit()
    assert variable.get() == "clean"


@pytest.mark.parametrize("kind", [SystemExit, ValueError, GeneratorExit])
async def test_h02_a_hook_that_raises_anything_is_counted(kind: type[BaseException]) -> None:
    def plain(event: object) -> None:
        raise kind("from a hook")

    async def later(event: object) -> None:
        raise kind("from an async hook")

    for hook in (plain, later):
        async with ActorSystem(hooks=SystemHooks(on_event=hook)) as system:
            await others_are_fine(system)
            with anyio.fail_after(5):
                await wait_until(lambda: system.control_panel()["hooks"][0]["failed"])


@pytest.mark.parametrize("index", range(4))
async def test_h02_a_hook_may_return_nonsense(index: int) -> None:
    async with ActorSystem(hooks=SystemHooks(on_event=lambda event: values()[index])) as system:
        await others_are_fine(system)


async def test_h04_a_group_of_cancellations_is_a_failure_of_its_actor() -> None:
    class Keeps(Actor):
        async def receive(self, message: Any) -> Any:
            errors: list[BaseException] = []

            async def job() -> None:
                try:
                    await anyio.sleep_forever()
                except BaseException as error:
                    errors.append(error)
                    raise

            with anyio.move_on_after(0.01):
                async with anyio.create_task_group() as group:
                    group.start_soon(job)
            raise BaseExceptionGroup("all failed", [BaseExceptionGroup("deeper", errors)])

    async with running(shutdown_timeout=1) as system:
        with pytest.raises(RuntimeError, match="cancellation that nobody asked for"):
            await system.spawn(Keeps).ask(1)
        await others_are_fine(system)


async def test_h08_each_call_in_another_thread_is_refused_and_changes_nothing() -> None:
    def drive(make: Any) -> BaseException | None:
        try:
            result = make()
            if hasattr(result, "send"):
                result.send(None)
        except BaseException as error:
            return error
        return None

    class Calls(Actor):
        async def receive(self, message: Any) -> Any:
            context, system = self.context, self.context.system
            other, proxy = message, message.proxy()
            calls = {
                "spawn": lambda: system.spawn(Echo),
                "spawn_child": lambda: context.spawn_child(Echo),
                "tell": lambda: other.tell(1),
                "tell itself": lambda: context.self_ref.tell(1),
                "ask": lambda: other.ask(1),
                "stop": lambda: system.stop(other),
                "context.stop": lambda: context.stop(other),
                "stop_self": context.stop_self,
                "watch": lambda: context.watch(other),
                "unwatch": lambda: context.unwatch(other),
                "audit": system.audit,
                "aclose": system.aclose,
                "stop_all": system.stop_all,
                "broadcast": lambda: system.broadcast(1),
                "proxy": lambda: proxy.value().__await__(),
                "defer": lambda: proxy.value.defer().__await__(),
                "wait_for_event": lambda: system.wait_for_event(lambda event: True),
                "spawn_or_get": lambda: system.spawn_or_get(Echo, name="new"),
                "tell_nowait": lambda: other.tell_nowait(1),
                "ask_all": lambda: ask_all(other.request(1)),
                "flush": system.flush,
                "compact": system.compact,
                "portal": system.portal,
                "add_instrument": lambda: system.add_instrument(Instrument()),
                "timers": lambda: context.timers,
                "start_single": lambda: timers.start_single("key", 0, send=1),
                "start_fixed_delay": lambda: timers.start_fixed_delay("key", 1, send=1),
                "start_fixed_rate": lambda: timers.start_fixed_rate("key", 1, send=1),
                "cancel": lambda: timers.cancel("kept"),
                "cancel_all": lambda: timers.cancel_all(),
                "set_receive_timeout": lambda: context.set_receive_timeout(1, send=1),
                "stash": lambda: context.stash(message),
                "unstash_all": context.unstash_all,
                "forward": lambda: context.forward(other, 1),
                "reply_later": context.reply_later,
                "unhandled": lambda: context.unhandled(message),
                "pipe_to_self": lambda: context.pipe_to_self(go_round, print),
                "start_soon": lambda: context.start_soon(go_round),
                "run_blocking": lambda: context.run_blocking(print),
                "pipe.cancel": lambda: pipe.cancel(),
                "become": lambda: self.become(self.receive),
                "unbecome": self.unbecome,
                "send": lambda: reply.send(2),
                "fail": lambda: reply.fail(ValueError()),
            }
            timers = context.timers
            timers.start_single("kept", 60, send=1)
            pipe = context.start_soon(anyio.sleep_forever)
            reply = context.reply_later()
            found = {name: await anyio.to_thread.run_sync(drive, call) for name, call in calls.items()}
            assert (context.stashed, timers.keys(), repr(pipe).count("cancelled")) == (0, ("kept",), 0)
            assert not reply.done
            reply.send(found)
            return reply.later

    async with ActorSystem() as system:
        other, caller = system.spawn(Echo), system.spawn(Calls)
        await anyio.sleep(0.01)
        found = await caller.ask(other)
        assert {name for name, error in found.items() if type(error) is not RuntimeError} == set()
        assert all("portal" in str(error) for error in found.values())
        assert len(system.refs()) == 2
        assert system.dead_letters.count == 0
        assert await other.ask(2) == 2
        assert [info.processed for info in system.list_actors()] == [1, 1]


async def test_h09_a_system_is_not_closed_from_another_loop() -> None:
    async with ActorSystem() as system:
        errors: list[str] = []

        def close() -> None:
            try:
                anyio.run(system.aclose, backend="asyncio")
            except RuntimeError as error:
                errors.append(str(error))

        thread = threading.Thread(target=close)
        thread.start()
        await anyio.to_thread.run_sync(thread.join)
        assert "thread" in errors[0]
        await others_are_fine(system)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_h09_a_system_whose_loop_ended_closes_in_another(backend: Any, anyio_backend: str) -> None:
    if backend != anyio_backend:
        pytest.skip("the fixture runs both")
    system = ActorSystem()

    async def start() -> None:
        await system.start()
        assert await system.spawn(Echo).ask(1) == 1

    async def close() -> None:
        with anyio.fail_after(5):
            await system.aclose()
            await system.aclose()

    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the loop destroys tasks that wait
        anyio.run(start, backend=backend)
        anyio.run(close, backend=backend)
    assert "closed" in repr(system)
    assert system.persistence.closed


async def test_h11_another_receive_counts_from_the_next_message_on() -> None:
    class Door(Actor):
        async def receive(self, message: str) -> str:
            if message == "open":
                self.receive = self.opened  # type: ignore[method-assign]  # what this is about
            return "closed"

        async def opened(self, message: str) -> str:
            if message == "patch":
                type(self).receive = type(self).patched  # type: ignore[method-assign]  # as above
                del self.receive  # type: ignore[attr-defined]  # as above
            return "opened"

        async def patched(self, message: str) -> str:
            if message == "class":
                self.__class__ = Other  # type: ignore[assignment]  # as above
            return "patched"

    class Other(Door):
        async def receive(self, message: str) -> str:
            return "other"

    async with ActorSystem() as system:
        ref = system.spawn(Door)
        messages = ("x", "open", "x", "patch", "x", "class", "x")
        seen = [await ref.ask(message) for message in messages]
    assert seen == ["closed", "closed", "opened", "opened", "patched", "patched", "other"]


async def test_h07_context_variables_of_init_and_tokens_of_messages() -> None:
    who: ContextVar[str] = ContextVar("who", default="nobody")

    class Child(Actor):
        def __init__(self) -> None:
            self.seen = who.get()
            who.set("child")

        async def receive(self, message: Any) -> Any:
            return self.seen, who.get()

    class Parent(Actor):
        async def on_start(self) -> None:
            self.token = who.set("parent")

        async def receive(self, message: Any) -> Any:
            child = await self.context.spawn_child(Child).ask(1)
            mine = who.get()
            who.reset(self.token)
            return child, mine, who.get()

    async with ActorSystem() as system:
        assert await system.spawn(Parent).ask(1) == (("parent", "child"), "parent", "nobody")
        assert who.get() == "nobody"


@pytest.mark.parametrize("run", [asyncio.run, trio.run])
def test_h07_an_actor_keeps_its_variables_where_the_host_has_none(run: Any) -> None:
    """`anyio.run` always sets one of its own, and an empty `Context` is false."""
    who: ContextVar[str] = ContextVar("who", default="nobody")

    class Keeps(Actor):
        async def receive(self, message: Any) -> Any:
            if message is not None:
                who.set(message)
            return who.get()

    async def main(*_: Any) -> list[Any]:
        async with ActorSystem() as system:
            first, second = system.spawn(Keeps), system.spawn(Keeps)
            return [await first.ask("first"), await second.ask(None), await first.ask(None)]

    seen = Context().run(lambda: run(main()) if run is asyncio.run else run(main))
    assert seen == ["first", "nobody", "first"]
