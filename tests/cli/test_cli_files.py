"""The commands on real files of papyra-json."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from papyra_cli._main import papyra


def invoke(*args: object, **env: str) -> Result:
    return CliRunner(env={"TZ": "UTC"} | env).invoke(papyra, [str(arg) for arg in args])


def _line(number: int, **more: object) -> str:
    record = {
        "kind": "event",
        "system_id": "local",
        "actor_address": f"local:{number % 3}",
        "event_type": ("ActorStarted", "ActorStopped")[number % 2],
        "payload": {"n": number},
        "timestamp": 1_700_000_000 + number,
    }
    return json.dumps(record | more) + "\n"


LETTER = '{"kind":"dead_letter","system_id":"local","target":"local:9","message_type":"dict","payload":{"a":1},"timestamp":1700000500}\n'
AUDIT = (
    '{"kind":"audit","system_id":"local","timestamp":1700000600,"total_actors":3,"alive_actors":2,"stopping_actors":1,'
    '"restarting_actors":0,"registry_size":1,"registry_orphans":["x"],"registry_dead":[],"dead_letters_count":1}\n'
)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "facts.ndjson"
    path.write_text("".join(map(_line, range(200))) + LETTER + AUDIT)
    return path


def test_inspect_counts_and_shows_the_newest(store: Path, tmp_path: Path) -> None:
    done = invoke("persistence", "inspect", "--path", store, "--limit", "2", "--time", "unix")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "summary\tevents\t200",
        "summary\taudits\t1",
        "summary\tdead_letters\t1",
        "summary\tfirst_timestamp\t1700000000.0",
        "summary\tlast_timestamp\t1700000600.0",
        'event\t1700000198.0\tlocal:0\tActorStarted\t{"n": 198}',
        'event\t1700000199.0\tlocal:1\tActorStopped\t{"n": 199}',
        "status\t202 records",
    ]
    assert list(tmp_path.iterdir()) == [store]  # looking creates nothing


def test_inspect_as_json(store: Path) -> None:
    contents = json.loads(invoke("persistence", "inspect", "--path", store, "-o", "json").stdout)
    assert contents["counts"] == {"events": 200, "audits": 1, "dead_letters": 1}
    assert (contents["first_timestamp"], contents["last_timestamp"]) == (1700000000, 1700000600)
    assert [event["payload"]["n"] for event in contents["events"]] == list(range(200))
    few = json.loads(invoke("persistence", "inspect", "--path", store, "--limit", "2", "-o", "json").stdout)
    assert [event["payload"]["n"] for event in few["events"]] == [198, 199]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--limit", "2"], [198, 199]),
        (["--limit", "2", "--reverse"], [199, 198]),
        (["--limit", "0"], list(range(200))),
        (["--since", "1700000197"], [197, 198, 199]),
        (["--until", "2023-11-14T22:13:21Z"], [0, 1]),
        (["--type", "ActorStopped", "--limit", "1"], [199]),
        (["--actor", "local:2", "--limit", "1"], [197]),
        ([], list(range(200))),
    ],
)
def test_filters_of_events(store: Path, options: list[str], expected: list[int]) -> None:
    done = invoke("inspect", "events", "--path", store, "-o", "jsonl", *options)
    assert [json.loads(line)["payload"]["n"] for line in done.stdout.splitlines()] == expected


@pytest.mark.parametrize("options", [["--limit", "-1"], ["--since", "soon"], ["--follow", "--reverse"]])
def test_filters_that_make_no_sense(store: Path, options: list[str]) -> None:
    assert invoke("inspect", "events", "--path", store, *options).exit_code == 2


def test_dead_letters_audits_and_summary(store: Path) -> None:
    letters = invoke(
        "inspect", "dead-letters", "--path", store, "--time", "unix", "--actor", "local:9"
    ).stdout
    assert letters == 'dead_letter\t1700000500.0\tlocal:9\tdict\t{"a": 1}\nstatus\t1 dead letter\n'
    assert (
        invoke("inspect", "dead-letters", "--path", store, "--type", "str").stdout
        == "status\t0 dead letters\n"
    )
    audits = invoke("inspect", "audits", "--path", store, "--time", "unix").stdout
    assert audits == "audit\t1700000600.0\tlocal\t3\t2\t1\t0\t1\t0\t1\nstatus\t1 audit\n"
    summary = json.loads(invoke("inspect", "summary", "--path", store, "-o", "json").stdout)
    assert summary["event_types"] == {"ActorStarted": 100, "ActorStopped": 100}
    assert summary["message_types"] == {"dict": 1}
    assert "Dead letters" in invoke("inspect", "summary", "--path", store, "-o", "table").stdout


def test_compaction_leaves_a_file_alone_that_is_not_a_store(tmp_path: Path) -> None:
    """It emptied a source file given by mistake; the bytes were in a quarantine that nothing named."""
    path = tmp_path / "program.py"
    path.write_text("import this\n" * 20)
    done = invoke("persistence", "compact", "--path", path, "--max-records", "1")
    assert done.exit_code == 3
    assert "not one record of Papyra" in done.stderr
    assert path.read_text() == "import this\n" * 20


def test_compaction_of_a_file(store: Path) -> None:
    before = store.stat().st_size
    dry = json.loads(
        invoke(
            "persistence", "compact", "--path", store, "--max-records", "10", "--dry-run", "-o", "json"
        ).stdout
    )
    assert (dry["before_records"], dry["after_records"], store.stat().st_size) == (202, 10, before)
    done = json.loads(
        invoke("persistence", "compact", "--path", store, "--max-records", "10", "-o", "json").stdout
    )
    assert done == dry | {"dry_run": False}
    assert done["reclaimed_bytes"] == before - store.stat().st_size
    assert store.read_text().count("\n") == 10
    table = invoke("persistence", "compact", "--path", store, "--max-bytes", "1KB", "-o", "table").stdout
    assert "reclaimed" in table


@pytest.mark.parametrize(
    "option",
    [
        "--max-records=-1",
        "--max-age=soon",
        "--max-bytes=many",
        "--max-records=x",
        "--max-age=nan",
        "--max-age=90",
        "--max-bytes=4096",
        "--max-age=1e5",
        pytest.param(f"--max-age={'9' * 400}", id="infinite"),
        "--max-age=99999999999999w",
        "--max-records=9223372036854775808",
        pytest.param(f"--max-bytes={'9' * 4295}TB", id="4307 digits"),
    ],
)
def test_limits_that_make_no_sense(store: Path, option: str) -> None:
    done = invoke("persistence", "compact", "--path", store, option)
    assert done.exit_code == 2
    assert "expected" in done.stderr
    assert option.partition("=")[0] in done.stderr


@pytest.mark.parametrize(("age", "left"), [("0.01ms", 0), ("0.00001s", 0), ("100000000000000d", 202)])
def test_an_age_may_be_tiny_or_vast(store: Path, age: str, left: int) -> None:
    done = invoke("persistence", "compact", "--path", store, "--max-age", age, "-o", "json")
    assert (done.exit_code, done.stderr) == (0, "")
    assert json.loads(done.stdout)["after_records"] == left


def test_a_compaction_without_any_limit_says_that_every_record_stays(store: Path) -> None:
    for options in ((), ("--dry-run",)):
        done = invoke("persistence", "compact", "--path", store, *options)
        assert (done.exit_code, done.stderr) == (0, "")
        assert "0 records" in done.stdout
        assert "every record stays, since no limit was given" in done.stdout
    limited = invoke("persistence", "compact", "--path", store, "--max-records", "5")
    assert "no limit" not in limited.stdout


def test_a_rotated_set_is_one_store_and_loses_no_file(tmp_path: Path) -> None:
    base = tmp_path / "facts"
    for number in range(1, 8):
        (tmp_path / f"facts.{number}").write_text(_line(7 - number))
    base.write_text(_line(7))
    summary = json.loads(invoke("inspect", "summary", "--path", base, "-o", "json").stdout)
    assert (summary["backend"], summary["counts"]["events"]) == ("rotating", 8)
    assert (
        json.loads(invoke("persistence", "compact", "--path", base, "-o", "json").stdout)["after_records"]
        == 8
    )


def test_a_lost_file_of_a_set_is_a_gap_in_the_numbers(tmp_path: Path) -> None:
    base = tmp_path / "facts"
    for number, name in enumerate(["facts.3", "facts.2", "facts.1", "facts"]):
        (tmp_path / name).write_text(
            _line(2 * number, seq=2 * number + 1) + _line(2 * number + 1, seq=2 * number + 2)
        )
    (tmp_path / "facts.2").unlink()
    scan = invoke("persistence", "scan", "--path", base, "-o", "json")
    (anomaly,) = json.loads(scan.stdout)["anomalies"]
    assert (scan.exit_code, anomaly["type"]) == (1, "sequence_gap")
    assert (anomaly["path"], anomaly["detail"]) == (f"{base}.1", "seq goes from 2 to 5")


def test_a_copy_beside_a_file_is_not_read_and_outlives_a_compaction(store: Path) -> None:
    copy = store.with_name("facts.ndjson.1")
    shutil.copy(store, copy)
    before = copy.read_bytes()
    summary = invoke("inspect", "summary", "--path", store, "-o", "json")
    assert json.loads(summary.stdout)["counts"]["events"] == 200
    assert "facts.ndjson.1" in summary.stderr
    done = invoke("persistence", "compact", "--path", store, "--max-records", "5", "-o", "json")
    assert (json.loads(done.stdout)["after_records"], copy.read_bytes()) == (5, before)


def test_metrics_are_those_of_the_backend(store: Path) -> None:
    done = invoke("metrics", "persistence", "--path", store, "-o", "json")
    assert json.loads(done.stdout)["scans"] == 1


def test_a_folder_is_not_a_store(tmp_path: Path) -> None:
    done = invoke("persistence", "inspect", "--path", tmp_path)
    assert (done.exit_code, done.stderr.count("\n")) == (3, 1)


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


def test_a_table_fits_the_terminal_and_cuts_payloads_only(store: Path) -> None:
    with store.open("a") as file:
        file.write(_line(7, payload={"text": "long " * 100}))
    table = invoke("inspect", "events", "--path", store, "--limit", "1", "-o", "table", COLUMNS="70").stdout
    assert max(map(len, table.splitlines())) <= 70
    assert "ActorStopped" in table
    assert "…" in table
