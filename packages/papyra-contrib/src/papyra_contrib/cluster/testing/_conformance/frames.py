"""Promises about messages between nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from papyra_contrib.cluster._transport import NodeId
from papyra_contrib.cluster.testing._conformance.base import KitBase

if TYPE_CHECKING:
    from papyra_contrib.cluster.testing._conformance.base import OpenTransport

__all__ = ["FramePromises"]

MANY_FRAMES = 2_000


class FramePromises(KitBase):
    """Order, completeness while nothing fails, and the sender's name."""

    async def test_frames_come_in_order_once_and_name_their_sender(
        self, open_transport: OpenTransport
    ) -> None:
        """Frames arrive complete, once, and in order."""
        async with (
            self.joined(open_transport, "a") as (a, _, me),
            self.joined(open_transport, "b") as (b, host, peer),
        ):
            sent = [f"{number}\r\n\0".encode() for number in range(MANY_FRAMES)]
            for frame in sent:
                if not a.has_room():
                    await a.room()
                a.send(peer, frame)
            await self.until(lambda: len(host.frames) >= MANY_FRAMES)
            a.send(peer, b"end")
            await self.until(lambda: host.frames[-1][1] == b"end")
            assert host.frames[:-1] == [(me, frame) for frame in sent]
            assert b.max_frame >= 1

    async def test_the_largest_frame_comes(self, open_transport: OpenTransport) -> None:
        """A frame of ``max_frame`` bytes is carried."""
        async with (
            self.joined(open_transport, "a") as (a, _, _me),
            self.joined(open_transport, "b") as (_b, host, peer),
        ):
            a.send(peer, bytes(a.max_frame))
            await self.until(lambda: host.frames)
            assert len(host.frames[0][1]) == a.max_frame

    async def test_what_is_published_reaches_every_other_node(self, open_transport: OpenTransport) -> None:
        """Every other node gets a publish once."""
        async with (
            self.joined(open_transport, "a") as (a, _, me),
            self.joined(open_transport, "b") as (_b, one, _),
            self.joined(open_transport, "c") as (_c, other, _),
        ):
            a.publish(b"news")
            await self.until(lambda: one.frames and other.frames)
            assert one.frames == other.frames == [(me, b"news")]

    async def test_an_ask_that_nobody_gets_is_told(self, open_transport: OpenTransport) -> None:
        """If nobody listens, the number of the ask comes back. A tell is lost silently."""
        async with self.joined(open_transport, "a") as (a, host, _):
            nobody = NodeId("nobody", "0" * 12)
            a.send(nobody, b"tell")
            a.send(nobody, b"ask", ask=7)
            await self.until(lambda: host.unreachable)
            assert host.unreachable == [7]

    async def test_what_is_queued_at_the_end_is_sent(self, open_transport: OpenTransport) -> None:
        """`aclose` sends the frames that `send` accepted."""
        async with self.joined(open_transport, "b") as (_b, host, peer):
            async with self.joined(open_transport, "a") as (a, _, _me):
                for number in range(100):
                    a.send(peer, str(number).encode())
            await self.until(lambda: len(host.frames) == 100)
