"""H1, H2: the places where user code runs, as docs/design/runtime.md names them, each with a scenario.

A scenario makes user code run in its place, and ends when that has happened.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest

from papyra import (
    ActorStopped,
    ActorSystem,
    Backoff,
    GroupPolicy,
    Strategy,
    SupervisionPolicy,
    SystemHooks,
)
from papyra.deadletters import DeadLetterPolicy
from papyra.hooks import HOOK_NAMES
from papyra.instruments import Instrument
from papyra.persistence.startup import PersistenceStartupMode
from papyra_contrib.eventstream import EventStream
from papyra_contrib.patterns import CircuitBreaker

from .odd import Raises, values
from .support import RESTART, Boom, Echo, Gated, Runs, boom, go_round, nothing, wait_until
from .test_hooks import Damaged

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Options = Callable[["Bad"], dict[str, Any]]
    Scenario = Callable[[ActorSystem, "Bad"], Awaitable[object]]

USER: ContextVar[Any] = ContextVar("user")


class Bad:
    """User code that misbehaves in one way whenever it is called while ``armed``."""

    def __init__(self, error: BaseException | None, value: Any = None) -> None:
        self.error, self.value = error, value
        self.armed = True
        self.calls = 0

    def __call__(self, *_: Any, **__: Any) -> Any:
        if not self.armed:
            return None
        self.calls += 1
        if self.error is not None:
            raise self.error
        return self.value

    def hook(self, *_: Any) -> Any:
        """Misbehave at the call and as an async hook, in turns."""
        return self.later() if self.calls % 2 else self()

    async def later(self, *_: Any) -> Any:
        return self()


class Marks(Instrument):
    """Marks each message, so that it sees all of them."""

    def send(self, target: Any, message: object, asks: bool) -> tuple[object, int]:
        return "mark", 1


SCENARIOS: dict[str, tuple[Scenario, Options | None]] = {}


def place(name: str, options: Options | None = None) -> Callable[[Scenario], Scenario]:
    """Register the scenario of a row, and what its system is made with."""

    def register(scenario: Scenario) -> Scenario:
        assert name not in SCENARIOS
        SCENARIOS[name] = scenario, options
        return scenario

    return register


async def attempt(call: Awaitable[Any]) -> None:
    """Await what may end with the misbehaving code's own error."""
    with suppress(Exception, SystemExit):
        await call


async def letter(system: ActorSystem, message: Any = "late") -> None:
    """Cause a dead letter."""
    ref = system.spawn(Echo)
    await ref.stop()
    await attempt(ref.tell(message))


@place("`receive`, also after `become`")
async def _(system: ActorSystem, bad: Bad) -> None:
    await attempt(system.spawn(Runs).ask(bad.later))
    ref = system.spawn(Runs)
    await ref.tell(lambda actor: actor.become(bad.later))
    await attempt(ref.ask(1))


def overriding(name: str, method: Any) -> type[Runs]:
    return type("Overriding", (Runs,), {name: method})


@place("`on_start`")
async def _(system: ActorSystem, bad: Bad) -> None:
    await attempt(system.spawn(overriding("on_start", bad.later)).ask(nothing))


@place("`on_stop`")
async def _(system: ActorSystem, bad: Bad) -> None:
    await system.spawn(overriding("on_stop", bad.later)).stop()


@place("the factory (`__init__`), at `spawn`")
async def _(system: ActorSystem, bad: Bad) -> None:
    async def spawn() -> None:
        system.spawn(overriding("__init__", bad))

    await attempt(spawn())


@place("the factory (`__init__`), at a restart")
async def _(system: ActorSystem, bad: Bad) -> None:
    bad.armed = False
    ref = system.spawn(overriding("__init__", bad), policy=RESTART)
    bad.armed = True
    await attempt(ref.ask(boom))
    await wait_until(lambda: bad.calls)


@place("`delay` of a `Backoff`")
async def _(system: ActorSystem, bad: Bad) -> None:
    kind: Any = type("Waits", (Backoff,), {"delay": bad})
    ref = system.spawn(Runs, policy=SupervisionPolicy(Strategy.RESTART, backoff=kind(0, 0)))
    await attempt(ref.ask(boom))
    group = GroupPolicy(backoff=kind(0, 0))
    await attempt(system.spawn(overriding("children_policy", group)).ask(failing_child))
    assert await ref.ask(nothing) == "answer"


