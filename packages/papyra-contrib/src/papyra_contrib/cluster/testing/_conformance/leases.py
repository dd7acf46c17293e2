"""Promises about leases, and about closing."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import anyio
import pytest

from papyra_contrib.cluster._errors import Conflict
from papyra_contrib.cluster.testing._conformance.base import KitBase

if TYPE_CHECKING:
    from collections.abc import Callable

    from papyra_contrib.cluster.testing._conformance.base import OpenTransport

__all__ = ["LeasePromises"]

LEASE_SECONDS = 2


class LeasePromises(KitBase):
    """A lease renews itself, is exclusive, and ends at its node before it ends in the registry."""

    async def test_a_lease_is_exclusive_and_renews_by_itself(self, open_transport: OpenTransport) -> None:
        """It outlives its seconds, and no other node can claim it."""
        async with (
            self.joined(open_transport, "a") as (a, host, _),
            self.joined(open_transport, "b") as (b, _, _peer),
        ):
            lease = await a.hold("n.a", b"mine", LEASE_SECONDS)
            first = await b.get("n.a")
            assert first is not None
            with anyio.move_on_after(LEASE_SECONDS * 1.5):
                while True:
                    assert lease.valid()
                    assert 0 < lease.seconds_left() < LEASE_SECONDS
                    with pytest.raises(Conflict):
                        await b.hold("n.a", b"theirs", LEASE_SECONDS)
                    await anyio.sleep(LEASE_SECONDS / 5)
            now = await b.get("n.a")
            assert now is not None
            assert now.revision > first.revision
            assert host.lost == []

    async def test_a_lease_whose_first_answer_was_lost_is_taken_over(
        self, open_transport: OpenTransport
    ) -> None:
        """A key with this value is from an earlier attempt of the same incarnation, and becomes a lease."""
        async with self.joined(open_transport, "a") as (a, _, _me):
            first = await a.put("n.a", b"mine", expect=0)
            lease = await a.hold("n.a", b"mine", LEASE_SECONDS)
            assert lease.valid()
            stored = await a.get("n.a")
            assert stored is not None
            assert stored.revision > first  # with the time of a lease

    async def test_closing_ends_the_lease_at_once(self, open_transport: OpenTransport) -> None:
        """Others see that the node has left, and its key is free."""
        async with self.joined(open_transport, "b") as (b, host, _):
            async with self.joined(open_transport, "a") as (a, _, _me):
                await a.hold("n.a", b"mine", LEASE_SECONDS)
                await self.until(lambda: "n.a" in host.entries)
            await self.until(lambda: "n.a" not in host.entries)
            assert await b.get("n.a") is None

    async def test_a_node_that_is_cut_off_lets_go_before_the_registry_does(
        self,
        open_transport: OpenTransport,
        stall: Callable[[str], object] | None,
        unstall: Callable[[str], object] | None,
    ) -> None:
        """`Lease.valid` is False, and the host has been called, before the key expires."""
        if stall is None or unstall is None:
            pytest.skip("the engine can't cut a node off")
        async with (
            self.joined(open_transport, "a") as (a, host, _),
            self.joined(open_transport, "b") as (b, _, _peer),
        ):
            lease = await a.hold("n.a", b"mine", LEASE_SECONDS)
            stall("a")
            await self.until(lambda: not lease.valid())
            assert await b.get("n.a") is not None
            await self.until(lambda: host.lost)
            with anyio.fail_after(self.patience):
                while await b.get("n.a") is not None:  # noqa: ASYNC110 - a state of the registry
                    await anyio.sleep(0.02)
            assert not lease.valid()
            unstall("a")

    async def test_closing_twice_is_fine_and_leaves_no_thread(self, open_transport: OpenTransport) -> None:
        """Every thread that the engine started has ended."""
        before = set(threading.enumerate())
        async with self.joined(open_transport, "a") as (a, _, _me):
            await a.hold("n.a", b"mine", LEASE_SECONDS)
            await a.aclose()
            await a.aclose()
        left = set(threading.enumerate()) - before
        assert [thread for thread in left if not thread.name.startswith(self.pooled_threads)] == []
