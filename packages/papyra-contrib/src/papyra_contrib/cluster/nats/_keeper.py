"""A thread with an event loop and a connection of its own: it keeps the lease and follows the registry.

So a node stays a member while the program's loop is busy for a while.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Any, Final

from papyra_contrib.cluster._errors import Conflict, TransportError
from papyra_contrib.cluster.nats._bucket import Bucket
from papyra_contrib.cluster.nats._client import NATS_ERRORS, ConnectionMonitor, connect
from papyra_contrib.cluster.nats._follower import Follower
from papyra_contrib.cluster.nats._frames import FrameChannel
from papyra_contrib.cluster.nats._lease import NatsLease
from papyra_contrib.cluster.nats._lease_clock import lease_clock

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from papyra_contrib.cluster._transport import Change, NodeId
    from papyra_contrib.cluster.nats._client import Client
    from papyra_contrib.cluster.nats._frames import Outbox
    from papyra_contrib.cluster.nats._loop_bridge import LoopBridge
    from papyra_contrib.cluster.nats._url import NatsURL

__all__ = ["Keeper", "KeeperPlan"]

_logger = logging.getLogger("papyra")

TICK_SECONDS: Final = 0.25
FINISH_SECONDS: Final = 1.0


class KeeperPlan:
    """The options of a keeper and its callbacks, which are called through ``bridge``."""

    def __init__(
        self,
        url: NatsURL,
        node: NodeId,
        lease: int | None,
        stall: float,
        bridge: LoopBridge,
        on_change: Callable[[Change], None],
        on_lost: Callable[[str], None],
        on_frame: Callable[[NodeId, bytes], None],
        on_unreachable: Callable[[int], None],
        outbox: Outbox | None,
    ) -> None:
        self.url = url
        self.node = node
        self.lease = lease
        self.stall = stall
        self.bridge = bridge
        self.on_change = on_change
        self.on_lost = on_lost
        self.on_frame = on_frame
        self.on_unreachable = on_unreachable
        self.outbox = outbox


class Keeper:
    """The thread. Its methods are called in the program's loop unless they say otherwise."""

    def __init__(self, plan: KeeperPlan) -> None:
        self._plan = plan
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(
            target=self._main, name=f"papyra keeper {plan.node.node}", daemon=True
        )
        self._answered = lease_clock()
        self.frames_gone_since: float | None = None
        self._follower: Follower | None = None
        self._lease: NatsLease | None = None
        self._channel: FrameChannel | None = None
        self.bucket: Bucket | None = None
        self.max_payload = 0
        self.reconnects = 0
        self.monitor = ConnectionMonitor(self._on_reconnected)

    def start(self, ready: Callable[[Exception | None], None]) -> None:
        """Start the thread; ``ready`` is called once it is connected, or failed."""
        self._ready = ready
        self._thread.start()

    def run(self, make: Callable[[], Coroutine[Any, Any, Any]], done: Callable[[Any, Any], None]) -> None:
        """Run a coroutine in the keeper's loop; ``done(value, error)`` is called in the program's loop."""
        loop = self._loop
        if loop is None or loop.is_closed():
            done(None, TransportError("the connection to the registry is closed"))
            return

        def begin() -> None:
            task = loop.create_task(self._run_and_report(make, done))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        try:
            loop.call_soon_threadsafe(begin)
        except RuntimeError:  # the loop has just ended
            done(None, TransportError("the connection to the registry is closed"))

    async def _run_and_report(
        self, make: Callable[[], Coroutine[Any, Any, Any]], done: Callable[[Any, Any], None]
    ) -> None:
        value: Any = None
        error: BaseException | None = None
        try:
            value = await make()
        except asyncio.CancelledError:
            error = TransportError("the connection to the registry was closed meanwhile")
        except Exception as raised:  # noqa: BLE001 - carried over to the caller, whatever it is
            error = raised
        self._tell(lambda: done(value, error))

    def call(self, function: Callable[[], None]) -> None:
        """Call a function in the keeper's loop."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            try:
                loop.call_soon_threadsafe(function)
            except RuntimeError:
                return  # the loop has just ended, and nothing is left to do there

    def stop(self) -> None:
        """End the thread: it sends queued frames, ends the lease and closes the connection."""
        self.call(self._stop_now)

    def _stop_now(self) -> None:
        if self._stop is not None:
            self._stop.set()

    def join(self) -> None:
        """Wait for the thread; blocks."""
        self._thread.join()

    # -- in the keeper's loop

    _tasks: set[asyncio.Task[None]]

    def _main(self) -> None:
        try:
            asyncio.run(self._run())
        except Exception:
            _logger.exception("the keeper of node %s failed", self._plan.node)
            self._tell(lambda: self._plan.on_lost("its keeper failed"))

    def _tell(self, call: Callable[[], object]) -> None:
        """Make a call in the program's loop. If that loop has ended, end this thread."""
        try:
            self._plan.bridge.call(call)
        except RuntimeError:
            self._stop_now()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._tasks = set()
        opening = asyncio.create_task(self._open())
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait({opening, stopping}, return_when=asyncio.FIRST_COMPLETED)
        client: Client | None = None
        try:
            if opening.done() and opening.exception() is None:
                client = opening.result()
                self._tell(lambda: self._ready(None))
                await self._tick_until_stopped()
            else:
                await self._give_up(opening)
        finally:  # also after a failure: uvloop does not close with a connection open
            stopping.cancel()
            await self._close(client)

    async def _give_up(self, opening: asyncio.Task[Client]) -> None:
        """Report why there is no connection."""
        while not opening.done():  # asyncio loses a cancellation that comes with a refused connection
            opening.cancel()
            await asyncio.wait({opening}, timeout=TICK_SECONDS)
        error = opening.exception() if opening.done() and not opening.cancelled() else None
        failed = (
            error if isinstance(error, Exception) else self.monitor.last_error or OSError("it was stopped")
        )
        self._tell(lambda: self._ready(failed))

    async def _open(self) -> Client:
        plan = self._plan
        client = await connect(plan.url, plan.node.node, "keeper", self.monitor)
        try:
            self.bucket = Bucket(client, plan.url.cluster)
            self.max_payload = client.max_payload
            await self.bucket.prepare(plan.url, plan.lease)
            self._follower = Follower(
                client,
                self.bucket,
                plan.url.cluster,
                lambda change: self._tell(lambda: plan.on_change(change)),
            )
            await self._follower.start()
            if plan.outbox is not None:
                await self._open_frames(client, plan.outbox)
        except BaseException:
            await client.close()
            raise
        return client

    async def _open_frames(self, client: Client, outbox: Outbox) -> None:
        plan, loop = self._plan, asyncio.get_running_loop()
        self._channel = channel = FrameChannel(
            client,
            plan.url.cluster,
            plan.node,
            outbox,
            lambda peer, frame: self._tell(lambda: plan.on_frame(peer, frame)),
            lambda ask: self._tell(lambda: plan.on_unreachable(ask)),
        )
        await channel.start()
        outbox.wake = lambda: self.call(channel.wake)
        loop.call_soon(channel.wake)

    async def _tick_until_stopped(self) -> None:
        assert self._stop is not None  # noqa: S101 - set by `_run`
        while not self._stop.is_set():
            self._tell(self._program_answers)
            try:
                await asyncio.wait_for(self._stop.wait(), TICK_SECONDS)
            except TimeoutError:
                continue

    def _program_answers(self) -> None:
        """Note that the program's loop is running; called there."""
        self._answered = lease_clock()

    def _may_renew(self) -> bool:
        """Whether the program's loop is running, and its connection was not down for a whole lease."""
        now = lease_clock()
        away = self.frames_gone_since
        limit = float(self.bucket.lease_seconds) if self.bucket is not None else 0.0
        return now - self._answered < self._plan.stall and (away is None or now - away < limit)

    async def hold(self, key: str, value: bytes, ttl: int) -> NatsLease:
        """Claim a lease and renew it. In the keeper's loop."""
        assert self.bucket is not None  # noqa: S101 - it is open
        lease = NatsLease(
            self.bucket,
            key,
            value,
            ttl,
            self._may_renew,
            lambda reason: self._tell(lambda: self._plan.on_lost(reason)),
        )
        await lease.claim()
        self._lease = lease
        return lease

    async def _on_reconnected(self) -> None:
        self.reconnects += 1
        if self._lease is not None:
            self._lease.hurry()
            await asyncio.sleep(0)  # the lease comes first
        if self._follower is not None:
            self._follower.resync()

    async def _close(self, client: Client | None) -> None:
        if self._follower is not None:
            self._follower.stop()
        if client is None:
            return
        try:
            async with asyncio.timeout(FINISH_SECONDS * 2):
                if self._channel is not None:
                    await self._channel.finish(FINISH_SECONDS)
                if self._lease is not None:
                    await self._lease.release()
        except (*NATS_ERRORS, TransportError, Conflict) as error:
            _logger.debug("leaving the registry failed: %s", error)  # the lease expires
        for task in list(self._tasks):
            task.cancel()
        await client.close()