@place("`own_task`, at `spawn`")
async def _(system: ActorSystem, bad: Bad) -> None:
    async def spawn() -> None:
        system.spawn(overriding("own_task", property(bad)))

    await attempt(spawn())


@place("`own_task`, at a restart")
async def _(system: ActorSystem, bad: Bad) -> None:
    bad.armed = False
    ref = system.spawn(overriding("own_task", property(bad)), policy=RESTART)
    bad.armed = True
    await attempt(ref.ask(boom))
    await wait_until(lambda: bad.calls)


@place("`own_task`, when the task begins")
async def _(system: ActorSystem, bad: Bad) -> None:
    bad.armed = False
    kind = overriding("own_task", property(lambda actor: bad(actor) or True))
    ref = system.spawn(kind)
    bad.armed = True
    await attempt(ref.ask(nothing))


async def failing_child(actor: Runs) -> None:
    await attempt(actor.context.spawn_child(Runs).ask(boom))


@place("`on_child_failure`")
async def _(system: ActorSystem, bad: Bad) -> None:
    await attempt(system.spawn(overriding("on_child_failure", bad.later)).ask(failing_child))
    await wait_until(lambda: bad.calls)


@place("`children_policy`")
async def _(system: ActorSystem, bad: Bad) -> None:
    parent = system.spawn(overriding("children_policy", property(bad)))
    await attempt(parent.ask(failing_child))


async def background(system: ActorSystem, bad: Bad, begin: Callable[[Any], object]) -> None:
    await attempt(system.spawn(Runs).ask(begin))
    await wait_until(lambda: bad.calls)
    await go_round()


@place("background work of `pipe_to_self`")
async def _(system: ActorSystem, bad: Bad) -> None:
    await background(
        system, bad, lambda actor: actor.context.pipe_to_self(bad.later, lambda _: None) and None
    )


@place("`then` of `pipe_to_self`")
async def _(system: ActorSystem, bad: Bad) -> None:
    def begin(actor: Any) -> None:
        actor.context.pipe_to_self(lambda: nothing(None), bad)

    await background(system, bad, begin)


@place("`catch` of `pipe_to_self`")
async def _(system: ActorSystem, bad: Bad) -> None:
    def begin(actor: Any) -> None:
        actor.context.pipe_to_self(lambda: boom(None), lambda _: None, catch=bad)

    await background(system, bad, begin)


@place("`start_soon`")
async def _(system: ActorSystem, bad: Bad) -> None:
    def begin(actor: Any) -> None:
        actor.context.start_soon(bad.later)

    await background(system, bad, begin)


@place("`call=` of a timer")
async def _(system: ActorSystem, bad: Bad) -> None:
    await background(system, bad, lambda actor: actor.context.timers.start_single("key", 0, call=bad))


@place("special methods of a timer's key")
async def _(system: ActorSystem, bad: Bad) -> None:
    key = type("Key", (), {"__hash__": bad, "__eq__": bad})()
    await background(system, bad, lambda actor: actor.context.timers.start_single(key, 0, send="tick"))


@place("methods and attributes that a proxy uses")
async def _(system: ActorSystem, bad: Bad) -> None:
    proxy = system.spawn(type("Seen", (Runs,), {"method": bad, "attribute": property(bad)})).proxy()
    await attempt(proxy.attribute)
    await attempt(proxy.method())


@place("special methods of messages")
async def _(system: ActorSystem, bad: Bad) -> None:
    bad.calls += 1  # no code of a message is to run
    for value in (*values(), bad.value):
        ref = system.spawn(Runs)
        await ref.tell(value)
        await attempt(ref.ask(value))
        await letter(system, value)


@place("special methods of replies")
async def _(system: ActorSystem, bad: Bad) -> None:
    bad.calls += 1  # as above
    for value in (*values(), bad.value):
        await attempt(system.spawn(Runs).ask(lambda _, value=value: value))
        await attempt(system.spawn(Runs).ask(lambda actor: actor.context.reply_later().later))


