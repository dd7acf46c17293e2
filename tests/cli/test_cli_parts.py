"""The parts: escaping, JSON, times."""

from __future__ import annotations

import json
import time
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from papyra.persistence.models import CompactionReport, PersistenceAnomaly, PersistenceAnomalyType
from papyra_cli._escape import printable
from papyra_cli._output.formats import format_time, read_moment, size
from papyra_cli._output.json import as_json, dump, dump_readable


@settings(deadline=None)  # a busy machine must not fail it
@given(st.text())
def test_printable_is_one_line_and_printable(text: str) -> None:
    assert printable(text).isprintable()
    if text.isprintable():
        assert printable(text) == text


def test_printable_shows_what_was_there() -> None:
    assert printable("a\x1b\n\t\x9b\u202e\ud800\U000e0001é") == "a\\x1b\\n\\t\\x9b\\u202e\\ud800\\U000e0001é"


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text() | st.floats(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_json_is_ascii_without_controls_and_reads_back(value: object) -> None:
    text = dump(value)
    assert text.isascii()
    assert text.isprintable()
    assert json.loads(text) == as_json(value)


def test_reports_and_values_that_json_does_not_have_become_json() -> None:
    report = CompactionReport("toy", 3, 1, None, 7)
    assert json.loads(dump(report))["removed_records"] == 2
    anomaly = PersistenceAnomaly(PersistenceAnomalyType.TORN_TAIL, "p", "d", offset=0)
    assert dump(anomaly) == '{"type":"torn_tail","path":"p","detail":"d","line":null,"offset":0}'
    assert as_json({1: float("nan"), "b": b"x", "s": {"y"}, "t": (1,)}) == {
        "1": "nan",
        "b": "b'x'",
        "s": ["y"],
        "t": [1],
    }


def test_json_that_is_nested_without_end_is_cut() -> None:
    deep: list[object] = []
    for _ in range(10_000):
        deep = [deep]
    assert "nested too deeply" in dump(deep)
    assert "nested too deeply" in dump_readable(deep)


def test_times_are_local_iso_unix_or_relative() -> None:
    moment = datetime(2026, 7, 1, 12, 30, 0, 250_000).astimezone()
    assert format_time(moment.timestamp(), "iso") == moment.isoformat(timespec="milliseconds")
    assert format_time(1700000000.5, "unix") == "1700000000.5"
    ages = {90: "1m ago", 0.2: "now", 3 * 86400: "3d ago", -7200: "in 2h", 400 * 86400: "1y ago"}
    assert {age: format_time(1000.0 - age, "relative", 1000.0) for age in ages} == ages


@pytest.mark.parametrize("timestamp", [1e300, float("nan"), float("inf"), -1e18])
def test_times_that_no_calendar_has_are_shown_as_numbers(timestamp: float) -> None:
    assert format_time(timestamp, "iso") == repr(timestamp)
    assert format_time(timestamp, "relative")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1700000000", 1700000000.0),
        ("1700000000.25", 1700000000.25),
        ("0", 0.0),
        ("20260701", datetime(2026, 7, 1).timestamp()),
        ("2026-07-01T12:00:00Z", 1782907200.0),
        ("2026-07-01T12:00:00+00:00", 1782907200.0),
        ("20260701T120000Z", 1782907200.0),
    ],
)
def test_moments(text: str, moment: float) -> None:
    assert read_moment(text) == moment


def test_moments_without_an_offset_are_local_and_spans_are_ago() -> None:
    assert read_moment("2026-07-01") == datetime(2026, 7, 1).timestamp()
    assert read_moment("15m") == pytest.approx(time.time() - 900, abs=60)


def test_r27_times_of_day_are_the_latest_ones_and_days_begin_at_midnight() -> None:
    now = time.time()
    for text in ("00:00", "02:00", "23:59", "2:00", "12:00:30"):
        moment = datetime.fromtimestamp(read_moment(text))
        assert now - 86400 - 3601 <= moment.timestamp() <= time.time()  # an hour more where the clocks change
        assert f"{moment:%H:%M:%S}".startswith(f"{text.partition(':')[0]:0>2}:{text.partition(':')[2]}")
    today = datetime.fromtimestamp(read_moment("today"))
    yesterday = datetime.fromtimestamp(read_moment("yesterday"))
    assert (today.hour, today.minute, yesterday.hour) == (0, 0, 0)
    assert 1 <= (datetime.now().date() - yesterday.date()).days <= 2


@pytest.mark.parametrize(
    "text", ["", "tomorrow", "15x", "15", "90.5", "25:00", "m", "-5", "2026-13-01", "1e5", "٣"]
)
def test_other_moments_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected Unix time, ISO 8601"):
        read_moment(text)


def test_sizes_for_people() -> None:
    sizes = {
        None: "-",
        0: "0 B",
        999: "999 B",
        1000: "1.0 KB",
        2_500_000: "2.5 MB",
        -1500: "-1.5 KB",
        10**16: "10000.0 TB",
    }
    assert {number: size(number) for number in sizes} == sizes
