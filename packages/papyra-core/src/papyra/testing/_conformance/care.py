"""What holds for closing, reopening, counters, progress and URLs."""
# ruff: noqa: S101 - these are tests, and assert is how tests speak

from __future__ import annotations

import logging
import socket
import traceback
from contextlib import aclosing, contextmanager
from functools import partial
from typing import TYPE_CHECKING

import anyio
import pytest

from papyra.exceptions import BackendURLError, PersistenceError
from papyra.persistence.backend import backend_capabilities, safe_metrics_snapshot
from papyra.persistence.metrics import PersistenceMetrics
from papyra.persistence.registry import backend_problem
from papyra.persistence.url import RETENTION_OPTIONS, BackendURL
from papyra.plugins import API_VERSION, declared_api
from papyra.testing._conformance.base import ConformanceBase
from papyra.testing._conformance.facts import ODD_TEXTS, audit, event, letter, mixed, stored, streamed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from papyra.persistence.backend import PersistenceBackend
    from papyra.testing._conformance.base import OpenBackend

__all__ = ["CarePromises"]


_PASSWORD = "s3cr3t%2Fw%40rd"  # noqa: S105 - of no server


class CarePromises(ConformanceBase):
    """A closed store says so; records are there again; counters count; a URL's mistakes are explained."""

    # -- closing and reopening

    async def test_flush_returns(self, open_backend: OpenBackend) -> None:
        async with self.using(open_backend()) as backend:
            await backend.flush()
            await backend.record_event(event(1))
            await backend.flush()
            assert list(await backend.list_events()) == [event(1)]

    async def test_closing_twice_is_fine(self, open_backend: OpenBackend) -> None:
        backend = open_backend()
        closed = [backend.closed]
        await backend.record_event(event(1))
        for _ in range(2):
            await backend.aclose()
            closed.append(backend.closed)
        assert closed == [False, True, True]

    async def test_a_backend_that_was_never_used_closes(self, open_backend: OpenBackend) -> None:
        backend = open_backend()
        await backend.aclose()
        assert backend.closed

    async def test_after_closing_every_call_is_refused(self, open_backend: OpenBackend) -> None:
        backend = open_backend()
        await backend.record_event(event(1))
        await backend.aclose()
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "record_event": lambda: backend.record_event(event(2)),
            "record_audit": lambda: backend.record_audit(audit(2)),
            "record_dead_letter": lambda: backend.record_dead_letter(letter(2)),
            "record_batch": lambda: backend.record_batch(mixed(2)),
            "list_events": backend.list_events,
            "list_audits": backend.list_audits,
            "list_dead_letters": backend.list_dead_letters,
            "flush": backend.flush,
            "scan": backend.scan,
            "recover": backend.recover,
            "recover in a dry run": lambda: backend.recover(dry_run=True),
            "compact": backend.compact,
            "compact in a dry run": lambda: backend.compact(dry_run=True),
            "stream": lambda: streamed(backend),
            "follow": lambda: anext(backend.follow(limit=1)),
        }
        for name, call in calls.items():
            try:
                await call()
            except PersistenceError:
                continue
            pytest.fail(f"{name} was not refused with a PersistenceError after aclose")
        assert backend.metrics.snapshot()["records_written"] == 1

    async def test_reopening_shows_what_was_recorded(self, open_backend: OpenBackend) -> None:
        if not self.durable:
            pytest.skip("not a durable store")
        odd = letter(99, payload=list(ODD_TEXTS.values()))
        async with self.using(open_backend()) as backend:
            await backend.record_batch([*mixed(20), odd])
        async with self.using(open_backend()) as backend:
            assert await stored(backend) == [*mixed(20), odd]
            assert (await backend.scan()).anomalies == ()
            await backend.record_event(event(100))
        async with self.using(open_backend()) as backend:
            assert await stored(backend) == [*mixed(20), odd, event(100)]

    async def test_backends_that_share_a_store_see_each_other(self, open_backend: OpenBackend) -> None:
        if not self.shared:
            pytest.skip("not a store that several backends may open at once")

        async def write(backend: PersistenceBackend, first: int) -> None:
            for number in range(first, first + 20):
                await backend.record_event(event(number))

        async with self.using(open_backend()) as one, self.using(open_backend()) as other:
            async with anyio.create_task_group() as group:
                group.start_soon(write, one, 0)
                group.start_soon(write, other, 20)
                group.start_soon(one.compact)
            found = list(await one.list_events())
            assert list(await other.list_events()) == found
        for first in (0, 20):  # each one's records in its order, whatever is between them
            own = [event(n) for n in range(first, first + 20)]
            assert [record for record in found if record in own] == own
        assert len(found) == 40

    # -- facts about the backend

    async def test_the_counters_count(self, open_backend: OpenBackend) -> None:
        async with self.using(open_backend()) as backend:
            before = backend.metrics.snapshot()
            assert set(PersistenceMetrics().snapshot()) <= set(before)
            await backend.record_event(event(0))
            await backend.record_audit(audit(1))
            await backend.record_dead_letter(letter(2))
            await backend.record_batch(mixed(10))
            await backend.scan()
            await backend.compact()
            after = safe_metrics_snapshot(backend)
            assert after == backend.metrics.snapshot()
            assert after["records_written"] == before["records_written"] + 13
            assert after["scans"] == before["scans"] + 1
            assert after["compactions"] == before["compactions"] + 1
            assert after["bytes_written"] >= before["bytes_written"]
            failures = (
                "write_errors",
                "scan_errors",
                "recovery_errors",
                "compaction_errors",
                "anomalies_detected",
            )
            assert {name: after[name] for name in failures} == dict.fromkeys(failures, 0)

    async def test_a_new_backend_is_open_and_healthy(self, open_backend: OpenBackend) -> None:
        async with self.using(open_backend()) as backend:
            await backend.record_event(event(1))
            assert backend.healthy
            assert not backend.closed

    async def test_the_class_can_stand_behind_an_entry_point(self, open_backend: OpenBackend) -> None:
        async with self.using(open_backend()) as backend:
            kind = type(backend)
            assert backend_problem(kind) is None
            assert declared_api(kind).partition(".")[0] == API_VERSION.partition(".")[0]
            assert BackendURL.parse(f"{kind.name}:").scheme == kind.name
            assert backend_capabilities(backend) == backend_capabilities(kind) >= {"compact", "metrics"}

    # -- progress

    async def test_progress_goes_up_until_all_is_done(self, open_backend: OpenBackend) -> None:
        async with self.using(open_backend()) as backend:
            _skip_without_progress(backend)
            await backend.record_batch(mixed(300))
            for work in (backend.scan, backend.compact, partial(backend.compact, dry_run=True)):
                told = await _progress_of(work)
                assert told, f"{work} said nothing of how far it was"
                assert [done for done, _ in told] == sorted(done for done, _ in told)
                assert all(0 <= done <= total for done, total in told)
                assert told[-1][0] == told[-1][1]
            assert await stored(backend) == mixed(300)

    async def test_what_progress_raises_ends_the_work_and_harms_nothing(
        self, open_backend: OpenBackend
    ) -> None:
        def stop(_done: int, _total: int) -> None:
            raise InterruptedError("enough")

        async with self.using(open_backend()) as backend:
            _skip_without_progress(backend)
            await backend.record_batch(mixed(300))
            for work in (backend.scan, backend.compact):
                with pytest.raises(InterruptedError, match="enough"):
                    await work(progress=stop)
            await backend.record_event(event(300))
            assert not (await backend.scan()).has_anomalies
            assert await stored(backend) == [*mixed(300), event(300)]

    # -- URLs

    async def test_a_url_opens_the_backend_with_its_retention(
        self, open_backend: OpenBackend, backend_url: str
    ) -> None:
        kind, url = await _kind_and_url(open_backend, backend_url)
        async with self.using(
            kind.from_url(_with_option(url, "max_records=3&max_age_seconds=36500d"))
        ) as backend:
            assert type(backend) is kind
            assert backend.retention.max_records == 3
            assert backend.retention.max_age_seconds == 36500 * 86400
            await backend.record_batch(mixed(10))
            assert await stored(backend) == mixed(10)[-3:]

    @pytest.mark.parametrize("option", ["no_such_option=1", "max_records=many", "max_age_seconds=-1"])
    async def test_a_mistake_in_a_url_lists_the_valid_options(
        self, open_backend: OpenBackend, backend_url: str, option: str
    ) -> None:
        kind, url = await _kind_and_url(open_backend, backend_url)
        with pytest.raises(BackendURLError) as caught:
            kind.from_url(_with_option(url, option))
        name, _, value = option.partition("=")
        for word in (name, value if name in RETENTION_OPTIONS else name, *RETENTION_OPTIONS):
            assert word in str(caught.value)

    async def test_the_password_of_a_url_is_shown_nowhere(
        self,
        open_backend: OpenBackend,
        restart_store: Callable[[], object] | None,
        cut_wire: Callable[[], object] | None,
        stall_store: Callable[[], object] | None,
    ) -> None:
        """Not in errors or their causes, not in a repr, not in a log; the server of this URL is not there."""
        kind, _ = await _kind_and_url(open_backend, "")
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        server = f"{kind.name}://papyra:{_PASSWORD}@127.0.0.1:{port}/1"
        with _logged() as shown:
            try:
                kind.from_url(_with_option(server, "no_such_option=1"))
            except BackendURLError as error:
                shown += traceback.format_exception(error)
            if restart_store or cut_wire or stall_store:
                await self._use_in_vain(kind, server, shown)
        for text in shown:
            assert "s3cr3t" not in text

    async def _use_in_vain(self, kind: type[PersistenceBackend], url: str, shown: list[str]) -> None:
        try:
            backend = kind.from_url(url)
        except BackendURLError as error:  # it needs an option
            shown += traceback.format_exception(error)
            return
        async with self.using(backend):
            shown += [repr(backend), str(backend)]
            for call in (
                backend.open,
                backend.ping,
                lambda: backend.record_event(event(1)),
                backend.list_events,
            ):
                try:
                    await call()
                except PersistenceError as error:
                    shown += traceback.format_exception(error)
            shown.append(repr(backend))


@contextmanager
def _logged() -> Generator[list[str]]:
    """Yield a list that gets each line of every log."""
    lines: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    root, handler = logging.getLogger(), Handler()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield lines
    finally:
        root.setLevel(level)
        root.removeHandler(handler)


def _skip_without_progress(backend: PersistenceBackend) -> None:
    if "progress" not in backend_capabilities(backend):
        pytest.skip("scan and compact do not tell how far they have come")


async def _progress_of(work: Callable[..., Awaitable[object]]) -> list[tuple[int, int]]:
    told: list[tuple[int, int]] = []

    def tell(done: int, total: int) -> None:
        told.append((done, total))

    await work(progress=tell)
    return told


async def _kind_and_url(open_backend: OpenBackend, url: str) -> tuple[type[PersistenceBackend], str]:
    async with aclosing(open_backend()) as backend:
        return type(backend), url or f"{backend.name}:"


def _with_option(url: str, option: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}{option}"
