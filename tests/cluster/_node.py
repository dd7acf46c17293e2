"""A node in a process of its own: takes commands as lines of JSON, and prints replies and events as such."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

sys.path.insert(0, __file__.rpartition("/")[0])

import anyio.lowlevel
from _world import COUNTER, Counter, Recorder, Watcher

from papyra import Actor, ActorSystem, SystemHooks
from papyra_contrib.cluster import Cluster, Fence, NameLost, ServiceKey


def say(**values: Any) -> None:
    print(json.dumps({"at": time.time(), **values}), flush=True)


class Tell(SystemHooks):
    def on_event(self, event: Any) -> None:
        if type(event).__name__ in ("NodeUp", "NodeDown"):
            say(event=type(event).__name__, **event.payload)


class Sole(Actor):
    def __init__(self, fence: Fence) -> None:
        self.fence = fence

    async def on_start(self) -> None:
        say(event="sole", fence=str(self.fence))

    async def on_stop(self) -> None:
        say(event="sole stopped", fence=str(self.fence))

    async def receive(self, message: Any) -> str:
        return str(self.fence)


class Named(Actor):
    async def receive(self, message: Any) -> Any:
        if isinstance(message, NameLost):
            say(event="name lost", name=message.name)
        return message


class Shouting(Watcher):
    def actor(self) -> Actor:
        actor = super().actor()
        inner = actor.receive

        async def receive(message: Any) -> Any:
            await inner(message)
            if type(message).__name__ == "ActorTerminated":
                say(event="terminated", address=str(message.ref.address), reason=message.reason)

        actor.receive = receive  # type: ignore[method-assign]
        return actor


class Node:
    def __init__(self, system: ActorSystem) -> None:
        self.system = system
        self.watcher = system.spawn(lambda: Shouting().actor())
        self.seen: list[Any] = []
        self.refs: dict[str, Any] = {}

    def ref(self, address: str) -> Any:
        if address not in self.refs:
            self.refs[address] = self.system.ref_for(address)
        return self.refs[address]

    async def do(self, command: str, args: dict[str, Any]) -> Any:
        return await getattr(self, f"do_{command}")(**args)

    async def do_counter(self, capacity: int = 1024) -> str:
        ref = self.system.spawn(Counter, mailbox_capacity=capacity)
        await self.system.cluster.register(COUNTER, ref)
        return str(self.system.cluster.address(ref))

    async def do_recorder(self, capacity: int = 1024, pause: float = 0.0) -> str:
        seen = self.seen
        ref = self.system.spawn(lambda: Recorder(seen, pause), mailbox_capacity=capacity)
        return str(self.system.cluster.address(ref))

    async def do_slow(self) -> str:
        class Slow(Actor):
            async def receive(self, message: Any) -> None:
                await anyio.lowlevel.checkpoint()

        return str(self.system.cluster.address(self.system.spawn(Slow, mailbox_capacity=64)))

    async def do_flood(self, address: str, count: int) -> int:
        ref = self.ref(address)
        for number in range(count):
            await ref.tell(number)
        await ref.ask("end", timeout=60)
        return count

    async def do_rss(self) -> int:
        pages = int(Path("/proc/self/statm").read_text().split()[1])  # noqa: ASYNC240 - not a disk
        return pages * resource.getpagesize()

    async def do_seen(self, block: int = 1) -> list[int]:
        """Return how many messages were handled, how many twice, and how many out of order in their block."""
        last: dict[int, int] = {}
        late = 0
        for number in self.seen:
            late += number < last.get(number // block, 0)
            last[number // block] = number
        return [len(self.seen), len(self.seen) - len(set(self.seen)), late]

    async def do_processed(self, address: str) -> int:
        """Return how many messages an actor of this node, or of one of its former incarnations, handled."""
        ref = self.system.ref_for(f"{self.system.system_id}:{address.rpartition(':')[2]}")
        return self.system.actor_info(ref).processed

    async def do_local(self) -> int:
        return await self.system.spawn(Counter).ask("get", timeout=5)

    async def do_find(self) -> list[str]:
        return [str(self.system.cluster.address(ref)) for ref in self.system.cluster.find(COUNTER)]

    async def do_members(self) -> list[str]:
        return [f"{one.node}@{one.incarnation}" for one in self.system.cluster.members()]

    async def do_ask(self, address: str, message: Any = "get", timeout: float | None = 5.0) -> list[Any]:
        began = time.perf_counter()
        try:
            value = await self.ref(address).ask(message, timeout=timeout)
        except Exception as error:
            return [type(error).__name__, time.perf_counter() - began]
        return ["reply", time.perf_counter() - began, value]

    async def do_asks(self, address: str, seconds: float, pause: float = 0.01) -> dict[str, Any]:
        ends: dict[str, int] = {}
        longest = last = time.perf_counter()
        longest = 0.0
        stop = last + seconds
        while time.perf_counter() < stop:
            try:
                await self.ref(address).ask("get", timeout=2.0)
                end = "reply"
                longest, last = max(longest, time.perf_counter() - last), time.perf_counter()
            except Exception as error:
                end = type(error).__name__
            ends[end] = ends.get(end, 0) + 1
            await anyio.sleep(pause)
        return {"ends": ends, "longest": longest}

    async def do_tells(self, address: str, count: int, first: int = 0, rest: float = 0.0) -> dict[str, Any]:
        """Send ``count`` tells, and rest for a time after each 500."""
        sent, errors = 0, 0
        ref = self.ref(address)
        for number in range(first, first + count):
            if rest and number % 500 == 0:
                await anyio.sleep(rest)
            try:
                await ref.tell(number)
                sent += 1
            except Exception:
                errors += 1
        return {"sent": sent, "errors": errors}

    async def do_watch(self, address: str) -> None:
        await self.watcher.tell(self.ref(address))

    async def do_stop(self, address: str) -> None:
        node_id = int(address.rpartition(":")[2])
        ref = self.system.ref_for(f"{self.system.system_id}:{node_id}")
        if ref is not None:
            await self.system.stop(ref)

    async def do_block(self, duration: float) -> None:
        time.sleep(duration)  # noqa: ASYNC251 - on purpose: the loop stops

    async def do_claim(self, name: str) -> list[str]:
        ref = self.system.spawn(Named)
        try:
            return ["fence", str(await self.system.cluster.claim(name, ref))]
        except Exception as error:
            return [type(error).__name__, str(error)]

    async def do_lookup(self, name: str) -> str | None:
        ref = self.system.cluster.lookup(name)
        return None if ref is None else str(self.system.cluster.address(ref))

    async def do_singleton(self, name: str) -> None:
        await self.system.cluster.singleton(name, Sole)

    async def do_role(self, name: str) -> list[Any]:
        try:
            return ["reply", await self.system.cluster.role(ServiceKey(name)).ask("who", timeout=10)]
        except Exception as error:
            return [type(error).__name__]

    async def do_panel(self) -> Any:
        return self.system.control_panel()["cluster"]

    async def do_letters(self) -> int:
        return self.system.dead_letters.count


async def main(name: str, url: str, options: dict[str, Any]) -> None:
    try:
        system = ActorSystem(system_id=name, cluster=Cluster(url, **options), hooks=Tell())
        await system.start()
    except Exception as error:
        say(event="failed", error=f"{type(error).__name__}: {error}")
        return
    node = Node(system)
    say(event="ready", me=f"{name}@{system.cluster.me.incarnation}")
    async with anyio.create_task_group() as group:

        async def run(number: int, command: str, args: dict[str, Any]) -> None:
            try:
                say(reply=number, value=await node.do(command, args))
            except Exception as error:
                say(reply=number, error=f"{type(error).__name__}: {error}")

        while True:
            line = await anyio.to_thread.run_sync(sys.stdin.readline)
            if not line:
                break
            number, command, args = json.loads(line)
            if command == "quit":
                break
            group.start_soon(run, number, command, args)
        group.cancel_scope.cancel()
    await system.aclose()
    say(event="closed")


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2], json.loads(sys.argv[4]), backend=sys.argv[3])
