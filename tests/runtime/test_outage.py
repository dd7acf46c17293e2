"""R8, R10, R11: a store that is away loses no fact that the buffer has room for."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import anyio.lowlevel
import pytest

from papyra import ActorSystem, Settings, SystemHooks
from papyra._runtime.facts import dropped_share
from papyra.exceptions import PartialWriteError, PersistenceError
from papyra.persistence import InMemoryPersistence
from papyra.persistence.models import PersistedRecord
from papyra.persistence.startup import PersistenceStartupMode

pytestmark = pytest.mark.usefixtures("actors_facts_only")


class Away(InMemoryPersistence):
    """A store that fails its next ``failures`` writes, or those until `back`, and then takes facts."""

    name = "away"

    def __init__(self, failures: int = 0, error: Exception | None = None) -> None:
        super().__init__()
        self.failures = failures
        self.error = error or PersistenceError("the server is away", retry=True)
        self.offers: list[tuple[str | None, int]] = []
        self.lose_answers = False
        self.ids: set[str | None] = set()

    async def record_batch(self, records: Sequence[PersistedRecord], *, batch_id: str | None = None) -> None:
        self.offers.append((batch_id, len(records)))
        if batch_id not in self.ids and (self.failures <= 0 or self.lose_answers):
            await super().record_batch(records)
            self.ids.add(batch_id)
        if self.failures > 0:
            self.failures -= 1
            raise self.error


def audits(store: InMemoryPersistence) -> list[int]:
    return [one.registry_size for one in store._records]  # type: ignore[union-attr] # they are audits


async def _note(system: ActorSystem, count: int) -> None:
    for _ in range(count):
        system.audit()
        await anyio.lowlevel.checkpoint()


async def test_r8_a_refused_batch_is_offered_again_with_its_id_and_in_order():
    store = Away(3)
    told: list[Exception] = []
    async with ActorSystem(persistence=store, hooks=SystemHooks(on_persistence_error=told.append)) as system:
        await _note(system, 20)
        with anyio.fail_after(60):
            await system.flush()
        recorded = list(await store.list_audits())
        assert len(recorded) == 20
        assert recorded == sorted(recorded, key=lambda one: one.timestamp)
        assert store.metrics.records_dropped == 0
        first = store.offers[0]
        assert store.offers[:4] == [first] * 4, "the same records under the same id"
        run, _, number = (first[0] or "").partition(":")
        assert (run, number) == (system.run_id, "1")
        ids = [one for one, _ in store.offers[3:]]
        assert len(set(ids)) == len(ids)
    assert told == [store.error], "an outage is reported once"


async def test_r8_an_answer_that_is_lost_makes_no_double():
    store = Away(2)
    store.lose_answers = True
    async with ActorSystem(persistence=store) as system:
        await _note(system, 5)
        with anyio.fail_after(60):
            await system.flush()
        assert len(await store.list_audits()) == 5


@pytest.mark.parametrize("error", [OSError("no route"), PersistenceError("reset")])
async def test_r8_any_error_of_a_backend_that_declares_retries_may_pass(error):
    class Server(Away):
        retries = True

    store = Server(2, error)
    async with ActorSystem(persistence=store) as system:
        await _note(system, 3)
        with anyio.fail_after(60):
            await system.flush()
        assert store.metrics.records_dropped == 0
        assert len(await store.list_audits()) == 3


async def test_r8_an_error_that_says_no_is_final_also_of_a_backend_that_retries():
    class Server(Away):
        retries = True

    store = Server(1, PersistenceError("a record has a field of the wrong type", retry=False))
    async with ActorSystem(persistence=store) as system:
        system.audit()
        await system.flush()
        assert len(store.offers) == 1
        assert store.metrics.records_dropped == 1


async def test_r8_after_a_batch_that_was_stored_in_part_the_rest_is_offered():
    class Halves(Away):
        async def record_batch(
            self, records: Sequence[PersistedRecord], *, batch_id: str | None = None
        ) -> None:
            self.offers.append((batch_id, len(records)))
            if len(records) > 1:
                half = len(records) // 2
                await InMemoryPersistence.record_batch(self, records[:half])
                raise PartialWriteError(len(records) - half, len(records), retry=True)
            await InMemoryPersistence.record_batch(self, records)

    store = Halves()
    async with ActorSystem(persistence=store) as system:
        for _ in range(8):
            system.audit()
        with anyio.fail_after(60):
            await system.flush()
        recorded = list(await store.list_audits())
        assert len(recorded) == 8
        assert store.metrics.records_dropped == 0
        assert len({one for one, _ in store.offers}) == len(store.offers), "other records, another id"


async def test_r8_a_full_buffer_drops_the_oldest_and_says_so_once(caplog):
    store = Away(10**9)
    async with ActorSystem(persistence=store, settings=Settings(fact_buffer=10)) as system:
        system.audit()
        while not store.offers:
            await anyio.lowlevel.checkpoint()
        await anyio.wait_all_tasks_blocked()
        for _ in range(30):
            system.audit()
        assert store.metrics.records_dropped == 21
        newest = system.audit().timestamp
        store.failures = 0
        with anyio.fail_after(60):
            await system.flush()
        recorded = list(await store.list_audits())
        assert len(recorded) == 10
        assert recorded[-1].timestamp == newest
        assert recorded == sorted(recorded, key=lambda one: one.timestamp)
        assert store.metrics.records_dropped == 22
        facts = system.statistics().facts
        assert not facts["healthy"]
        assert 22 / 40 < facts["dropped_share"] < 22 / 30
    assert len([one for one in caplog.records if "oldest facts are dropped" in one.getMessage()]) == 1
    assert "22 were dropped" in caplog.text


async def test_r8_a_backend_of_today_takes_no_batch_id_and_works_on():
    class Today(InMemoryPersistence):
        failures = 2

        async def record_batch(self, records: Sequence[PersistedRecord]) -> None:  # type: ignore[override] # as it was
            if self.failures:
                self.failures -= 1
                raise PersistenceError("away", retry=True)
            await InMemoryPersistence.record_batch(self, records)

    store = Today()
    async with ActorSystem(persistence=store) as system:
        await _note(system, 4)
        with anyio.fail_after(60):
            await system.flush()
        assert len(await store.list_audits()) == 4


async def test_r10_the_close_offers_until_its_deadline_and_says_what_it_gave_up(caplog):
    store = Away(10**9)
    began = anyio.current_time()
    async with ActorSystem(persistence=store, shutdown_timeout=1.0) as system:
        await _note(system, 7)
        offers = len(store.offers)
    assert 0.7 < anyio.current_time() - began < 30  # the facts' share of the time
    assert len(store.offers) > offers + 1, "offered again while it closed"
    assert store.metrics.records_dropped == 7
    assert "did not take 7 facts within" in caplog.text
    assert store.closed


async def test_r10_a_store_that_comes_back_during_the_close_gets_all():
    class Kept(Away):
        async def aclose(self) -> None:
            self.kept = list(self._records)
            await super().aclose()

    store = Kept(4)
    async with ActorSystem(persistence=store, shutdown_timeout=20.0) as system:
        await _note(system, 7)
    assert len(store.kept) == 7
    assert store.metrics.records_dropped == 0


class Unreachable(InMemoryPersistence):
    name = "far"

    async def ping(self) -> None:
        raise ConnectionRefusedError("nobody listens on port 1")


async def test_r11_a_system_does_not_start_without_its_store():
    with pytest.raises(PersistenceError, match=r"far store can't be reached: .*nobody listens on port 1"):
        await ActorSystem(persistence=Unreachable()).start()


async def test_r11_ignored_the_absence_is_logged(caplog):
    async with ActorSystem(
        persistence=Unreachable(), persistence_startup=PersistenceStartupMode.IGNORE
    ) as system:
        system.audit()
    assert "nobody listens on port 1" in caplog.text


async def test_r11_a_store_that_does_not_answer_is_an_error_in_time():
    from papyra.persistence.startup import PersistenceStartupConfig

    class Silent(InMemoryPersistence):
        async def open(self) -> None:
            await anyio.sleep_forever()

    config = PersistenceStartupConfig(timeout_seconds=0.05)
    with anyio.fail_after(30), pytest.raises(PersistenceError, match=r"did not answer within 0.05 s"):
        await ActorSystem(persistence=Silent(), persistence_startup=config).start()


async def test_r11_open_comes_before_ping_and_both_before_the_first_fact():
    calls: list[str] = []

    class Told(InMemoryPersistence):
        async def open(self) -> None:
            calls.append("open")

        async def ping(self) -> None:
            calls.append("ping")

        async def record_batch(
            self, records: Sequence[PersistedRecord], *, batch_id: str | None = None
        ) -> None:
            calls.append("record")

    async with ActorSystem(persistence=Told()) as system:
        system.audit()
    assert calls[:2] == ["open", "ping"]
    assert "record" in calls


# -- R24


def test_r24_the_share_of_dropped_facts_is_forgotten_after_two_windows(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(dropped_share.time, "monotonic", lambda: now[0])
    share = dropped_share.DroppedShare()
    share.count(recorded=90, dropped=10)
    assert share.share() == 0.1
    now[0] += dropped_share.WINDOW_SECONDS
    share.count(recorded=100)
    assert share.share() == 0.05
    now[0] += dropped_share.WINDOW_SECONDS
    assert share.share() == 0.0
    share.count(dropped=1)
    now[0] += 10 * dropped_share.WINDOW_SECONDS
    assert share.share() == 0.0
