"""`papyra inspect summary`: its counts, its memory, and its looks."""

from __future__ import annotations

import json
import math
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from hypothesis import given, settings
from hypothesis import strategies as st

from papyra.persistence.models import (
    PersistedAudit,
    PersistedDeadLetter,
    PersistedEvent,
    PersistenceAnomaly,
    PersistenceAnomalyType,
)
from papyra_cli._output.formats import format_span
from papyra_cli.commands._summary.counts import Counted
from papyra_cli.commands._summary.timeline import Timeline
from papyra_cli.commands._summary.view import sparkline

from .conftest import Both, Runner, line


def event(kind: str, actor: str = "s:1", moment: float = 0.0, **payload: str) -> PersistedEvent:
    return PersistedEvent("s", actor, kind, dict(payload), moment)


def test_what_is_counted() -> None:
    counted = Counted()
    records = [  # newest first
        event("ActorRestarted", moment=9),
        event("ActorCrashed", moment=8, error="ValueError: newest"),
        event("ActorCrashed", moment=7, error="ValueError: older"),
        event("ActorCrashed", "s:2", moment=6),
        PersistedAudit("s", 5.0, 3, 2, 1, 0, 1, ("x",), (), 1),
        PersistedAudit("s", 4.0, 9, 9, 9, 9, 9, (), (), 9),
        PersistedDeadLetter("s", "s:9", "str", "x", 3.0),
        PersistedDeadLetter("s", "s:8", "dict", {}, 2.0),
        PersistedDeadLetter("s", "s:9", "dict", {}, 1.0),
    ]
    for record in records:
        counted.add(record)
    damage = PersistenceAnomaly(PersistenceAnomalyType.TORN_TAIL, "p", "d")
    summary = counted.summary("toy", [damage], top=1)
    assert summary.counts == {"events": 4, "audits": 2, "dead_letters": 3}
    assert summary.event_types == {"ActorCrashed": 3, "ActorRestarted": 1}
    assert summary.message_types == {"dict": 2, "str": 1}
    assert (summary.first_timestamp, summary.last_timestamp) == (1.0, 9.0)
    (worst,) = summary.actors
    assert (worst.actor, worst.crashes, worst.restarts) == ("s:1", 2, 1)
    assert (worst.last_crash, worst.last_error) == (8.0, "ValueError: newest")
    assert summary.dead_letter_targets == {"s:9": 2}
    assert summary.newest_audit == records[4]
    assert summary.anomaly_types == {"torn_tail": 1}
    assert summary.others == {"event_types": 0, "message_types": 0, "actors": 1, "dead_letter_targets": 1}
    assert summary.names_cut == []


def test_memory_does_not_grow_with_the_records_nor_with_their_names() -> None:
    """Each record brings new names, of which ten thousand of each sort are kept, none of them long."""
    counted = Counted()

    def add(begin: int, end: int) -> int:
        for number in range(begin, end):
            name = f"s:{number}" + "x" * 1000
            counted.add(event("ActorCrashed", name, float(number), error="y" * 1000))
            counted.add(event(name, name, number * 1e3))
            counted.add(PersistedDeadLetter("s", name, name, None, -float(number)))
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        full = add(0, 11_000)
        assert add(11_000, 22_000) < full + 50_000
    finally:
        tracemalloc.stop()
    summary = counted.summary("toy", [], top=10)
    assert summary.names_cut == ["event_types", "message_types", "actors", "dead_letter_targets"]
    assert summary.others["actors"] == 22_000 - 10
    assert summary.others["dead_letter_targets"] == 22_000 - 10
    assert summary.others["event_types"] == 22_000 - 9_999
    assert sum(summary.timeline.facts) == 66_000


@settings(deadline=None)  # a busy machine must not fail it
@given(
    st.lists(
        st.floats(allow_nan=True, allow_infinity=True) | st.floats(1.7e9, 1.8e9) | st.floats(0, 3),
        max_size=80,
    )
)
def test_the_timeline_counts_each_fact_in_the_span_of_its_time(moments: list[float]) -> None:
    timeline = Timeline()
    dates = [moment for moment in moments if math.isfinite(moment) and abs(moment) < 1e11]
    for moment in moments:
        timeline.add(moment, crash=moment > 1)
    bars = timeline.bars(60)
    assert sum(bars.facts) == len(dates)
    assert sum(bars.crashes) == sum(moment > 1 for moment in dates)
    assert len(bars.facts) == len(bars.crashes) <= 60
    if not dates:
        assert (bars.start, bars.seconds, bars.end) == (None, None, None)
        return
    assert bars.start is not None
    assert bars.seconds is not None
    assert bars.end is not None
    slack = bars.seconds * 1e-6  # of floats
    assert bars.start - slack <= min(dates)
    assert max(dates) <= bars.end + slack
    assert bars.facts[0] > 0 or bars.seconds > 1e9  # nothing is drawn before the first
    narrow = bars.narrowed(7)
    assert sum(narrow.facts) == len(dates)
    assert len(narrow.facts) <= 7


def test_bars_are_as_narrow_as_their_number_allows() -> None:
    timeline = Timeline()
    for second in range(0, 3600, 10):
        timeline.add(1_700_000_000.0 + second, crash=False)
    bars = timeline.bars(60)
    assert (len(bars.facts), bars.seconds) == (60, 60.0)
    assert set(bars.facts[1:-1]) == {6}