@place("special methods of exceptions")
async def _(system: ActorSystem, bad: Bad) -> None:
    error = type("Odd", (Boom, TypeError), dict.fromkeys(("__str__", "__repr__", "__bool__", "__eq__"), bad))

    def fail(_: Any) -> None:
        raise error("odd")

    await attempt(system.spawn(Runs).ask(fail))
    await wait_until(lambda: bad.calls)


@place("values of context variables")
async def _(system: ActorSystem, bad: Bad) -> None:
    bad.calls += 1  # as above
    token = USER.set(Raises())
    for ref in (system.spawn(Runs), system.spawn(Runs)):
        await ref.ask(lambda _: USER.set(bad.value) and None)
    USER.reset(token)


def hooked(name: str) -> Options:
    return lambda bad: {
        "hooks": SystemHooks(**{name: bad.hook}),
        "persistence": Damaged(),
        "persistence_startup": PersistenceStartupMode.RECOVER,
    }


async def everything(system: ActorSystem, bad: Bad) -> None:
    """Cause whatever hooks and instruments are called for, twice."""
    for _ in range(2):
        await letter(system)
        await attempt(system.spawn(Runs).ask(boom))
        await attempt(system.spawn(Echo).ask(1))
        system.audit()
        await system.flush()
    await wait_until(lambda: bad.calls)


for each in HOOK_NAMES:
    place(f"hook `{each}`", hooked(each))(everything)
place("callback `on_dead_letter=`", lambda bad: {"on_dead_letter": bad.hook})(everything)


@place("`redact` of a dead letter policy", lambda bad: {"dead_letter_policy": DeadLetterPolicy(redact=bad)})
async def _(system: ActorSystem, bad: Bad) -> None:
    await letter(system)
    gated = system.spawn(Gated)
    await gated.tell(1)
    await gated.tell(2)
    await system.stop(gated, timeout=0)  # the runtime's own task makes this one


METHODS = ("started", "send", "begin", "end", "replied")
for each in METHODS:
    kind = lambda bad, each=each: {"instruments": [type("Odd", (Marks,), {each: bad})()]}  # noqa: E731 - one line
    place(f"`{each}` of an instrument", kind)(everything)


@place("`run` of an instrument", lambda bad: {"instruments": [type("Odd", (Marks,), {"run": bad.later})()]})
async def _(_: ActorSystem, bad: Bad) -> None:
    await wait_until(lambda: bad.calls)


@place("filters and handlers of the logger `papyra`", lambda _: {})
async def _(system: ActorSystem, bad: Bad) -> None:
    logger, handler = logging.getLogger("papyra"), logging.Handler()
    handler.emit = bad  # type: ignore[method-assign]  # it takes anything
    for add, remove in (
        (lambda: logger.addFilter(bad), lambda: logger.removeFilter(bad)),
        (lambda: logger.addHandler(handler), lambda: logger.removeHandler(handler)),
    ):
        add()
        try:
            await everything(system, bad)
            await attempt(system.spawn(Runs, policy=RESTART).ask(boom))
            with pytest.raises(ActorStopped):
                await system.spawn(overriding("on_start", boom)).ask(1)
        finally:
            remove()


@place("`time_fn`", lambda bad: {"time_fn": bad})
async def _(system: ActorSystem, bad: Bad) -> None:
    await everything(system, bad)
    await attempt(system.spawn(Runs, policy=RESTART).ask(boom))  # which counts its restarts
    await system.compact()


@place("predicate of `wait_for_event`")
async def _(system: ActorSystem, bad: Bad) -> None:
    await attempt(system.wait_for_event(bad, timeout=0.01))


@place("subscribers of an `EventStream`")
async def _(system: ActorSystem, bad: Bad) -> None:
    stream, ref = EventStream.of(system), system.spawn(overriding("receive", bad.later))
    stream.subscribe(ref, object)
    for value in (1, *values()):
        await attempt(stream.publish(value))
    await wait_until(lambda: bad.calls)


@place("`counts=` of a `CircuitBreaker`")
async def _(system: ActorSystem, bad: Bad) -> None:
    breaker = CircuitBreaker(system, counts=bad)
    await attempt(breaker.call(system.spawn(Runs).request(boom)))
