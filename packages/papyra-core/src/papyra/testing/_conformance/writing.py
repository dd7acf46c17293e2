"""What holds for every ``record_*`` call."""
# ruff: noqa: S101 - these are tests, and assert is how tests speak

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from papyra.exceptions import PartialWriteError, PersistenceError, StoreFull
from papyra.persistence.models import PersistedDeadLetter, PersistedEvent
from papyra.persistence.retention import RetentionPolicy
from papyra.testing._conformance.base import ConformanceBase
from papyra.testing._conformance.facts import (
    LONG_BATCH_RECORDS,
    NOW,
    ODD_TEXTS,
    ODD_VALUES,
    audit,
    event,
    letter,
    mixed,
    noise,
    offer,
    stored,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractContextManager

    from papyra.persistence.models import JSONValue, PersistedRecord
    from papyra.testing._conformance.base import OpenBackend

__all__ = ["WritingPromises"]


class _Unprintable:
    def __repr__(self) -> str:
        raise ValueError("this value has no text")


def _circular() -> list[object]:
    made: list[object] = []
    made.append(made)
    return made


class WritingPromises(ConformanceBase):
    """Each record once, whole, in order, as it was given."""

    async def test_a_recorded_event_is_listed_as_it_was_given(self, open_backend: OpenBackend) -> None:
        async with self.using(open_backend()) as backend:
            await backend.record_event(event(1))
            assert list(await backend.list_events()) == [event(1)]
            assert list(await backend.list_audits()) == []
            assert list(await backend.list_dead_letters()) == []

    async def test_a_recorded_audit_is_listed_as_it_was_given(self, open_backend: OpenBackend) -> None:
        async with self.using(open_backend()) as backend:
            await backend.record_audit(audit(1))
            assert list(await backend.list_audits()) == [audit(1)]
            assert list(await backend.list_events()) == []
            assert list(await backend.list_dead_letters()) == []

    async def test_a_recorded_dead_letter_is_listed_as_it_was_given(self, open_backend: OpenBackend) -> None:
        async with self.using(open_backend()) as backend:
            await backend.record_dead_letter(letter(1))
            assert list(await backend.list_dead_letters()) == [letter(1)]
            assert list(await backend.list_events()) == []
            assert list(await backend.list_audits()) == []

    async def test_a_batch_is_stored_in_its_order_and_once(self, open_backend: OpenBackend) -> None:
        records = mixed(300)
        async with self.using(open_backend()) as backend:
            await backend.record_batch(records)
            assert await stored(backend) == records

    async def test_a_batch_of_5000_records_is_stored(self, open_backend: OpenBackend) -> None:
        """It is the most that a system gives a store at once."""
        records = [event(n) for n in range(5000)]
        async with self.using(open_backend(RetentionPolicy(max_records=10_000))) as backend:
            await backend.record_batch(records)
            assert list(await backend.list_events()) == records

    async def test_fractional_times_come_back_exactly(self, open_backend: OpenBackend) -> None:
        times = [0.1, 1.0, NOW + 0.123456, NOW + 1e-6, 1_700_000_000.1234567, 0.0]
        given: list[PersistedRecord] = [
            *(event(1, timestamp=time) for time in times),
            audit(1, timestamp=0.25),
            letter(1, timestamp=1e-7),
        ]
        async with self.using(open_backend()) as backend:
            await backend.record_batch(given)
            assert list(await backend.list_events()) == given[:-2]
            assert list(await backend.list_audits()) == given[-2:-1]
            assert list(await backend.list_dead_letters()) == given[-1:]
            (found,) = await backend.list_events(since=times[2], until=times[2])
            assert found.timestamp == times[2]

    async def test_an_empty_batch_stores_nothing(self, open_backend: OpenBackend) -> None:
        async with self.using(open_backend()) as backend:
            await backend.record_batch([])
            assert await stored(backend) == []

    async def test_the_order_is_that_of_recording_not_that_of_time(self, open_backend: OpenBackend) -> None:
        events = [event(n) for n in (3, 1, 2, 1)]
        async with self.using(open_backend()) as backend:
            await backend.record_batch(events[:2])
            for one in events[2:]:
                await backend.record_event(one)
            assert list(await backend.list_events()) == events
            assert list(await backend.list_events(limit=2)) == events[2:]

    async def test_equal_records_are_each_stored(self, open_backend: OpenBackend) -> None:
        async with self.using(open_backend()) as backend:
            await backend.record_batch([event(1), event(1)])
            await backend.record_event(event(1))
            assert list(await backend.list_events()) == [event(1)] * 3

    @pytest.mark.parametrize("text", ODD_TEXTS.values(), ids=ODD_TEXTS.keys())
    async def test_any_text_comes_back_as_it_was(self, open_backend: OpenBackend, text: str) -> None:
        given = PersistedEvent(text, text, text, {text: text}, 1.5)
        lost = PersistedDeadLetter(text, text, text, text, 1.5)
        counted = audit(1, system_id=text, registry_orphans=(text, text), registry_dead=(text,))
        async with self.using(open_backend()) as backend:
            await backend.record_batch([given, lost, counted])
            assert list(await backend.list_events(event_type=text, actor=text)) == [given]
            assert list(await backend.list_dead_letters(message_type=text, actor=text)) == [lost]
            assert list(await backend.list_audits()) == [counted]

    @pytest.mark.parametrize("value", ODD_VALUES.values(), ids=ODD_VALUES.keys())
    async def test_any_json_comes_back_as_it_was(self, open_backend: OpenBackend, value: JSONValue) -> None:
        async with self.using(open_backend()) as backend:
            await backend.record_dead_letter(letter(1, payload=value))
            await backend.record_event(event(2, payload={"value": value}))
            await backend.record_event(event(3, payload={}))
            (lost,) = await backend.list_dead_letters()
            first, second = await backend.list_events()
        # repr tells 1 from 1.0 and from True, which are equal
        assert repr(lost.payload) == repr(value)
        assert repr(first.payload) == repr({"value": value})
        assert second.payload == {}

    @pytest.mark.parametrize(
        "payload",
        [
            {"lone \ud800": "surrogate \udfff"},
            {"nan": float("nan"), "infinity": [float("inf"), -float("inf")]},
            {"big": 2**64, "bigger": -(10**30)},
            {"not JSON": {1, 2}, "nor this": object()},
            {"large": noise(2_000_000, 0)},
        ],
        ids=["lone-surrogates", "not-finite", "huge-integers", "not-json", "two-megabytes"],
    )
    async def test_what_cannot_be_stored_as_it_is_harms_no_other_record(
        self, open_backend: OpenBackend, payload: dict[str, Any]
    ) -> None:
        """Such a record may be refused, or stored with a note of what was left out.

        It must not spoil the store.
        """
        async with self.using(open_backend()) as backend:
            await backend.record_event(event(1))
            odd = event(2, payload=cast("dict[str, JSONValue]", payload))
            acknowledged = await _error_of(backend.record_event(odd)) is None
            await backend.record_event(event(3))
            found = list(await backend.list_events())
            assert not (await backend.scan()).has_anomalies
        assert [one.timestamp for one in found] == [
            event(n).timestamp for n in (1, 2, 3) if n != 2 or acknowledged
        ]
        assert (found[0], found[-1]) == (event(1), event(3))

    async def test_lone_surrogates_outside_the_payload_harm_no_other_record(
        self, open_backend: OpenBackend
    ) -> None:
        async with self.using(open_backend()) as backend:
            await backend.record_event(event(1))
            await _error_of(
                backend.record_event(
                    event(2, system_id="\ud800", actor_address="a\udc80", event_type="\udfff")
                )
            )
            await backend.record_event(event(3))
            found = list(await backend.list_events())
            assert list(await backend.list_events(actor="a\ud801", event_type="\udfff")) == []
        assert (found[0], found[-1]) == (event(1), event(3))

    @pytest.mark.parametrize(
        ("value", "length"),
        [(object(), 3), (_circular(), 3), (_Unprintable(), LONG_BATCH_RECORDS)],
        ids=["not-json", "circular", "without-a-text"],
    )
    async def test_one_that_cannot_be_stored_does_not_make_its_batch_half_a_secret(
        self, open_backend: OpenBackend, value: object, length: int
    ) -> None:
        """A `PartialWriteError` counts what is missing, any other error says that nothing is stored."""
        batch = [event(n) for n in range(length)]
        batch[-2] = event(length - 2, payload=cast("dict[str, JSONValue]", {"odd": value}))
        expected = [one.timestamp for one in batch]
        async with self.using(open_backend(RetentionPolicy())) as backend:
            error = await _error_of(backend.record_batch(batch))
            if isinstance(error, PartialWriteError):
                assert error.failed == 1
                del expected[-2]
            elif error is not None:
                expected = []
            assert [one.timestamp for one in await backend.list_events()] == expected

    async def test_a_full_store_takes_all_of_a_batch_or_nothing(
        self,
        open_backend: OpenBackend,
        fill_store: Callable[[], AbstractContextManager[object]] | None,
    ) -> None:
        """It raises `StoreFull`, so that the system keeps the batch, and takes it when there is room."""
        if fill_store is None:
            pytest.skip("the fixture fill_store does not say how to fill the store")
        batch: list[PersistedRecord] = [
            event(n, payload={"noise": noise(120, n)}) for n in range(1, LONG_BATCH_RECORDS)
        ]
        async with self.using(open_backend(RetentionPolicy())) as backend:
            await backend.record_event(event(0))
            with fill_store():
                with pytest.raises(PersistenceError) as caught:
                    await offer(backend, batch, "run:1")
                error: BaseException | None = caught.value
                left = len(batch)
                if isinstance(error, PartialWriteError):
                    left, error = error.failed, error.__cause__
                assert isinstance(error, StoreFull), (
                    "raise papyra.exceptions.StoreFull where there is no room"
                )
                assert error.retry is not False
            written = batch[: len(batch) - left]
            assert await stored(backend) == [event(0), *written], "a part of the batch is left"
            await offer(backend, batch[len(written) :], "run:1")
            assert await stored(backend) == [event(0), *batch]
            assert not (await backend.scan()).has_anomalies


async def _error_of(writing: Awaitable[None]) -> Exception | None:
    try:
        await writing
    except Exception as error:  # noqa: BLE001 - how a backend refuses what is not JSON is its own affair
        return error
    return None
