"""Names, classes and runs in what `papyra inspect` prints: R3, R4, R5, R25, R33."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from papyra.persistence.processes import process_started

from .conftest import Runner

NOW = 1_790_000_000.0
ERROR = "ConnectionRefusedError: [Errno 111] Connect call failed ('10.0.0.3', 587)"


def line(record: dict[str, object]) -> str:
    return json.dumps(record) + "\n"


def event(
    moment: float, kind: str, address: str, run: str, name: str | None, type_: str | None, **payload: object
):
    whose = {"type": type_, "name": name}
    payload = {key: value for key, value in whose.items() if value} | payload
    return {"kind": "event", "system_id": "shop", "actor_address": address, "event_type": kind,
            "payload": payload, "timestamp": NOW + moment, "run": run}  # fmt: skip


def one_run(start: float, run: str, order: list[str]) -> list[dict[str, object]]:
    """Return the records of a run in which the mailer crashes twice; the spawn order decides on the
    addresses.
    """
    found = [
        event(start + number, "ActorStarted", f"shop:{number}", run, name, f"shop.{name.title()}")
        for number, name in enumerate(order, 1)
    ]
    mailer = f"shop:{order.index('mailer') + 1}"
    for number in range(2):
        moment = start + 10 + number
        crash = {"error": ERROR, "message_type": "Send", "decision": "restart", "restarts": number + 1}
        found.append(event(moment, "ActorCrashed", mailer, run, "mailer", "shop.Mailer", **crash))
        found.append(event(moment + 0.5, "ActorRestarted", mailer, run, "mailer", "shop.Mailer", delay=0.1))
    found.append(
        event(start + 14, "ActorCrashed", "shop:7", run, None, "shop.Order", error="ValueError: no stock")
    )
    found.append(
        {
            "kind": "dead_letter",
            "system_id": "shop",
            "target": mailer,
            "message_type": "Send",
            "payload": {"n": 1},
            "timestamp": NOW + start + 15,
            "reason": "stopped",
            "target_name": "mailer",
            "target_type": "shop.Mailer",
            "run": run,
        }
    )
    return found


@pytest.fixture
def store(run: Runner) -> Path:
    """Two runs of a program, whose actors were spawned in another order."""
    path = run.folder / "papyra.ndjson"
    records = [
        *one_run(0, "m0000000001a", ["gateway", "mailer"]),
        *one_run(600, "m0000000002b", ["mailer", "gateway"]),
    ]
    path.write_text("".join(map(line, records)))
    return path


@pytest.fixture
def show(store: Path, invoke: Callable[..., Result]) -> Callable[..., Result]:
    def start(*args: str, **env: str) -> Result:
        return invoke("inspect", *args, "--path", "papyra.ndjson", **env)

    return start


@pytest.mark.parametrize(
    ("wanted", "crashes"),
    [("mailer", 4), ("Mailer", 4), ("shop.Mailer", 4), ("mail*", 4), ("Order", 2), ("shop:7", 2), ("shop:*", 6), ("gateway", 0)],
)  # fmt: skip
def test_r04_an_actor_is_an_address_a_name_a_class_or_a_pattern(
    show: Callable[..., Result], wanted: str, crashes: int
) -> None:
    done = show("events", "--crashes", "--actor", wanted, "-o", "jsonl")
    assert (done.exit_code, len(done.stdout.splitlines())) == (0, crashes)
    assert all(json.loads(row)["event_type"] == "ActorCrashed" for row in done.stdout.splitlines())


def test_r04_names_and_classes_are_shown(show: Callable[..., Result]) -> None:
    assert '"name": "mailer"' in show("events").stdout
    assert "\tshop:2 mailer shop.Mailer\tSend\t" in show("dead-letters").stdout
    for command in ("events", "dead-letters"):
        table = show(command, "-o", "table", COLUMNS="120").stdout
        assert "mailer" in table
        assert "Mailer" in table


def test_r04_crashes_and_type_contradict(show: Callable[..., Result]) -> None:
    assert show("events", "--crashes", "--type", "ActorStarted").exit_code == 2


def test_r04_the_summary_counts_by_name_and_never_by_a_number_that_two_runs_share(
    show: Callable[..., Result],
) -> None:
    summary = json.loads(show("summary", "-o", "json").stdout)
    worst = summary["actors"][0]
    assert (worst["actor"], worst["type"], worst["crashes"], worst["restarts"]) == (
        "mailer",
        "shop.Mailer",
        4,
        4,
    )
    assert (worst["last_error"], worst["last_crash"]) == (ERROR, NOW + 611)
    assert summary["dead_letter_targets"] == {"mailer": 2}
    assert not any(one["actor"].startswith("shop:") for one in summary["actors"])


def test_r04_the_story_of_an_actor_is_in_order(show: Callable[..., Result]) -> None:
    done = show("actor", "mailer", "-o", "plain", "--time", "unix")
    rows = [row.split("\t") for row in done.stdout.splitlines()]
    assert [row[3] for row in rows[:-1]] == [
        *("ActorStarted", "ActorCrashed", "ActorRestarted", "ActorCrashed", "ActorRestarted", "DeadLetter")
    ] * 2
    assert rows[1][4] == f"{ERROR}, message_type Send, decision restart, restarts 1"
    assert rows[5][4] == 'Send: stopped: {"n": 1}'
    assert rows[-1] == ["status", "12 facts"]
    assert [float(row[1]) for row in rows[:-1]] == sorted(float(row[1]) for row in rows[:-1])


@pytest.mark.parametrize(
    "command", [("events", "--actor", "maler"), ("dead-letters", "--actor", "maler"), ("actor", "maler")]
)
def test_r05_a_name_that_matches_nothing_brings_the_nearest(
    show: Callable[..., Result], command: tuple[str, ...]
) -> None:
    done = show(*command)
    assert done.exit_code == 0
    assert "papyra: note: --actor maler: no record matches; the nearest are mailer" in done.stderr
    assert "no record matches" not in show(command[0], *command[1:-1], "mailer").stderr


def test_r05_an_address_that_nobody_has_brings_names(show: Callable[..., Result]) -> None:
    assert "the nearest are shop:" in show("events", "--actor", "shop:99").stderr


@pytest.mark.parametrize("form", ["plain", "table"])
def test_r25_a_list_that_is_cut_says_so(store: Path, show: Callable[..., Result], form: str) -> None:
    with store.open("a") as file:
        file.writelines(line(record) for record in one_run(1000, "x", ["mailer"]) * 20)
    note = "papyra: note: only the newest 100 {} are shown. --limit N shows more, --limit 0 all\n"
    assert show("events", "-o", form).stderr == note.format("events")
    assert show("actor", "mailer", "-o", form).stderr == note.format("facts")
    for limit in ("0", "5", "100000"):
        assert show("events", "--limit", limit, "-o", form).stderr == ""


def test_r25_json_is_complete_and_plain_lines_are_cut_at_100(
    store: Path, show: Callable[..., Result]
) -> None:
    with store.open("a") as file:
        file.writelines(
            line(record) for number in range(20) for record in one_run(1000 + 60 * number, "x", ["mailer"])
        )
    total = store.read_text().count('"event"')
    assert len(json.loads(show("events", "-o", "json").stdout)) == total > 100
    assert len(show("events", "-o", "jsonl").stdout.splitlines()) == total
    cut = show("events")
    assert len(cut.stdout.splitlines()) == 101
    assert "only the newest 100 events are shown" in cut.stderr
    assert len(show("events", "--limit", "0").stdout.splitlines()) == total + 1


@pytest.mark.parametrize("command", ["events", "dead-letters", "summary", "runs", "actor mailer"])
@pytest.mark.parametrize("columns", [20, 40, 80])
def test_r33_narrow_terminals_keep_what_says_most(
    show: Callable[..., Result], command: str, columns: int
) -> None:
    table = show(*command.split(), "-o", "table", COLUMNS=str(columns)).stdout
    drawn = table.splitlines()[:-1]  # the last line is the status
    assert max(map(len, drawn)) <= columns
    if command in ("events", "actor mailer"):
        assert "mailer" in table or columns < 80
        # Nothing of an error is lost: it wraps.
        if columns == 80:
            assert "…" not in table
            for word in ("ConnectionRefusedError:", "failed", "587"):
                assert word in table
    if command == "events" and columns == 20:
        assert "ActorC" in table
        assert "time" not in table


def test_r27_an_odd_time_is_noted_and_a_number_without_a_unit_refused(show: Callable[..., Result]) -> None:
    assert (
        "--since 1975-01-01: 1975-01-01T00:00:00 lies before 1980"
        in show("events", "--since", "1975-01-01").stderr
    )
    assert "lies in the future" in show("events", "--until", "2999-01-01").stderr
    refused = show("events", "--since", "15")
    assert refused.exit_code == 2
    assert "a span ago as in 15m" in refused.stderr


# -- R3: runs


def system_event(moment: float, kind: str, run: str, **payload: object) -> dict[str, object]:
    return event(moment, kind, "shop:0", run, None, None, **payload)


def write_runs(path: Path) -> None:
    """Write runs that ended in each way, the oldest first, as a store holds them."""
    here, elsewhere = {"host": socket.gethostname()}, {"host": "elsewhere.example"}
    began = process_started(os.getpid())
    records = [
        system_event(0, "SystemStarted", "a-clean", pid=11, process_started=1.0, **here),
        *one_run(1, "a-clean", ["gateway", "mailer"]),
        system_event(100, "SystemStopped", "a-clean", reason="closed", seconds=100),
        system_event(200, "SystemStarted", "b-failed", pid=12, process_started=1.0, **here),
        system_event(210, "SystemStopped", "b-failed", reason="error", seconds=10),
        system_event(300, "SystemStarted", "c-killed", pid=os.getpid(), process_started=1.0, **here),
        *one_run(301, "c-killed", ["mailer", "gateway"]),
        system_event(400, "SystemStarted", "d-unknown", pid=os.getpid(), process_started=began, **elsewhere),
        system_event(500, "SystemStarted", "e-running", pid=os.getpid(), process_started=began, **here),
        system_event(501, "SystemStarted", "f-running", pid=os.getpid(), process_started=began, **here),
    ]
    path.write_text("".join(map(line, records)))


def test_r03_runs_say_how_each_ended(store: Path, show: Callable[..., Result]) -> None:
    write_runs(store)
    found = json.loads(show("runs", "-o", "json").stdout)
    assert {one["run"]: one["ended"] for one in found} == {
        "a-clean": "clean", "b-failed": "failed", "c-killed": "killed", "d-unknown": "unknown",
        "e-running": "running", "f-running": "running",
    }  # fmt: skip
    first, killed, running = found[0], found[2], found[4]
    assert (first["start"], first["end"], first["duration"], first["pid"]) == (NOW, NOW + 100, 100.0, 11)
    assert (first["actors"], first["crashes"], first["dead_letters"]) == (2, 3, 1)
    assert (killed["end"], killed["duration"]) == (
        NOW + 316,
        16.0,
    )  # the newest record: when it was killed is unknown
    assert (running["end"], running["duration"], running["host"]) == (None, None, socket.gethostname())


def test_r03_the_newest_runs(store: Path, show: Callable[..., Result]) -> None:
    write_runs(store)
    done = show("runs", "--limit", "2")
    assert [row.split("\t")[1] for row in done.stdout.splitlines()[:-1]] == ["e-running", "f-running"]


def test_r03_runs_fit_a_terminal_of_80_columns(store: Path, show: Callable[..., Result]) -> None:
    write_runs(store)
    table = show("runs", "-o", "table", COLUMNS="80").stdout
    assert max(map(len, table.splitlines())) <= 80
    for word in ("c-killed", "≥ 16s", " 1m 40s", "killed", "running", "clean", "2026-09-21T"):
        assert word in table


def test_r03_records_without_a_run_are_counted(store: Path, show: Callable[..., Result]) -> None:
    store.write_text(
        line({key: value for key, value in one_run(0, "", ["mailer"])[0].items() if key != "run"})
    )
    done = show("runs")
    assert done.stdout == "status\t0 runs\n"
    assert "1 record of older versions of Papyra names no run" in done.stderr


@pytest.mark.parametrize(("run_id", "moments"), [("c-killed", {311.0, 312.0, 315.0}), ("last", set())])
def test_r04_one_run(store: Path, show: Callable[..., Result], run_id: str, moments: set[float]) -> None:
    write_runs(store)
    done = show("events", "--run", run_id, "--crashes", "-o", "jsonl")
    assert {json.loads(row)["timestamp"] - NOW for row in done.stdout.splitlines()} == moments


def test_r05_a_run_that_matches_nothing_brings_the_nearest(store: Path, show: Callable[..., Result]) -> None:
    write_runs(store)
    assert (
        "--run c-kiled: no record matches; the nearest are c-killed"
        in show("events", "--run", "c-kiled").stderr
    )


def test_r04_summary_groups_actors_without_a_name_by_class_and_run(
    store: Path, show: Callable[..., Result]
) -> None:
    write_runs(store)
    names = [one["actor"] for one in json.loads(show("summary", "-o", "json").stdout)["actors"]]
    assert names == ["mailer", "Order (run a-clean)", "Order (run c-killed)"]
