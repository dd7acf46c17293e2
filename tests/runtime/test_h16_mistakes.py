"""H16: a mistake of a beginner has the text that docs/how-to/troubleshooting.md shows."""

from __future__ import annotations

import copy
import gc
import pickle
import re
import sys
import threading
import time
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from papyra import (
    Actor,
    ActorContext,
    ActorStopped,
    ActorSystem,
    AskDeadlock,
    AskTimeout,
    exceptions,
)
from papyra._runtime import running_system
from papyra._runtime.observation import watchdog
from papyra._runtime.resources.actor_timers import ActorTimers
from papyra.address import ActorAddress

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "troubleshooting.md"


def shown() -> dict[str, str]:
    """Return the text that each section of the page shows, by the section's title."""
    sections = re.split(r"^## ", PAGE.read_text("utf-8"), flags=re.MULTILINE)[1:]
    found = {}
    for section in sections:
        (text,) = re.findall(r"```pytb\n(.*?)\n```", section, re.DOTALL)
        found[section.partition("\n")[0]] = text
    return found


class Till(Actor):
    async def receive(self, message: Any) -> Any:
        return await message(self) if callable(message) else message


class Stream(Actor):
    async def receive(self, message: Any) -> Any:  # type: ignore[override]  # the mistake
        yield message


class Plain(Actor):
    def receive(self, message: Any) -> Any:  # the mistake
        return message


class NoDisk(Actor):
    async def on_start(self) -> None:
        raise OSError("no disk")


async def without_await(system: ActorSystem) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        system.spawn(Till).tell(1)  # type: ignore[unused-coroutine]  # the mistake
        gc.collect()
    raise caught[0].message  # type: ignore[misc]  # a warning, not a text


async def fail(till: Till) -> None:
    raise ValueError("no change")


async def to_a_failed_one(system: ActorSystem) -> None:
    till = system.spawn(Till)
    with pytest.raises(ValueError, match="no change"):
        await till.ask(fail)
    while system.refs(alive_only=False):  # noqa: ASYNC110 - it need not be watched
        await anyio.sleep(0.001)
    await till.tell(1)


async def to_a_stopped_one(system: ActorSystem) -> None:
    till = system.spawn(Till)
    await system.stop(till)
    await till.tell(1)


async def after_the_close(system: ActorSystem) -> None:
    till = system.spawn(Till)
    await system.aclose()
    await till.tell(1)


async def spawn_after_the_close(system: ActorSystem) -> None:
    await system.aclose()
    system.spawn(Till)


async def before_the_start(system: ActorSystem) -> None:
    ActorSystem().spawn(Till)


async def ask_in_a_circle(system: ActorSystem) -> None:
    await system.spawn(Till).ask(lambda till: till.context.self_ref.ask(1))


async def tell_in_a_circle(system: ActorSystem) -> None:
    async def fill(till: Till) -> None:
        await till.context.self_ref.tell(1)
        await till.context.self_ref.tell(2)

    await system.spawn(Till, mailbox_capacity=1).ask(fill)


async def wrong_system(system: ActorSystem) -> None:
    async with ActorSystem(system_id="other") as other:
        await other.stop(system.spawn(Till))


async def wrong_thread(system: ActorSystem) -> None:
    till, raised = system.spawn(Till), list[BaseException]()

    def tell() -> None:
        try:
            till.tell(1).send(None)
        except RuntimeError as error:
            raised.append(error)

    thread = threading.Thread(target=tell)
    thread.start()
    thread.join()
    raise raised[0]


async def not_a_reference(system: ActorSystem) -> None:
    await system.stop(Till())  # type: ignore[arg-type]  # the mistake


async def positional_tick(system: ActorSystem) -> None:
    async def start(till: Till) -> None:
        till.context.timers.start_single("k", 1.0, print)  # type: ignore[arg-type]  # the mistake

    await system.spawn(Till).ask(start)


async def to_one_that_failed_at_length(system: ActorSystem) -> None:
    async def fail_at_length(till: Till) -> None:
        raise ValueError("the till has no " + "coins, " * 60)

    till = system.spawn(Till)
    with pytest.raises(ValueError, match="coins"):
        await till.ask(fail_at_length)
    while system.refs(alive_only=False):  # noqa: ASYNC110 - it need not be watched
        await anyio.sleep(0.001)
    await till.tell(1)


