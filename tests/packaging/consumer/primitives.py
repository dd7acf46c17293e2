"""The primitives of the runtime, fully typed: mypy's strict mode and pyright's have nothing to say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, assert_type

from papyra import (
    Actor,
    ActorRef,
    ActorSystem,
    Askable,
    GroupPolicy,
    Portal,
    Reply,
    Request,
    RestartStrategy,
    ask_all,
)


@dataclass(frozen=True)
class Get(Askable[int]):
    key: str


@dataclass(frozen=True, slots=True)
class Name(Askable[str]):
    pass


@dataclass(frozen=True)
class Put:
    key: str
    value: int


class Store(Actor):
    children_policy = GroupPolicy(RestartStrategy.REST_FOR_ONE)
    stash_capacity = None

    def __init__(self) -> None:
        self.values: dict[str, int] = {}
        self.waiting: list[Reply[int | str | None]] = []

    async def on_start(self) -> None:
        self.become(self.starting)
        self.context.timers.start_fixed_rate("tick", 60, call=self.tick, initial_delay=0)
        self.context.timers.start_single("load", 1.5, send=Put("a", 1))
        self.context.set_receive_timeout(30, call=self.context.stop_self)
        self.context.start_soon(self.background, 1, name="background")
        self.context.pipe_to_self(self.load, self.loaded, catch=self.failed)

    async def starting(self, message: Get | Name | Put) -> int | str | None:
        self.unbecome()
        return self.context.stash(message)

    async def receive(self, message: Get | Name | Put) -> int | str | None:
        match message:
            case Get(key):
                if key not in self.values:
                    handle = self.context.reply_later()
                    self.waiting.append(handle)
                    return handle.later
                return self.values[key]
            case Name():
                parent = self.context.parent
                return "store" if parent is None else await self.context.forward(parent, message)
            case Put(key, value):
                self.values[key] = value
                assert_type(self.context.unstash_all(), int)
                return None
            case _:
                return self.context.unhandled(message)

    async def tick(self) -> None:
        size = await self.context.run_blocking(len, self.values)
        assert_type(size, int)

    async def background(self, number: int) -> None: ...

    async def load(self) -> dict[str, int]:
        return {}

    def loaded(self, values: dict[str, int]) -> None:
        self.values |= values

    async def failed(self, error: Exception) -> None: ...


class Echo(Actor):
    async def receive(self, message: str) -> bytes:
        return message.encode()


def in_a_thread(portal: Portal, store: ActorRef[Get | Name | Put, int | str | None]) -> None:
    portal.tell(store, Put("a", 2))
    assert_type(portal.ask(store, Get("a")), int)
    assert_type(portal.ask(store, Put("a", 3), timeout=1), int | str | None)


async def main(system: ActorSystem) -> None:
    store = system.spawn(Store, on_full="refuse")
    echo = system.spawn_or_get(Echo, name="echo")
    assert_type(echo, ActorRef[str, bytes])
    assert_type(await store.ask(Get("a")), int)
    assert_type(await store.ask(Name(), timeout=1), str)
    assert_type(await store.ask(Put("a", 1)), int | str | None)
    assert_type(store.request(Get("a")), Request[int])
    assert_type(await store.request(Get("a")), int)
    assert_type(await ask_all(store.request(Get("a")), store.request(Get("b"))), list[int])
    assert_type(await echo.ask("text"), bytes)
    assert_type(await ask_all(echo.request("a"), echo.request("b")), list[bytes])
    store.tell_nowait(Get("a"))
    assert_type(store.pending(), int)
    anything: ActorRef[Any, Any] = store
    assert_type(await anything.ask(Get("a")), int)
    in_a_thread(system.portal(window=8), store)
    await store.stop(timeout=1)
    await system.aclose(deadline=10)
