"""Mistakes of the caller: each is an error that says what was wrong, and leaves nothing behind."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from papyra import (
    Actor,
    ActorAddress,
    ActorStopped,
    ActorSystem,
    PapyraError,
    Strategy,
    SupervisionPolicy,
    SystemHooks,
)

from .support import Echo, running


async def refused(
    spawn: Callable[[], object], error: type[Exception], match: str, system: ActorSystem
) -> None:
    """Check that a spawn is refused, and that nothing of it stays."""
    before = (system.list_actors(), system.list_names())
    with pytest.raises(error, match=match):
        spawn()
    assert (system.list_actors(), system.list_names()) == before
    assert await system.spawn(Echo).ask("fine") == "fine"


# -- names


async def test_a_duplicate_name_is_refused_and_says_who_has_it() -> None:
    async with running() as system:
        first = system.spawn(Echo, name="twin")
        built: list[Actor] = []

        def factory() -> Actor:
            built.append(Echo())
            return built[-1]

        with pytest.raises(ValueError, match=r"'twin' is alive already \(local:1 ") as caught:
            system.spawn(factory, name="twin")
        assert isinstance(caught.value, PapyraError)
        assert built == []
        assert list(system.list_names()) == ["twin"]
        assert await first.ask(1) == 1
        await system.stop(first)
        assert await system.spawn(Echo, name="twin").ask(2) == 2, "a name is free again"


async def test_a_duplicate_name_of_a_child_and_of_a_stopping_actor_is_refused() -> None:
    gate = anyio.Event()

    class Slow(Actor):
        async def receive(self, message: Any) -> Any:
            if message == "spawn":
                try:
                    self.context.spawn_child(Echo, name="slow")
                except ValueError as error:
                    return error
            return None

        async def on_stop(self) -> None:
            await gate.wait()

    async with running() as system, anyio.create_task_group() as group:
        ref = system.spawn(Slow, name="slow")
        assert "alive already" in str(await ref.ask("spawn"))
        group.start_soon(system.stop, ref)
        while ref.is_alive():
            await anyio.lowlevel.checkpoint()
        with pytest.raises(ValueError, match="alive already"):
            system.spawn(Echo, name="slow")
        gate.set()


async def test_a_factory_that_takes_the_name_itself_is_refused() -> None:
    async with running() as system:

        def factory() -> Actor:
            system.spawn(Echo, name="mine")
            return Echo()

        with pytest.raises(ValueError, match="'mine' is alive already"):
            system.spawn(factory, name="mine")
        assert len(system.list_actors()) == 1


@pytest.mark.parametrize("name", ["", 5, b"x", object()])
async def test_a_name_that_is_empty_or_not_a_text_is_refused(name: Any) -> None:
    async with running() as system:
        await refused(lambda: system.spawn(Echo, name=name), ValueError, "name", system)


# -- factories


async def test_an_instance_instead_of_a_class_says_what_to_do() -> None:
    async with running() as system:
        spawn: Any = system.spawn
        await refused(lambda: spawn(Echo()), TypeError, "not an instance", system)


@pytest.mark.parametrize("factory", [None, 5, "Echo", [], object()])
async def test_a_factory_that_cannot_be_called_is_refused(factory: Any) -> None:
    async with running() as system:
        await refused(lambda: system.spawn(factory), TypeError, "Actor subclass or a function", system)


@pytest.mark.parametrize("result", [None, 5, Echo, "x"])
async def test_a_factory_that_returns_no_actor_is_refused(result: Any) -> None:
    async with running() as system:
        await refused(lambda: system.spawn(lambda: result), TypeError, "returned", system)


async def test_a_factory_that_returns_a_coroutine_leaves_none_unawaited() -> None:
    async def factory() -> Actor:
        return Echo()

    async with running() as system:
        spawn: Any = system.spawn
        await refused(lambda: spawn(factory), TypeError, "coroutine", system)


async def test_a_factory_that_returns_the_same_instance_again_is_refused() -> None:
    actor = Echo()
    async with running() as system:
        ref = system.spawn(lambda: actor)
        await refused(lambda: system.spawn(lambda: actor), ValueError, "spawned already", system)
        await system.stop(ref)
        await refused(lambda: system.spawn(lambda: actor), ValueError, "spawned already", system)


async def test_a_factory_that_returns_a_used_instance_on_restart_stops_the_actor() -> None:
    actor = Echo()

    class Fails(Actor):
        async def receive(self, message: Any) -> None:
            raise ValueError(message)

    one = Fails()
    async with running() as system:
        ref = system.spawn(lambda: one, name="one")
        with pytest.raises(ValueError, match="x"):
            await ref.ask("x")
        with pytest.raises(ActorStopped):
            await ref.ask("y")
        assert await system.spawn(lambda: actor).ask(1) == 1


async def test_what_a_factory_raises_is_the_callers() -> None:
    def factory() -> Actor:
        raise LookupError("no car")

    async with running() as system:
        await refused(lambda: system.spawn(factory), LookupError, "no car", system)
        await refused(lambda: system.spawn(factory, name="car"), LookupError, "no car", system)


async def test_a_class_without_the_arguments_that_it_needs_is_refused() -> None:
    class Needs(Actor):
        def __init__(self, thing: int) -> None:
            self.thing = thing

    async with running() as system:
        spawn: Any = system.spawn
        await refused(lambda: spawn(Needs), TypeError, "thing", system)


# -- context


async def test_context_in_init_is_a_clear_error() -> None:
    class Eager(Actor):
        def __init__(self) -> None:
            self.me = self.context.self_ref

    async with running() as system:
        await refused(lambda: system.spawn(Eager), RuntimeError, r"Eager\.context .*__init__", system)
    with pytest.raises(RuntimeError, match="not spawned"):
        _ = Echo().context


async def test_a_receive_that_is_not_async_or_not_there_fails_with_a_clear_error() -> None:
    class Nothing(Actor):
        pass

    class NotAsync(Actor):
        def receive(self, message: Any) -> Any:
            return None

    async with running() as system:
        with pytest.raises(NotImplementedError, match=r"Nothing .*receive"):
            await system.spawn(Nothing).ask(1)
        with pytest.raises(TypeError):
            await system.spawn(NotAsync).ask(1)


# -- numbers


@pytest.mark.parametrize("capacity", [0, -1, 1.5, True, False, "10", float("inf")])
async def test_g01_a_bad_mailbox_capacity_is_refused(capacity: Any) -> None:
    async with running() as system:
        await refused(
            lambda: system.spawn(Echo, mailbox_capacity=capacity), ValueError, "mailbox_capacity", system
        )


@pytest.mark.parametrize("timeout", [-1, -0.001, float("nan")])
async def test_a_negative_timeout_is_refused_and_sends_nothing(timeout: float) -> None:
    async with running() as system:
        ref = system.spawn(Echo)
        with pytest.raises(ValueError, match="negative"):
            await ref.ask(1, timeout=timeout)
        with pytest.raises(ValueError, match="timeout"):
            await system.stop(ref, timeout=timeout)
        assert ref.is_alive()
        assert await ref.ask(2, timeout=float("inf")) == 2


@pytest.mark.parametrize("timeout", ["soon", "1"])
async def test_a_timeout_that_is_not_a_number_is_refused(timeout: Any) -> None:
    async with running() as system:
        ref = system.spawn(Echo)
        with pytest.raises(TypeError):
            await ref.ask(1, timeout=timeout)
        with pytest.raises(TypeError):
            await system.stop(ref, timeout=timeout)
        assert await ref.ask(2) == 2


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_a_bad_shutdown_timeout_is_refused(timeout: float) -> None:
    with pytest.raises(ValueError, match="shutdown_timeout"):
        ActorSystem(shutdown_timeout=timeout)


@pytest.mark.parametrize("system_id", ["", "a:b", "a/b", "a b", "a\n", "\t"])
def test_a_bad_system_id_is_refused(system_id: str) -> None:
    with pytest.raises(ValueError, match="system_id"):
        ActorSystem(system_id=system_id)


@pytest.mark.parametrize("system_id", [5, None])
def test_a_system_id_that_is_not_a_string_is_refused(system_id: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        ActorSystem(system_id=system_id)


@pytest.mark.parametrize("persistence", [5, object(), dict])
def test_a_persistence_that_is_not_a_store_is_refused(persistence: Any) -> None:
    with pytest.raises(TypeError, match="PersistenceBackend"):
        ActorSystem(persistence=persistence)


def test_hooks_that_cannot_be_called_are_refused() -> None:
    hook: Any = "not a function"
    with pytest.raises(TypeError, match="on_event"):
        SystemHooks(on_event=hook)


def test_bad_policies_are_refused() -> None:
    strategy: Any = "restart"
    bad: list[Callable[[], SupervisionPolicy]] = [
        lambda: SupervisionPolicy(strategy),
        lambda: SupervisionPolicy(Strategy.RESTART, max_restarts=-1),
        lambda: SupervisionPolicy(Strategy.RESTART, within_seconds=0),
    ]
    for make in bad:
        with pytest.raises(ValueError, match="must be"):
            make()


# -- before the start and after the end


def uses(system: ActorSystem) -> dict[str, Callable[[], object]]:
    return {
        "spawn": lambda: system.spawn(Echo),
        "ref_for": lambda: system.ref_for("local:1"),
        "ref_for_name": lambda: system.ref_for_name("x"),
        "audit": lambda: system.audit(),
    }


@pytest.mark.parametrize("use", ["spawn", "ref_for", "ref_for_name", "audit"])
async def test_use_before_the_start_says_how_to_start(use: str) -> None:
    system = ActorSystem(system_id="early")
    with pytest.raises(RuntimeError, match=r"'early'.*async with") as caught:
        uses(system)[use]()
    assert isinstance(caught.value, PapyraError)
    with pytest.raises(RuntimeError, match="not started"):
        await system.stop_all()
    with pytest.raises(RuntimeError, match="not started"):
        await system.wait_for_event(lambda _event: True)
    assert system.list_actors() == []
    assert system.list_names() == {}
    assert system.events() == []
    await system.aclose()


@pytest.mark.parametrize("use", ["spawn", "ref_for", "ref_for_name", "audit"])
async def test_use_after_the_end_says_to_make_a_new_one(use: str) -> None:
    async with ActorSystem(system_id="late") as system:
        pass
    with pytest.raises(RuntimeError, match=r"'late'.*closed"):
        uses(system)[use]()
    assert system.list_actors() == []


async def test_a_closed_system_cannot_start_again() -> None:
    with anyio.fail_after(5):
        system = ActorSystem()
        await system.start()
        await system.aclose()
        with pytest.raises(RuntimeError, match="closed"):
            await system.start()
        with pytest.raises(RuntimeError, match="closed"):
            async with system:
                pass
        never = ActorSystem()
        await never.aclose()
        with pytest.raises(RuntimeError, match="closed"):
            await never.start()


def test_a_start_outside_of_an_event_loop_is_a_clear_error() -> None:
    start = ActorSystem().start()
    with pytest.raises(RuntimeError, match="event loop"):
        start.send(None)


# -- references


async def test_objects_that_are_not_references_are_refused() -> None:
    async with running() as system:
        ref = system.spawn(Echo)
        wrong: Any
        for wrong in ("local:1", ref.address, None, Echo):
            with pytest.raises(TypeError, match="ActorRef"):
                await system.stop(wrong)
        with pytest.raises(TypeError, match="ActorRef"):
            system.spawn(Echo, parent=wrong)


async def test_references_of_another_system_are_refused() -> None:
    async with running(system_id="here") as here, ActorSystem(system_id="there") as there:
        ref = there.spawn(Echo)
        with pytest.raises(ValueError, match="a different actor system"):
            await here.stop(ref)
        with pytest.raises(ValueError, match="a different actor system"):
            here.spawn(Echo, parent=ref)
        assert here.ref_for(ref.address) is None
        assert await ref.ask(1) == 1
        assert ref != here.spawn(Echo)


async def test_a_reference_is_immutable_and_equal_by_address() -> None:
    async with running() as system:
        ref: Any = system.spawn(Echo)
        for name in ("address", "is_alive", "note"):
            with pytest.raises(AttributeError):
                setattr(ref, name, 5)
        again = system.ref_for(ref.address)
        assert again == ref
        assert hash(again) == hash(ref)
        assert len({ref, again}) == 1
        assert ref != "local:1"
        assert copy.copy(ref) == copy.deepcopy(ref) == ref
        with pytest.raises(TypeError, match="address"):
            pickle.dumps(ref)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no ':'"),
        ("local", "no ':'"),
        (":1", "no system"),
        ("local:", "no number"),
        ("local:x", "'x'"),
        ("local:1:2", "'1:2'"),
        ("local:-1", "'-1'"),
        ("lo cal:1", "white space"),
        (5, "int"),
        ("local:\u0661", "\u0661"),
    ],
)
def test_malformed_addresses_are_refused(text: Any, says: str) -> None:
    with pytest.raises(ValueError, match="address") as caught:
        ActorAddress.parse(text)
    assert says in str(caught.value)


async def test_a_parent_that_has_stopped_is_refused() -> None:
    async with running() as system:
        parent = system.spawn(Echo)
        await system.stop(parent)
        await refused(lambda: system.spawn(Echo, parent=parent), ActorStopped, "no children", system)


async def test_watching_oneself_or_another_system_is_refused() -> None:
    class Watches(Actor):
        async def receive(self, message: Any) -> None:
            self.context.watch(message or self.context.self_ref)

    async with running() as system, ActorSystem(system_id="there") as there:
        with pytest.raises(ValueError, match="itself"):
            await system.spawn(Watches).ask(None)
        with pytest.raises(ValueError, match="a different actor system"):
            await system.spawn(Watches).ask(there.spawn(Echo))


@pytest.mark.parametrize("method", ["receive", "on_start"])
async def test_a_plain_method_is_pointed_out(method: str, caplog: pytest.LogCaptureFixture) -> None:
    def plain(self: Actor, message: object = None) -> None:
        """Lack the word async."""

    kind: Any = type("Plain", (Echo,), {method: plain})
    hint = f"Plain.{method} is a plain function: write `async def {method}`"
    async with running() as system:
        ref = system.spawn(kind)
        if method == "receive":
            with pytest.raises(TypeError) as caught:
                await ref.ask("hello")
            assert caught.value.__notes__ == [hint]
        else:
            await system.wait_for_event(lambda event: type(event).__name__ == "ActorStopped")
    assert hint in caplog.text


async def test_an_error_of_the_actors_own_code_gets_no_such_note() -> None:
    class Wrong(Actor):
        async def receive(self, message: object) -> None:
            raise TypeError("object int can't be used in 'await' expression")

    async with running() as system:
        with pytest.raises(TypeError) as caught:
            await system.spawn(Wrong).ask("hello")
        assert not hasattr(caught.value, "__notes__")


class Numbered(Actor):
    def __init__(self, number: int, *, step: int = 1) -> None:
        self.number = number

    async def receive(self, message: object) -> int:
        if message == "fail":
            raise ValueError(message)
        return self.number


async def test_arguments_after_the_factory_are_its_own_at_the_spawn_and_at_each_restart() -> None:
    async with ActorSystem() as system:
        refs = [system.spawn(Numbered, n, name=f"worker-{n}") for n in range(3)]
        assert [await ref.ask("number") for ref in refs] == [0, 1, 2]
        for ref in refs:
            with pytest.raises(ValueError, match="fail"):
                await ref.ask("fail")
        assert [await ref.ask("number") for ref in refs] == [0, 1, 2]


@pytest.mark.parametrize("args", [(), (1, 2)])
async def test_h16_arguments_that_do_not_fit_are_explained(args: tuple[int, ...]) -> None:
    async with ActorSystem() as system:
        spawn: Any = system.spawn
        with pytest.raises(TypeError, match="positional argument") as caught:
            spawn(Numbered, *args)
        assert "spawn(factory, *args) calls the factory with these arguments" in caught.value.__notes__[0]
