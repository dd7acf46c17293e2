"""The web application without primitives: rows that are events, and anyio's portal and threads.

It promises less than its twin: if a part fails, new parts are spawned, and what the old ones had is lost.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from threading import Thread

import anyio
import anyio.lowlevel
import anyio.to_thread
from anyio.from_thread import BlockingPortal

from papyra import Actor, ActorRef, ActorStopped, ActorSystem, Askable, Strategy, SupervisionPolicy


def load_from_database(key: str) -> str:
    """Stand for a blocking driver."""
    time.sleep(0.005)
    if key == "unknown":
        raise LookupError(key)
    return f"row of {key}"


@dataclass
class Row:
    """A row that may still be on its way."""

    loaded: anyio.Event = field(default_factory=anyio.Event)
    content: str = ""
    error: Exception | None = None


@dataclass(frozen=True)
class Get(Askable[Row]):
    """Use `get`, which waits for the row."""

    key: str


@dataclass(frozen=True)
class Count(Askable[int]):
    pass


class Cache(Actor):
    """Loads each key once, however many ask for it meanwhile, and forgets it after a while."""

    own_task = True
    keep_seconds = 60.0

    def __init__(self, requests: ActorRef[str | Count, int]) -> None:
        self.requests = requests
        self.rows: dict[str, Row] = {}
        self.threads = anyio.CapacityLimiter(16)

    async def on_start(self) -> None:
        self.tasks = await anyio.create_task_group().__aenter__()

    async def on_stop(self) -> None:
        try:
            for row in list(self.rows.values()):
                await row.loaded.wait()
        finally:
            self.tasks.cancel_scope.cancel()
            await self.tasks.__aexit__(None, None, None)

    async def receive(self, message: Get) -> Row:
        key = message.key
        await self.requests.tell(key)
        if key not in self.rows:
            self.rows[key] = Row()
            self.tasks.start_soon(self.load, key, self.rows[key])
        return self.rows[key]

    async def load(self, key: str, row: Row) -> None:
        row.error = ActorStopped(self.context.self_ref)  # unless something better comes
        try:
            row.content = await anyio.to_thread.run_sync(load_from_database, key, limiter=self.threads)
            row.error = None
        except LookupError as error:
            row.error = error
            del self.rows[key]
            return
        finally:
            row.loaded.set()
        await anyio.sleep(self.keep_seconds)
        del self.rows[key]


class Requests(Actor):
    """Counts requests."""

    def __init__(self) -> None:
        self.count = 0

    async def receive(self, message: str | Count) -> int:
        self.count += isinstance(message, str)
        return self.count


class Application(Actor):
    """Keeps the parts together: when one fails all are spawned anew, after the newest has gone down first."""

    async def on_start(self) -> None:
        policy = SupervisionPolicy(Strategy.ESCALATE)
        self.requests = self.context.spawn_child(Requests, policy=policy)
        self.cache = self.context.spawn_child(Cache, self.requests, policy=policy)

    async def receive(self, message: Get | Count) -> Row | int:
        if isinstance(message, Get):
            return await self.cache.ask(message)
        return await self.requests.ask(message)


async def get(app: ActorRef[Get | Count, Row | int], key: str) -> str:
    with anyio.fail_after(5):
        row = await app.ask(Get(key))
        await row.loaded.wait()
    if row.error is not None:
        raise row.error
    return row.content


def handler(
    portal: BlockingPortal, app: ActorRef[Get | Count, Row | int], key: str, answers: list[str]
) -> None:
    """Stand for a request handler of a synchronous framework, in a thread of its server."""
    try:
        answers.append(portal.call(get, app, key))
    except LookupError as error:
        answers.append(f"404 {error}")


async def main() -> None:
    system = ActorSystem(shutdown_timeout=12)
    await system.start()
    app = system.spawn(Application, name="application")
    answers = list[str]()
    keys = ["a", "b", "a", "unknown", "a"]
    async with BlockingPortal() as portal:
        threads = [Thread(target=handler, args=(portal, app, key, answers)) for key in keys]
        for thread in threads:
            thread.start()
        while len(answers) < len(keys):
            await anyio.lowlevel.checkpoint()
    print(*sorted(answers), sep="\n")
    print("requests:", await app.ask(Count()))
    with anyio.move_on_after(20):
        await system.aclose()


if __name__ == "__main__":
    anyio.run(main, backend=sys.argv[1] if len(sys.argv) > 1 else "asyncio")
