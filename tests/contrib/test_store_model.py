"""Every store of ours but the files against a plain list, driven by Hypothesis."""

from __future__ import annotations

import tempfile
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from papyra.persistence import InMemoryPersistence, Query, RetentionPolicy
from papyra.persistence.models import PersistedAudit, PersistedDeadLetter, PersistedEvent
from papyra_contrib._rows import to_row
from papyra_contrib.sqlite import SQLitePersistence

KINDS = (PersistedEvent, PersistedDeadLetter, PersistedAudit)

times = st.integers(0, 30).map(float)
words = st.sampled_from(["a", "b", "A", ""])
events = st.builds(PersistedEvent, st.just("s"), words, words, st.just({}), times)
letters = st.builds(PersistedDeadLetter, st.just("s"), words, words, st.text(max_size=9), times)
audits = st.builds(
    PersistedAudit,
    st.just("s"),
    times,
    *[st.integers(0, 9)] * 5,
    st.just(("x",)),
    st.just(()),
    st.integers(0, 9),
)


Record = st.lists(events | letters | audits, max_size=12)
Compact = st.booleans()
Reopen = st.none()
Clock = times
steps = st.lists(
    Record
    | Compact
    | Reopen
    | Clock
    | st.builds(
        Query,
        st.none() | st.sampled_from(KINDS),
        st.none() | st.integers(0, 6),
        st.none() | times,
        st.none() | times,
        st.none() | words,
        st.none() | words,
    ),
    max_size=25,
)
policies = st.builds(
    RetentionPolicy,
    st.none() | st.integers(0, 12),
    st.none() | st.integers(0, 15),
    st.none() | st.integers(0, 900),
)


class Model:
    """All records ever recorded, and what the contract says about them."""

    def __init__(self, policy: RetentionPolicy) -> None:
        self.policy, self.records, self.now = policy, [], 20.0

    def kept(self):
        newest_first = self.policy.newest_kept(reversed(self.records), self.now, lambda one: to_row(one)[-2])
        return newest_first[::-1]

    def selected(self, query: Query):
        found = list(filter(query.matches, self.kept()))
        return found if query.limit is None else found[max(0, len(found) - query.limit) :]


async def listed(backend, want: Query):
    span = {"limit": want.limit, "since": want.since, "until": want.until}
    if want.kind is PersistedEvent:
        return list(await backend.list_events(**span, event_type=want.type, actor=want.actor))
    if want.kind is PersistedDeadLetter:
        return list(await backend.list_dead_letters(**span, message_type=want.type, actor=want.actor))
    return await backend.select(want)


async def run(open_backend, policy, steps, durable) -> None:
    model, backend = Model(policy), open_backend(policy)
    backend.time_fn = lambda: model.now
    for step in steps:
        if isinstance(step, Query):
            assert await listed(backend, step) == model.selected(step)
        elif isinstance(step, bool):
            dry = await backend.compact(dry_run=True)
            assert dry.after_records == len(model.kept())
            if not step:
                report = await backend.compact()
                assert (report.before_records, report.after_records) == (
                    dry.before_records,
                    dry.after_records,
                )
                model.records = model.kept()
        elif isinstance(step, float):
            model.now = max(model.now, step)  # a clock that goes back shows again what memory has forgotten
        elif step is None and durable:
            await backend.aclose()
            backend = open_backend(policy)
            backend.time_fn = lambda: model.now
        elif step:
            await backend.record_batch(step)
            model.records += step
    assert await backend.select(Query()) == model.kept()
    assert not (await backend.scan()).has_anomalies
    await backend.aclose()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(policy=policies, steps=steps)
def test_sqlite_does_what_the_model_says(policy, steps):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "papyra.db")
        anyio.run(run, lambda policy: SQLitePersistence(path, policy), policy, steps, True)


@pytest.mark.parametrize("limits", [(None, None), (5, None), (None, 8), (5, 8)])
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=steps)
def test_memory_does_what_the_model_says(limits, steps):
    # Not by bytes: memory estimates them in its own way.
    anyio.run(run, InMemoryPersistence, RetentionPolicy(*limits), steps, False)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(policy=policies, steps=steps)
def test_redis_does_what_the_model_says(redis_server, policy, steps):
    redis = pytest.importorskip("redis", reason="the library redis is not installed")
    from papyra_contrib.redis import RedisPersistence

    url = f"unix://{redis_server.socket}"
    with redis.Redis(unix_socket_path=str(redis_server.socket)) as client:
        client.delete("model")
    anyio.run(run, lambda policy: RedisPersistence(url, policy, stream="model"), policy, steps, True)
