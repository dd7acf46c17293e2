"""Promises about the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from papyra_contrib.cluster._errors import Conflict, TransportError
from papyra_contrib.cluster._transport import Ended, Entry, Reset, Synced
from papyra_contrib.cluster.testing._conformance.base import KitBase

if TYPE_CHECKING:
    from collections.abc import Callable

    from papyra_contrib.cluster.testing._conformance.base import OpenTransport

__all__ = ["RegistryPromises"]


class RegistryPromises(KitBase):
    """Compare and set, one order of changes, and no missed change."""

    async def test_put_compares_and_sets_and_revisions_grow(self, open_transport: OpenTransport) -> None:
        """Only the expected revision is replaced, and each new revision is greater than all before."""
        async with self.joined(open_transport, "a") as (a, _, _me):
            first = await a.put("a.x", b"1", expect=0)
            other = await a.put("a.y", b"1", expect=0)
            second = await a.put("a.x", b"2", expect=first)
            assert first < other < second
            for wrong in (0, first, second + 1):
                with pytest.raises(Conflict):
                    await a.put("a.x", b"3", expect=wrong)
            assert await a.get("a.x") == Entry("a.x", b"2", second)
            assert await a.get("a.z") is None
            await a.end("a.x", expect=second)
            await a.end("a.y", expect=other)

    async def test_an_ended_key_is_absent_and_can_be_put_anew(self, open_transport: OpenTransport) -> None:
        """`end` compares revisions, too, and a later put has a greater one."""
        async with self.joined(open_transport, "a") as (a, _, _me):
            first = await a.put("a.x", b"1", expect=0)
            with pytest.raises(Conflict):
                await a.end("a.x", expect=first + 1)
            await a.end("a.x", expect=first)
            assert await a.get("a.x") is None
            second = await a.put("a.x", b"2", expect=0)
            assert second > first
            await a.end("a.x", expect=second)

    async def test_followers_get_all_and_then_each_change_in_order(
        self, open_transport: OpenTransport
    ) -> None:
        """First `Reset`, every entry and `Synced`; then changes by revision."""
        async with self.joined(open_transport, "a") as (a, _, _me):
            first = await a.put("a.before", b"1", expect=0)
            async with self.joined(open_transport, "b") as (_b, host, _):
                assert host.values().get("a.before") == b"1"
                kinds = [type(change) for change in host.changes]
                assert kinds[0] is Reset
                assert Synced in kinds
                second = await a.put("a.after", b"2", expect=0)
                await a.end("a.before", expect=first)
                third = await a.put("a.after", b"3", expect=second)
                await self.until(lambda: host.values().get("a.after") == b"3")
                await self.until(lambda: "a.before" not in host.entries)
                since = host.changes[kinds.index(Synced) + 1 :]
                ended = [change for change in since if isinstance(change, Ended)]
                assert [(change.key, change.reason) for change in ended] == [("a.before", "left")]
                revisions = [change.revision for change in since if isinstance(change, Entry)]
                assert revisions == sorted(set(revisions))
            await a.end("a.after", expect=third)

    async def test_what_changed_while_the_server_was_away_is_not_missed(
        self,
        open_transport: OpenTransport,
        stop_server: Callable[[], object] | None,
        start_server: Callable[[], object] | None,
    ) -> None:
        """When the server is back, a `Reset` comes, and then the present entries."""
        if stop_server is None or start_server is None:
            pytest.skip("the engine has no server that can be stopped")
        async with self.joined(open_transport, "a") as (a, host, _):
            first = await a.put("a.kept", b"1", expect=0)
            gone = await a.put("a.gone", b"1", expect=0)
            await a.end("a.gone", expect=gone)
            await self.until(lambda: "a.gone" not in host.entries and "a.kept" in host.entries)
            before = len(host.changes)
            stop_server()
            with pytest.raises(TransportError):
                await a.put("a.lost", b"1", expect=0)
            start_server()
            await self.until(lambda: any(isinstance(change, Synced) for change in host.changes[before:]))
            assert any(isinstance(change, Reset) for change in host.changes[before:])
            assert "a.kept" in host.entries
            assert "a.gone" not in host.entries
            lost = await a.get("a.lost")  # the outcome was unknown
            if lost is not None:
                await a.end("a.lost", expect=lost.revision)
            await a.end("a.kept", expect=first)

    async def test_what_changed_while_a_follower_was_cut_off_is_not_missed(
        self,
        open_transport: OpenTransport,
        stall: Callable[[str], object] | None,
        unstall: Callable[[str], object] | None,
    ) -> None:
        """A follower notices a gap and reads the registry again."""
        if stall is None or unstall is None:
            pytest.skip("the engine can't cut a node off")
        async with (
            self.joined(open_transport, "a") as (a, _, _me),
            self.joined(open_transport, "b") as (_b, host, _),
        ):
            stall("b")
            revision = await a.put("a.meanwhile", b"1", expect=0)
            unstall("b")
            await self.until(lambda: host.values().get("a.meanwhile") == b"1")
            await a.end("a.meanwhile", expect=revision)