MISTAKES: dict[str, Callable[[ActorSystem], Awaitable[object]]] = {
    "A send without await": without_await,
    "An instance instead of a class": lambda system: system.spawn(Till()),  # type: ignore
    "Too many arguments": lambda system: system.spawn(Till, 1, 2),  # type: ignore
    "A keyword argument for the factory": lambda system: system.spawn(Till, coins=5),  # type: ignore
    "A timer without a keyword": positional_tick,
    "A receive that is an async generator": lambda system: system.spawn(Stream).ask(1),
    "A receive that is a plain function": lambda system: system.spawn(Plain).ask(1),
    "An on_start that raises": lambda system: system.spawn(NoDisk).ask(1),
    "A send to an actor that has failed": to_a_failed_one,
    "A send to an actor that has failed with a long text": to_one_that_failed_at_length,
    "A send to an actor that was stopped": to_a_stopped_one,
    "A send after the close": after_the_close,
    "A spawn after the close": spawn_after_the_close,
    "A spawn before the start": before_the_start,
    "An ask in a circle": ask_in_a_circle,
    "A tell in a circle": tell_in_a_circle,
    "An actor of another system": wrong_system,
    "An actor instead of its reference": not_a_reference,
    "An exception instead of an event": lambda system: system.wait_for_event(ActorStopped),  # type: ignore
    "A call from another thread": wrong_thread,
}
LOGGED = {"A receive that blocks", "An on_start that does not end", "A close that waits"}


def matches(title: str, text: str) -> bool:
    pattern = ".*".join(map(re.escape, shown()[title].split("...")))
    return re.fullmatch(pattern, text) is not None


def test_h16_the_page_shows_these_errors_and_no_others() -> None:
    assert shown().keys() == MISTAKES.keys() | LOGGED


@pytest.mark.parametrize("title", MISTAKES)
async def test_h16_a_mistake_has_the_text_of_the_page(title: str) -> None:
    text = ""
    async with ActorSystem() as system:
        sys.set_coroutine_origin_tracking_depth(0)  # asyncio's debug mode shows where a coroutine was made
        try:
            result = MISTAKES[title](system)
            await result
        except Exception as error:
            text = "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])
            error.__traceback__ = None
    assert matches(title, text), text


def logged(caplog: pytest.LogCaptureFixture, words: str) -> list[str]:
    found = [f"{each.levelname} {each.name}: {each.getMessage()}" for each in caplog.records]
    return [line for line in found if words in line]


async def test_h16_a_receive_that_blocks_has_the_text_of_the_page(caplog: pytest.LogCaptureFixture) -> None:
    async def hold(till: Till) -> None:
        end = time.monotonic() + 60
        while not logged(caplog, "has held") and time.monotonic() < end:
            time.sleep(0.01)  # noqa: ASYNC251 - the mistake

    async with ActorSystem() as system:
        await system.spawn(Till).ask(hold)
    (line,) = logged(caplog, "has held")
    assert matches("A receive that blocks", line), line


