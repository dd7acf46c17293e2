"""The memory backend keeps the contract."""

from __future__ import annotations

import pytest

from papyra.persistence import InMemoryPersistence
from papyra.persistence.models import PersistedAudit, PersistedDeadLetter, PersistedEvent
from papyra.testing import BackendConformance


@pytest.fixture(autouse=True)
def _look_more_often(monkeypatch):
    monkeypatch.setattr("papyra.persistence.following.INTERVAL", 0.01)


class TestInMemoryPersistence(BackendConformance):
    smoke_records = 3_000

    @pytest.fixture
    def open_backend(self):
        return InMemoryPersistence


async def test_what_is_kept_is_read_by_kind_and_forgotten_on_demand():
    store = InMemoryPersistence()
    event = PersistedEvent("s", "s:1", "E", {}, 1.0)
    audit = PersistedAudit("s", 2.0, 0, 0, 0, 0, 0, (), (), 0)
    letter = PersistedDeadLetter("s", "s:1", "M", None, 3.0)
    await store.record_batch([letter, event, audit, event])
    assert (store.events, store.audits, store.dead_letters) == ((event, event), (audit,), (letter,))
    await store.clear()
    assert (store.events, store.audits, store.dead_letters) == ((), (), ())
    await store.record_event(event)
    assert store.events == (event,)
