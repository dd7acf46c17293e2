"""Retention policies."""

from __future__ import annotations

import math
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from papyra.persistence import RetentionPolicy
from papyra.persistence.models import PersistedEvent


def event(timestamp: float) -> PersistedEvent:
    return PersistedEvent("s", "s:1", "E", {}, timestamp)


@pytest.mark.parametrize("name", ["max_records", "max_age_seconds", "max_total_bytes"])
@pytest.mark.parametrize("value", [-1, True, "5", float("nan"), [], -math.inf])
def test_a_bad_limit_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=name):
        RetentionPolicy(**{name: value})


def test_only_age_may_be_a_fraction():
    assert RetentionPolicy(max_age_seconds=0.5).max_age_seconds == 0.5
    for name in ("max_records", "max_total_bytes"):
        with pytest.raises(ValueError, match=name):
            RetentionPolicy(**{name: 0.5})


def test_a_policy_without_limits_keeps_all():
    assert RetentionPolicy().keeps_all
    for policy in (
        RetentionPolicy(max_records=0),
        RetentionPolicy(None, 0),
        RetentionPolicy(max_total_bytes=0),
    ):
        assert not policy.keeps_all
    assert RetentionPolicy().oldest_kept(100.0) == -math.inf


@pytest.mark.parametrize("age", [math.inf, 10**400])
def test_an_age_beyond_every_clock_keeps_all(age):
    assert RetentionPolicy(max_age_seconds=age).oldest_kept(100.0) == -math.inf


def test_newest_kept_reads_no_further_than_it_must():
    endless = (event(float(-n)) for n in count())
    kept = RetentionPolicy(max_records=3).newest_kept(endless, 0.0, lambda _: 1)
    assert [one.timestamp for one in kept] == [0.0, -1.0, -2.0]
    assert next(endless).timestamp == -3.0
    kept = RetentionPolicy(max_total_bytes=7).newest_kept(endless, 0.0, lambda _: 2)
    assert len(kept) == 3
    assert RetentionPolicy(max_records=0).newest_kept(endless, 0.0, lambda _: 2) == []


def test_size_is_not_asked_for_without_need():
    def size(_: object) -> int:
        raise AssertionError("asked for the size")

    assert RetentionPolicy(max_records=1, max_age_seconds=5).newest_kept([event(9.0)], 10.0, size)


@given(
    times=st.lists(st.integers(0, 20)),
    max_records=st.none() | st.integers(0, 10),
    max_age=st.none() | st.integers(0, 20),
    max_bytes=st.none() | st.integers(0, 30),
)
def test_age_then_count_then_bytes(times, max_records, max_age, max_bytes):
    records = [event(float(time)) for time in times]
    policy = RetentionPolicy(max_records, max_age, max_bytes)
    kept = policy.newest_kept(reversed(records), 20.0, lambda one: int(one.timestamp) % 4)

    expected = [one for one in records if max_age is None or one.timestamp >= 20.0 - max_age]
    if max_records is not None:
        expected = expected[max(0, len(expected) - max_records) :]
    while max_bytes is not None and sum(int(one.timestamp) % 4 for one in expected) > max_bytes:
        expected.pop(0)
    assert kept[::-1] == expected
