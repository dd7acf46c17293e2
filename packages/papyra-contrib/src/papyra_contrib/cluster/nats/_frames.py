"""Messages between nodes: core NATS subjects, one connection, and one task that writes."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Final

from papyra_contrib.cluster._transport import NodeId
from papyra_contrib.cluster.nats._client import NATS_ERRORS

if TYPE_CHECKING:
    from collections.abc import Callable

    from papyra_contrib.cluster.nats._client import Client, Message

__all__ = ["FrameChannel", "Outbox"]

_logger = logging.getLogger("papyra")

MAX_OUTBOX_BYTES: Final = 8 * 1024 * 1024
WAIT_SECONDS: Final = 0.05
NO_RESPONDERS: Final = "503"


class Outbox:
    """Frames on their way from the program to a connection, which may be in another thread.

    One thread adds and one takes, so each counter has one writer.
    """

    def __init__(self, cluster: str, node: NodeId) -> None:
        self._to = f"papyra.{cluster}.n."
        self._from = f".{node.node}.{node.incarnation}"
        self._all = f"papyra.{cluster}.all{self._from}"
        self._asks = f"papyra.{cluster}.x.{node.node}.{node.incarnation}."
        self._queue: deque[tuple[str, str, bytes]] = deque()
        self._added = 0
        self._taken = 0
        self.wake: Callable[[], None] = lambda: None

    def send(self, peer: NodeId, frame: bytes, ask: int) -> None:
        """Add a frame for a node."""
        reply = f"{self._asks}{ask}" if ask else ""
        self._add(f"{self._to}{peer.node}.{peer.incarnation}{self._from}", reply, frame)

    def publish(self, frame: bytes) -> None:
        """Add a frame for all nodes."""
        self._add(self._all, "", frame)

    def _add(self, subject: str, reply: str, frame: bytes) -> None:
        self._queue.append((subject, reply, frame))
        self._added += len(frame)
        if len(self._queue) == 1:  # looked at after: the other thread may have taken all frames before it
            self.wake()

    def take(self) -> tuple[str, str, bytes] | None:
        """Take the oldest frame."""
        try:
            taken = self._queue.popleft()
        except IndexError:
            return None
        self._taken += len(taken[2])
        return taken

    def has_room(self) -> bool:
        """Whether less than 8 MiB wait."""
        return self._added - self._taken < MAX_OUTBOX_BYTES

    def is_empty(self) -> bool:
        """Whether no frame waits."""
        return not self._queue


class FrameChannel:
    """Sends an outbox over a connection, and hands incoming messages to two functions.

    It lives in the connection's loop.
    """

    def __init__(
        self,
        client: Client,
        cluster: str,
        node: NodeId,
        outbox: Outbox,
        on_frame: Callable[[NodeId, bytes], None],
        on_unreachable: Callable[[int], None],
    ) -> None:
        self._client = client
        self._cluster = cluster
        self._node = node
        self._outbox = outbox
        self._on_frame = on_frame
        self._on_unreachable = on_unreachable
        self._awake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    async def start(self) -> None:
        """Subscribe, and begin to send."""
        me = f"{self._node.node}.{self._node.incarnation}"
        unlimited = {"pending_msgs_limit": -1, "pending_bytes_limit": -1}
        prefix = f"papyra.{self._cluster}"
        await self._client.subscribe(f"{prefix}.n.{me}.>", cb=self._on_message, **unlimited)
        await self._client.subscribe(f"{prefix}.all.>", cb=self._on_message, **unlimited)
        await self._client.subscribe(f"{prefix}.x.{me}.>", cb=self._on_status, **unlimited)
        await self._client.flush()  # the server has them: what others send from now on arrives
        self._task = asyncio.create_task(self._write())

    def wake(self) -> None:
        """Look at the outbox; call it in the connection's loop."""
        self._awake.set()

    async def _write(self) -> None:
        while not (self._closing and self._outbox.is_empty()):
            if not self._client.is_connected:
                # The client would buffer it, and senders would not wait for room in that buffer.
                await asyncio.sleep(WAIT_SECONDS)
                continue
            taken = self._outbox.take()
            if taken is None:
                self._awake.clear()
                if self._outbox.is_empty():
                    await self._awake.wait()
                continue
            subject, reply, frame = taken
            try:
                await self._client.publish(subject, frame, reply)
            except NATS_ERRORS as error:
                _logger.debug("a frame was not sent: %s", error)  # the receiver counts the gap

    async def _on_message(self, message: Message) -> None:
        *_, node, incarnation = message.subject.rsplit(".", 2)
        self._on_frame(NodeId(node, incarnation), message.data)

    async def _on_status(self, message: Message) -> None:
        corr = message.subject.rpartition(".")[2]
        if (message.headers or {}).get("Status") == NO_RESPONDERS and corr.isdecimal():
            self._on_unreachable(int(corr))

    async def finish(self, seconds: float) -> None:
        """Send the queued frames, for at most ``seconds``, and end the task."""
        self._closing = True
        self._awake.set()
        if self._task is None:
            return
        try:
            async with asyncio.timeout(seconds):
                await asyncio.shield(self._task)
            if self._client.is_connected:
                await self._client.flush(timeout=1)
        except (*NATS_ERRORS, asyncio.CancelledError):
            self._task.cancel()  # the server is away: the queued frames are lost
