"""What holds for every ``list_*`` call."""
# ruff: noqa: S101 - these are tests, and assert is how tests speak

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from papyra.testing._conformance.base import ConformanceBase
from papyra.testing._conformance.facts import NOW, audit, event, letter, mixed

if TYPE_CHECKING:
    from papyra.testing._conformance.base import OpenBackend

__all__ = ["ReadingPromises"]


class ReadingPromises(ConformanceBase):
    """The newest that match, oldest first."""

    async def test_an_empty_store_lists_nothing(self, open_backend: OpenBackend) -> None:
        async with self.using(open_backend()) as backend:
            assert list(await backend.list_events(limit=5, since=0.0)) == []
            assert list(await backend.list_audits()) == []
            assert list(await backend.list_dead_letters()) == []

    async def test_limit_takes_the_newest_and_lists_them_oldest_first(
        self, open_backend: OpenBackend
    ) -> None:
        async with self.using(open_backend()) as backend:
            await backend.record_batch(mixed(30))
            assert list(await backend.list_events(limit=2)) == [event(24), event(27)]
            assert list(await backend.list_audits(limit=2)) == [audit(25), audit(28)]
            assert list(await backend.list_dead_letters(limit=2)) == [letter(26), letter(29)]
            assert len(await backend.list_events(limit=10)) == 10
            assert len(await backend.list_events(limit=10**6)) == 10
            assert len(await backend.list_events(limit=10**30)) == 10

    async def test_limit_zero_lists_nothing(self, open_backend: OpenBackend) -> None:
        async with self.using(open_backend()) as backend:
            await backend.record_batch(mixed(3))
            assert list(await backend.list_events(limit=0)) == []
            assert list(await backend.list_audits(limit=0)) == []
            assert list(await backend.list_dead_letters(limit=0)) == []

    async def test_a_negative_limit_is_refused(self, open_backend: OpenBackend) -> None:
        async with self.using(open_backend()) as backend:
            for listing in (backend.list_events, backend.list_audits, backend.list_dead_letters):
                with pytest.raises(ValueError, match="limit"):
                    await listing(limit=-1)

    async def test_since_and_until_are_inclusive(self, open_backend: OpenBackend) -> None:
        async with self.using(open_backend()) as backend:
            await backend.record_batch([make(n) for n in range(6) for make in (event, audit, letter)])
            since, until = NOW + 2, NOW + 4
            assert list(await backend.list_events(since=since)) == [event(n) for n in (2, 3, 4, 5)]
            assert list(await backend.list_events(until=until)) == [event(n) for n in (0, 1, 2, 3, 4)]
            assert list(await backend.list_events(since=since, until=until)) == [event(n) for n in (2, 3, 4)]
            assert list(await backend.list_audits(since=since, until=until)) == [audit(n) for n in (2, 3, 4)]
            assert list(await backend.list_dead_letters(since=since, until=until)) == [
                letter(n) for n in (2, 3, 4)
            ]
            assert list(await backend.list_events(since=until, until=since)) == []
            assert list(await backend.list_events(since=-1e300, until=1e300)) == [event(n) for n in range(6)]

    async def test_events_are_found_by_type_and_actor(self, open_backend: OpenBackend) -> None:
        events = [
            event(n, event_type="odd" if n % 2 else "even", actor_address=f"conformance:{n % 3}")
            for n in range(12)
        ]
        async with self.using(open_backend()) as backend:
            await backend.record_batch([*events, letter(1, target="conformance:1", message_type="odd")])
            assert list(await backend.list_events(event_type="odd")) == events[1::2]
            assert list(await backend.list_events(actor="conformance:1")) == events[1::3]
            assert list(await backend.list_events(event_type="odd", actor="conformance:1")) == events[1::6]
            assert list(await backend.list_events(event_type="od")) == []
            assert list(await backend.list_events(event_type="ODD")) == []
            assert list(await backend.list_events(actor="conformance:_")) == []
            assert list(await backend.list_events(actor="")) == []

    async def test_dead_letters_are_found_by_type_and_target(self, open_backend: OpenBackend) -> None:
        letters = [
            letter(n, message_type="odd" if n % 2 else "even", target=f"conformance:{n % 3}")
            for n in range(12)
        ]
        async with self.using(open_backend()) as backend:
            await backend.record_batch([event(1, event_type="odd"), *letters])
            assert list(await backend.list_dead_letters(message_type="odd")) == letters[1::2]
            assert list(await backend.list_dead_letters(actor="conformance:1")) == letters[1::3]
            both = await backend.list_dead_letters(message_type="odd", actor="conformance:1")
            assert list(both) == letters[1::6]
            assert list(await backend.list_dead_letters(message_type="%")) == []

    async def test_limit_counts_what_matches_the_other_filters(self, open_backend: OpenBackend) -> None:
        events = [event(n, event_type="rare" if n % 10 == 0 else "common") for n in range(100)]
        async with self.using(open_backend()) as backend:
            await backend.record_batch(events)
            assert list(await backend.list_events(limit=3, event_type="rare")) == events[70::10]
            assert list(await backend.list_events(limit=2, until=NOW + 50)) == events[49:51]
            found = await backend.list_events(limit=2, since=NOW + 10, until=NOW + 50, event_type="rare")
            assert list(found) == [events[40], events[50]]
