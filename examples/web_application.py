"""The actors of a web application: a cache that loads in threads, requests from synchronous handlers, orderly
shutdown.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from functools import partial
from threading import Thread

import anyio
import anyio.lowlevel

from papyra import Actor, ActorRef, ActorSystem, Askable, GroupPolicy, Portal, Reply


def load_from_database(key: str) -> str:
    """Stand for a blocking driver."""
    time.sleep(0.005)
    if key == "unknown":
        raise LookupError(key)
    return f"row of {key}"


@dataclass(frozen=True)
class Get(Askable[str]):
    key: str


@dataclass(frozen=True)
class Count(Askable[int]):
    pass


class Cache(Actor):
    """Loads each key once, however many ask for it meanwhile, and forgets it after a while."""

    keep_seconds = 60.0

    def __init__(self, requests: ActorRef[str | Count, int]) -> None:
        self.requests = requests
        self.rows: dict[str, str] = {}
        self.loading: dict[str, list[Reply[str]]] = {}

    async def receive(self, message: Get) -> str:
        key = message.key
        self.requests.tell_nowait(key)
        if key in self.rows:
            return self.rows[key]
        handle: Reply[str] = self.context.reply_later()
        waiting = self.loading.setdefault(key, [])
        waiting.append(handle)
        if len(waiting) == 1:
            self.context.pipe_to_self(
                partial(self.context.run_blocking, load_from_database, key),
                partial(self.loaded, key),
                catch=partial(self.failed, key),
            )
        return handle.later

    def loaded(self, key: str, row: str) -> None:
        self.rows[key] = row
        self.context.timers.start_single(key, self.keep_seconds, call=lambda: self.rows.pop(key, None))
        for handle in self.loading.pop(key):
            handle.send(row)

    def failed(self, key: str, error: Exception) -> None:
        for handle in self.loading.pop(key):
            handle.fail(error)


class Requests(Actor):
    """Counts requests."""

    def __init__(self) -> None:
        self.count = 0

    async def receive(self, message: str | Count) -> int:
        self.count += isinstance(message, str)
        return self.count


class Application(Actor):
    """Keeps the parts together: they restart in order, the newest going down first."""

    children_policy = GroupPolicy(grace=1.0)

    async def on_start(self) -> None:
        self.requests = self.context.spawn_child(Requests)
        self.cache = self.context.spawn_child(Cache, self.requests)

    async def receive(self, message: Get | Count) -> str | int:
        return await self.context.forward(self.cache if isinstance(message, Get) else self.requests, message)


def handler(portal: Portal, app: ActorRef[Get | Count, str | int], key: str, answers: list[str]) -> None:
    """Stand for a request handler of a synchronous framework, in a thread of its server."""
    try:
        answers.append(portal.ask(app, Get(key), timeout=5))
    except LookupError as error:
        answers.append(f"404 {error}")


async def main() -> None:
    system = ActorSystem()
    await system.start()
    app = system.spawn(Application, name="application")
    portal, answers = system.portal(), list[str]()
    keys = ["a", "b", "a", "unknown", "a"]
    threads = [Thread(target=handler, args=(portal, app, key, answers)) for key in keys]
    for thread in threads:
        thread.start()
    while len(answers) < len(keys):
        await anyio.lowlevel.checkpoint()
    print(*sorted(answers), sep="\n")
    print("requests:", await app.ask(Count()))
    await system.aclose(deadline=20)  # returns within 21 seconds, whatever happens


if __name__ == "__main__":
    anyio.run(main, backend=sys.argv[1] if len(sys.argv) > 1 else "asyncio")
