"""Actors, messages and waits that the tests of the cluster share."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial, wraps
from typing import Any

import anyio

from papyra import Actor, ActorRef, ActorSystem, ActorTerminated
from papyra.testing import run_seeded
from papyra_contrib.cluster import ServiceKey, message

COUNTER = ServiceKey[Any, Any]("counter")


@message("test.Add")
@dataclass
class Add:
    by: int = 1
    reply_to: ActorRef[Any, Any] | None = None


@message("test.Number")
@dataclass
class Number:
    value: int


class Unregistered:
    pass


@message("test.Refused")
class Refused(Exception):
    pass


class Strange(Exception):
    pass


class Counter(Actor):
    """Adds up, and raises what it is asked to."""

    def __init__(self) -> None:
        self.total = 0

    async def receive(self, message: Any) -> Any:
        match message:
            case Add():
                self.total += message.by
                if message.reply_to is not None:
                    await message.reply_to.tell(Number(self.total))
            case "get":
                return self.total
            case "value error":
                raise ValueError("no good")
            case "key error":
                raise KeyError("k")
            case "refused":
                raise Refused("not today")
            case "strange":
                raise Strange("very")
            case "unregistered":
                return Unregistered()
            case "sleep":
                await anyio.sleep(1000)
            case "stop":
                self.context.stop_self()
        return message if isinstance(message, Number) else self.total


class Recorder(Actor):
    """Keeps the numbers it gets, in order, in a list that outlives it."""

    def __init__(self, seen: list[Any], pause: float = 0.0) -> None:
        self.seen = seen
        self.pause = pause

    async def receive(self, message: Any) -> Any:
        if self.pause:
            await anyio.sleep(self.pause)
        self.seen.append(message)
        return len(self.seen)


@dataclass
class Watcher:
    """The notices that a watching actor got."""

    told: list[ActorTerminated] = field(default_factory=list)

    def actor(self) -> Actor:
        watcher = self

        class Watching(Actor):
            async def receive(self, message: Any) -> Any:
                if isinstance(message, ActorTerminated):
                    watcher.told.append(message)
                elif isinstance(message, ActorRef):
                    self.context.watch(message)

        return Watching()

    @property
    def reasons(self) -> list[str]:
        return [message.reason for message in self.told]


def loop_of(seed: int) -> Any:
    """Return the event loop for a seed of a sweep; not in step with the faults chosen by ``seed % n``."""
    return ("asyncio", "trio")[seed // 12 % 2]


def seeded(seed: int) -> Callable[[Callable[..., Coroutine[Any, Any, None]]], Callable[..., None]]:
    """Run an async test by `run_seeded`, on both event loops."""

    def decorate(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
        @wraps(test)
        def run(backend: Any, **given: Any) -> None:
            run_seeded(seed, partial(test, **given), backend=backend)

        signature = inspect.signature(test)
        own = inspect.Parameter("backend", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        run.__signature__ = signature.replace(parameters=[own, *signature.parameters.values()])  # type: ignore[attr-defined]  # pytest reads it
        return run

    return decorate


@asynccontextmanager
async def systems(network: Any, *names: str, **options: Any):
    """Start a system for each name on a memory network."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(ActorSystem(system_id=name, cluster=network.cluster(**options)))
            for name in names
        ]


async def until(condition: Any, seconds: float = 60.0) -> None:
    """Wait for a state; look more rarely the longer it takes."""
    pause = 0.01
    with anyio.fail_after(seconds):
        while not condition():
            await anyio.sleep(pause)
            pause = min(0.1, pause * 1.2)


async def remote(system: ActorSystem, ref: ActorRef[Any, Any], owner: ActorSystem) -> ActorRef[Any, Any]:
    """Return a reference to an actor of ``owner`` as ``system`` sees it."""
    found = system.ref_for(owner.cluster.address(ref))
    assert found is not None
    await until(lambda: any(member.node == owner.system_id for member in system.cluster.members()))
    return found