async def test_h16_an_endless_on_start_has_the_text_of_the_page(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = anyio.Event()

    class Till(Actor):
        async def on_start(self) -> None:
            started.set()
            await anyio.sleep_forever()

    async with ActorSystem(shutdown_timeout=0) as system:
        system.spawn(Till)
        await started.wait()
        monkeypatch.setattr(watchdog, "LONG_SECONDS", 0.0)
        watches = system._core.watchdog  # type: ignore[union-attr]  # it runs
        watches._name_long(time.monotonic() + 61)
        watches._name_long(time.monotonic() + 62)
    (line,) = logged(caplog, "on_start")
    assert matches("An on_start that does not end", line), line


def test_h16_each_call_for_a_tick_names_its_keywords() -> None:
    for method in (
        ActorTimers.start_single,
        ActorTimers.start_fixed_delay,
        ActorTimers.start_fixed_rate,
        ActorContext.set_receive_timeout,
    ):
        given = 2 if method is ActorContext.set_receive_timeout else 3
        with pytest.raises(TypeError, match=re.escape(f"{method.__name__}() needs its action as a keyword")):
            method(*[None] * given, print)  # type: ignore[operator]  # the mistake


async def test_h16_each_spawn_names_a_keyword_of_the_factory() -> None:
    async def spawn_child(till: Till) -> None:
        till.context.spawn_child(Till, coins=5)  # type: ignore[arg-type]  # the mistake

    async with ActorSystem() as system:
        with pytest.raises(TypeError, match=re.escape("spawn(partial(Till, coins=...))")):
            system.spawn_or_get(Till, name="till", coins=5)  # type: ignore[arg-type]  # the mistake
        with pytest.raises(TypeError, match=re.escape("spawn(partial(Till, coins=...))")):
            await system.spawn(Till).ask(spawn_child)


async def test_h16_an_endless_receive_at_a_close_has_the_text_of_the_page(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running_system, "QUIET_CLOSE_SECONDS", 0.01)

    async def never_end(till: Till) -> None:
        while True:  # noqa: ASYNC110 - the mistake
            await anyio.sleep(0.01)

    async with ActorSystem(shutdown_timeout=0.1) as system:
        await system.spawn(Till).tell(never_end)
    (line,) = logged(caplog, "closing waits")
    assert matches("A close that waits", line), line


# -- exceptions as values


async def test_h16_errors_copy_and_pickle_whole_and_hold_addresses() -> None:
    async with ActorSystem() as system:
        till = system.spawn(Till)
        cell = till._cell
        errors: list[exceptions.PapyraError] = [
            ActorStopped(cell),
            AskDeadlock([cell, cell], "room"),
            AskTimeout(cell, 1.5),
            exceptions.MailboxFull(cell, 3),
            exceptions.StashOverflow(cell, 3),
            exceptions.UnhandledMessage(cell, "int"),
            exceptions.ReplyDropped(cell),
            exceptions.ActorNameTaken("till", cell),
            exceptions.Reject(ValueError("no")),
            exceptions.SystemNotRunning("local", "spawn", closed=True),
            exceptions.PersistenceError("no room", retry=True),
            exceptions.PartialWriteError(1, 2),
            exceptions.BackendURLError("bad"),
            exceptions.PluginError("bad"),
            exceptions.UnknownBackend("tape", ["json"]),
            exceptions.NotClustered("local"),
            exceptions.UnknownTransport("nats", ["memory"]),
        ]
    for error in errors:
        for twin in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
            assert type(twin) is type(error)
            assert str(twin) == str(error)
            assert repr(vars(twin)) == repr(vars(error))
        for value in (*vars(error).values(), *getattr(error, "cycle", ())):
            assert value is not cell
    assert errors[0].actor == ActorAddress("local", 1)  # type: ignore[attr-defined]  # the first one
    assert errors[1].cycle == (ActorAddress("local", 1),) * 2  # type: ignore[attr-defined]  # the second one


async def test_h16_a_stop_in_a_circle_does_not_advise_to_tell() -> None:
    async with ActorSystem() as system:
        first, second = system.spawn(Till), system.spawn(Till)

        async def stop_second(till: Till) -> None:
            await system.stop(second)

        with pytest.raises(AskDeadlock, match=re.escape("waiting for this stop would never end")) as caught:
            await second.ask(lambda till: first.ask(stop_second))
    assert caught.value.wait == "stop"
    assert "stop_self()" in str(caught.value)
    assert "tell" not in str(caught.value)


def test_h16_a_clock_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(
        TypeError, match="time_fn must be a function that returns Unix time in seconds, not 3"
    ):
        ActorSystem(time_fn=3)  # type: ignore[arg-type]  # the mistake


@pytest.mark.parametrize("name", ["kaffee-küche", "x" * 65])
def test_h16_a_node_of_a_cluster_needs_a_name_that_travels(name: str) -> None:
    with pytest.raises(ValueError, match="has 1 to 64 letters, digits, '_' and '-', and is not"):
        ActorSystem(system_id=name, cluster="memory:shop")
