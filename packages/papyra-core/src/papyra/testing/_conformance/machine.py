"""A state machine over the contract of a store. It needs Hypothesis, so it is imported where it runs."""
# ruff: noqa: S101 - these are tests, and assert is how tests speak

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, TypeVar

import anyio
import hypothesis.strategies as st
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from papyra.persistence.batch import BatchBackend
from papyra.persistence.models import PersistedAudit, PersistedDeadLetter, PersistedEvent
from papyra.persistence.query import Query
from papyra.persistence.retention import RetentionPolicy
from papyra.testing._conformance.facts import NOW, streamed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from papyra.persistence.backend import PersistenceBackend
    from papyra.persistence.models import PersistedRecord
    from papyra.testing._conformance.base import OpenBackend

__all__ = ["try_orders"]

_T = TypeVar("_T")

MAX_STEPS = 20

_SECONDS = st.integers(0, 30).map(float)
_TIMES = _SECONDS.map(lambda seconds: NOW + seconds)
_WORDS = st.sampled_from(["a", "b", "A", ""])
_NUMBERS = st.integers(0, 9)
_EVENTS = st.builds(PersistedEvent, st.just("s"), _WORDS, _WORDS, st.just({}), _TIMES)
_LETTERS = st.builds(PersistedDeadLetter, st.just("s"), _WORDS, _WORDS, st.text(max_size=9), _TIMES)
_AUDITS = st.builds(
    PersistedAudit, st.just("s"), _TIMES, *[_NUMBERS] * 5, st.just(("x",)), st.just(()), _NUMBERS
)
_QUERIES = st.builds(
    Query,
    st.none() | st.sampled_from([PersistedEvent, PersistedDeadLetter, PersistedAudit]),
    st.none() | st.integers(0, 6),
    st.none() | _TIMES,
    st.none() | _TIMES,
    st.none() | _WORDS,
    st.none() | _WORDS,
)
_POLICIES = st.builds(
    RetentionPolicy,
    st.none() | st.integers(0, 12),
    st.none() | _SECONDS,
    st.none() | st.integers(0, 900),
)


def try_orders(
    open_backend: OpenBackend,
    *,
    loop: str,
    durable: bool,
    size: Callable[[PersistedRecord], int] | None,
    examples: int,
    patience: float,
) -> None:
    """Raise the `AssertionError` of the shortest order of calls that was found to differ from the model."""

    class Machine(_StoreMachine):
        def __init__(self) -> None:
            super().__init__(open_backend, loop, durable, size, patience)

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=MAX_STEPS,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


def _no_size(_record: PersistedRecord) -> int:
    return 0


class _StoreMachine(RuleBasedStateMachine):
    """Records, queries, compacts and reopens a store; the model is the list of all that was recorded."""

    def __init__(
        self,
        open_backend: OpenBackend,
        loop: str,
        durable: bool,
        size: Callable[[PersistedRecord], int] | None,
        patience: float,
    ) -> None:
        super().__init__()
        self._open_backend, self._durable, self._size, self._patience = open_backend, durable, size, patience
        self._ends = ExitStack()
        self._portal = self._ends.enter_context(start_blocking_portal(backend=loop))
        self._policy, self._now = RetentionPolicy(), NOW + 20
        self._recorded: list[PersistedRecord] = []
        self._backend: PersistenceBackend | None = None

    # -- the model

    def _kept(self) -> list[PersistedRecord]:
        size = self._size or _no_size
        return self._policy.newest_kept(reversed(self._recorded), self._now, size)[::-1]

    def _selected(self, query: Query[PersistedRecord]) -> list[PersistedRecord]:
        found = list(filter(query.matches, self._kept()))
        return found if query.limit is None else found[max(0, len(found) - query.limit) :]

    # -- the store

    def _await(self, call: Callable[[PersistenceBackend], Awaitable[_T]]) -> _T:
        backend = self._backend
        assert backend is not None

        async def run() -> _T:
            with anyio.fail_after(self._patience):
                return await call(backend)

        return self._portal.call(run)

    def _open(self) -> None:
        self._backend = self._open_backend(self._policy)
        self._backend.time_fn = lambda: self._now

    def _close(self) -> None:
        self._await(lambda backend: backend.aclose())
        self._backend = None

    @initialize(policy=_POLICIES)
    def begin(self, policy: RetentionPolicy) -> None:
        if self._durable:  # what the example before this one left
            self._policy = RetentionPolicy(max_records=0)
            self._open()
            self._await(lambda backend: backend.compact())
            self._close()
        bytes_kept = policy.max_total_bytes if self._size else None
        self._policy = RetentionPolicy(policy.max_records, policy.max_age_seconds, bytes_kept)
        self._open()

    @rule(records=st.lists(_EVENTS | _LETTERS | _AUDITS, min_size=1, max_size=12))
    def record(self, records: list[PersistedRecord]) -> None:
        self._await(lambda backend: backend.record_batch(records))
        self._recorded += records

    @rule(moment=_TIMES)
    def go_on_in_time(self, moment: float) -> None:
        # A clock that goes back would show again what a store may have forgotten.
        self._now = max(self._now, moment)

    @rule(query=_QUERIES)
    def ask(self, query: Query[PersistedRecord]) -> None:
        if not isinstance(self._backend, BatchBackend) and query.kind in (None, PersistedAudit):
            query = Query(PersistedAudit, query.limit, query.since, query.until)
        assert list(self._await(lambda backend: _listed(backend, query))) == self._selected(query)

    @rule()
    def stream(self) -> None:
        found, expected = self._await(streamed), self._kept()[::-1]
        if not isinstance(self._backend, BatchBackend):  # it promises the order within a kind
            found.sort(key=lambda record: type(record).__name__)
            expected.sort(key=lambda record: type(record).__name__)
        assert found == expected

    @rule(dry=st.booleans())
    def compact(self, dry: bool) -> None:
        before = self._await(lambda backend: backend.compact(dry_run=True))
        assert before.after_records == len(self._kept())
        if not dry:
            report = self._await(lambda backend: backend.compact())
            assert (report.before_records, report.after_records) == (
                before.before_records,
                before.after_records,
            )
            self._recorded = self._kept()

    @precondition(lambda self: self._durable)
    @rule()
    def reopen(self) -> None:
        self._close()
        self._open()

    def teardown(self) -> None:
        with self._ends:
            if self._backend is not None:
                try:
                    self.stream()
                    assert not self._await(lambda backend: backend.scan()).has_anomalies
                finally:
                    self._close()


async def _listed(backend: PersistenceBackend, query: Query[PersistedRecord]) -> Sequence[PersistedRecord]:
    limit, since, until = query.limit, query.since, query.until
    if query.kind is PersistedEvent:
        return await backend.list_events(
            limit=limit, since=since, until=until, event_type=query.type, actor=query.actor
        )
    if query.kind is PersistedDeadLetter:
        return await backend.list_dead_letters(
            limit=limit, since=since, until=until, message_type=query.type, actor=query.actor
        )
    if isinstance(backend, BatchBackend):
        return await backend.select(query)
    return await backend.list_audits(limit=limit, since=since, until=until)