def test_sparklines() -> None:
    assert sparkline([0, 1, 4, 8], "utf-8") == " ▁▄█"
    assert sparkline([0, 1, 4, 8], "ascii") == " .=@"
    assert sparkline([1_000_000, 1], "utf-8") == "█▁"
    assert sparkline([], "utf-8") == ""


def test_spans_of_time() -> None:
    spans = {
        0.02: "20ms",
        1.0: "1s",
        165.0: "2m 45s",
        3600.0: "1h",
        90_000.0: "1d 1h",
        40_000_000.0: "1y 97d",
    }
    assert {seconds: format_span(seconds) for seconds in spans} == spans


def test_it_looks_as_it_should(sample: Path, both: Callable[..., Both]) -> None:
    done = both("inspect", "summary", "--path", "papyra.ndjson", "--color", "never", "--top", "2")
    assert done.code == 0
    for part in (
        "Records", "Dead letters", "Over time: ", "Crashes and restarts (and ", "Newest audit, ",
        "ActorCrashed", "ValueError: no stock", "shop:9", "█", "240 records in the json store",
    ):  # fmt: skip
        assert part in done.shown
    assert re.search("facts +[▁▂▃▄▅▆▇█]{40,60} +[0-9]+", done.shown)
    plain = [line.split("\t") for line in done.pipe.stdout.splitlines()]
    assert [row[1:] for row in plain if row[0] == "total"] == [
        ["events", "216"],
        ["audits", "6"],
        ["dead_letters", "18"],
    ]
    assert [row[1:] for row in plain if row[0] == "target"] == [["shop:9", "18"]]
    assert len([row for row in plain if row[0] == "actor"]) == 2
    (timeline,) = (row for row in plain if row[0] == "timeline")
    assert sum(map(int, timeline[3].split())) == 240


@pytest.mark.parametrize("columns", ["30", "60", "80", "120", "200"])
def test_it_fits_the_terminal(sample: Path, invoke: Callable[..., Result], columns: str) -> None:
    with sample.open("a") as file:
        long = {"kind": "event", "system_id": "s", "actor_address": "shop:" + "9" * 60, "event_type": "ActorCrashed",
                "payload": {"error": "E" * 500}, "timestamp": 1.8e9}  # fmt: skip
        file.write(json.dumps(long) + "\n")
    shown = invoke("inspect", "summary", "--path", "papyra.ndjson", "-o", "table", COLUMNS=columns).stdout
    assert max(map(len, shown.splitlines())) <= int(columns)
    assert "█" in shown


def test_since_and_until_hold(sample: Path, invoke: Callable[..., Result]) -> None:
    done = invoke("inspect", "summary", "--path", "papyra.ndjson", "--since", "1h", "-o", "json")
    summary = json.loads(done.stdout)
    assert sum(summary["counts"].values()) == 12
    assert sum(summary["timeline"]["facts"]) == 12
    empty = invoke("inspect", "summary", "--path", "papyra.ndjson", "--until", "10d", "-o", "json")
    assert json.loads(empty.stdout)["timeline"] == {"start": None, "seconds": None, "facts": [], "crashes": [], "end": None}  # fmt: skip
    assert (
        "0 records"
        in invoke("inspect", "summary", "--path", "papyra.ndjson", "--until", "10d", "-o", "table").stdout
    )


def test_a_store_that_holds_odd_times_is_summed_up(sample: Path, invoke: Callable[..., Result]) -> None:
    with sample.open("a") as file:
        for moment in (1e300, -1e300, 0.0):
            record = {"kind": "event", "system_id": "s", "actor_address": "s:1", "event_type": "A", "payload": {}, "timestamp": moment}  # fmt: skip
            file.write(json.dumps(record) + "\n")
    for form in ("table", "plain", "json"):
        done = invoke("inspect", "summary", "--path", "papyra.ndjson", "-o", form)
        assert (done.exit_code, done.stderr) == (0, "")


def test_what_is_not_shown_is_counted(
    run: Runner, invoke: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    records: list[dict[str, object]] = []
    for number in range(9):
        base = {"system_id": "s", "timestamp": 1.0 + number, "payload": {}}
        crash = {"kind": "event", "actor_address": f"s:{number}", "event_type": "ActorCrashed"}
        letter = {"kind": "dead_letter", "target": f"s:{number}", "message_type": f"M{number}"}
        records += [base | crash, base | letter]
    (run.folder / "f").write_text("".join(map(line, records)))
    monkeypatch.setattr("papyra_cli.commands._summary.view._MAX_TYPES", 4)
    shown = invoke("inspect", "summary", "--path", "f", "--top", "2", "-o", "table", COLUMNS="120")
    assert shown.stderr == ""
    assert re.search(r"of other types +5 ", shown.stdout)
    assert re.search(r"to other targets +7 ", shown.stdout)
    assert "(and 7 of other actors)" in shown.stdout
    monkeypatch.setattr("papyra_cli.commands._summary.counts._MAX_NAMES", 3)
    cut = invoke("inspect", "summary", "--path", "f", "-o", "json")
    for names in ("actors", "dead letter targets", "message types"):
        assert (
            f"papyra: note: {names}: only the 10,000 with the newest facts were counted apart" in cut.stderr
        )
    assert json.loads(cut.stdout)["others"]["actors"] == 6
