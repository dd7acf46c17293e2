"""The contract of the command, line by line: what it does. How it prints is in `test_cli_contract_output.py`.

Each test quotes its line, and runs the real command in a process, in a pipe and on a terminal.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from .conftest import Both, Runner, Site, Terminal

READING = {
    "persistence scan": ("clean", 0, 1),
    "persistence inspect": ("records", 0, 0),
    "persistence startup-check": ("would", 0, 1),
    "doctor run": ("would", 0, 1),
    "inspect events": ("100 events", 0, 0),
    "inspect audits": ("6 audits", 0, 0),
    "inspect dead-letters": ("18 dead letters", 0, 0),
    "inspect summary": ("240 records in the json store", 0, 0),
    "metrics persistence": ("scans", 0, 0),
}
"""What only looks at a store: a part of its output, and its exit codes for a store in order and a damaged
one.
"""


# `papyra persistence scan|recover|compact|inspect|startup-check`, `papyra doctor run`,
# `papyra inspect events|audits|dead-letters|summary`, `papyra metrics persistence`, `papyra plugins`,
# `papyra config view`.


@pytest.mark.parametrize("command", READING)
def test_commands_that_look(sample: Path, both: Callable[..., Both], command: str) -> None:
    before = sample.read_bytes()
    text, code, _ = READING[command]
    cut = command in ("persistence inspect", "inspect events")
    done = both(*command.split(), "--path", "papyra.ndjson", "--color", "never")
    assert (done.pipe.returncode, done.code) == (code, code)
    assert "only the newest 100 events" in done.pipe.stderr if cut else done.pipe.stderr == ""
    assert text in done.pipe.stdout
    assert text in done.shown
    assert "\t" in done.pipe.stdout  # plain lines
    assert "\t" not in done.shown
    assert sample.read_bytes() == before


@pytest.mark.parametrize("command", READING)
def test_commands_that_look_at_a_damaged_store(
    damaged: Path, invoke: Callable[..., Result], command: str
) -> None:
    before = damaged.read_bytes()
    done = invoke(*command.split(), "--path", "papyra.ndjson")
    assert done.exit_code == READING[command][2]
    assert damaged.read_bytes() == before
    told = "3 anomalies in the store" in done.stderr
    assert told is (command in ("persistence inspect", "inspect summary"))


@pytest.mark.parametrize("command", ["plugins", "config view"])
def test_commands_without_a_store(both: Callable[..., Both], command: str) -> None:
    done = both(*command.split(), "--color", "never")
    assert (done.pipe.returncode, done.code, done.pipe.stderr) == (0, 0, "")
    assert "papyra.backends" in done.shown or "Configuration" in done.shown
    assert done.pipe.stdout.startswith(("plugin\t", "value\t"))


# Commands of other distributions come in through `papyra.commands`.


def test_commands_of_others(toy: Path, both: Callable[..., Both]) -> None:
    done = both("hello")
    assert (done.pipe.stdout, done.shown) == ("hello from toy\n", "hello from toy\n")
    assert (done.pipe.returncode, done.code) == (0, 0)


# Which store: `--path FILE` (a file; rotated siblings are found), `--backend URL` (any installed backend),
# else `PAPYRA_PERSISTENCE`, else `[tool.papyra]` of the nearest `pyproject.toml`, else
# `PAPYRA_SETTINGS_MODULE`.


def test_which_store(
    run: Runner, toy: Path, sample: Path, both: Callable[..., Both], invoke: Callable[..., Result]
) -> None:
    """Each way finds it, and what goes before hides what comes after."""
    (run.folder / "settings_of_contract.py").write_text(
        "from papyra.settings import Settings\nsettings = Settings(persistence='json:papyra.ndjson')\n"
    )
    run.env["PAPYRA_SETTINGS_MODULE"] = "settings_of_contract"
    expected = "240 records in the json store"
    assert expected in run("inspect", "summary").stdout
    (run.folder / "pyproject.toml").write_text("[tool.papyra]\npersistence = 'memory:'\n")
    assert "in the memory store" in invoke("inspect", "summary").stdout
    run.env["PAPYRA_PERSISTENCE"] = "json:./papyra.ndjson"
    assert expected in invoke("inspect", "summary").stdout
    assert "2 records in the toy store" in run("inspect", "summary", "--backend", f"toy:{toy}").stdout
    by_path = both("inspect", "summary", "--path", "papyra.ndjson")
    assert expected in by_path.pipe.stdout
    assert expected in by_path.shown


def test_rotated_siblings_are_found(sample: Path, both: Callable[..., Both]) -> None:
    lines = sample.read_text().splitlines(keepends=True)
    sample.with_name("papyra.ndjson.2").write_text("".join(lines[:100]))
    sample.with_name("papyra.ndjson.1").write_text("".join(lines[100:200]))
    sample.write_text("".join(lines[200:]))
    done = both("inspect", "summary", "--path", "papyra.ndjson")
    assert "240 records in the rotating store" in done.pipe.stdout
    assert "240 records in the rotating store" in done.shown


# `config view` shows every value and where it came from.


def test_config_view(run: Runner, both: Callable[..., Both]) -> None:
    run.env["PAPYRA_PERSISTENCE"] = "redis://user:secret@host/0"
    done = both("config", "view")
    assert "value\tpersistence\tredis://user:***@host/0\t" in done.pipe.stdout
    assert "PAPYRA_PERSISTENCE" in done.pipe.stdout
    for text in (done.pipe.stdout, done.shown):
        assert "secret" not in text


# Without any: an error that says these ways.


def test_no_store(both: Callable[..., Both]) -> None:
    done = both("persistence", "scan")
    assert (done.pipe.returncode, done.code, done.pipe.stdout) == (2, 2, "")
    for way in ("--path", "--backend", "PAPYRA_PERSISTENCE", "[tool.papyra]", "PAPYRA_SETTINGS_MODULE"):
        assert way in done.pipe.stderr
        assert way in done.shown


# `compact`: `--max-records N --max-age 7d --max-bytes 100MB` (or the store's own retention), `--dry-run`;
# prints records and bytes before, after and reclaimed.


@pytest.mark.parametrize(
    ("limits", "left"),
    [
        (["--max-records", "10"], 10),
        (["--max-age", "1h"], 12),
        (["--max-bytes", "1KB"], 5),
        (["--max-records", "50", "--max-age", "1h"], 12),
    ],
)
def test_compact_with_limits(
    sample: Path, invoke: Callable[..., Result], limits: list[str], left: int
) -> None:
    dry = invoke("persistence", "compact", "--path", "papyra.ndjson", "--dry-run", *limits)
    assert f"compaction\tafter_records\t{left}\n" in dry.stdout
    done = invoke("persistence", "compact", "--path", "papyra.ndjson", *limits)
    assert f"compaction\tafter_records\t{left}\n" in done.stdout
    assert sample.read_text().count("\n") == left


def test_compact_tells_before_after_and_reclaimed(sample: Path, both: Callable[..., Both]) -> None:
    before = sample.read_bytes()
    argv = ("persistence", "compact", "--path", "papyra.ndjson", "--max-records", "10", "--dry-run")
    dry = both(*argv, "--color", "never")
    assert (dry.pipe.returncode, dry.code) == (0, 0)
    assert sample.read_bytes() == before
    assert list(sample.parent.iterdir()) == [sample]
    for word in ("records", "bytes", "before", "after", "reclaimed", "dry run: would remove 230 records"):
        assert word in dry.pipe.stdout
        assert word in dry.shown


def test_compact_with_the_stores_own_retention(
    run: Runner, sample: Path, terminal: Callable[..., Terminal]
) -> None:
    url = "json:./papyra.ndjson?max_records=20"
    assert "compaction\tafter_records\t20\n" in run("persistence", "compact", "--backend", url).stdout
    assert sample.read_text().count("\n") == 20
    shell = terminal("persistence", "compact", "--backend", url, "--max-records", "5", "--color", "never")
    shell.wait_for("remove 15 of 20 records in the json store? [y/N]: ")
    shell.type("y\n")
    assert shell.finish() == 0
    assert "removed 15 records" in shell.text
    assert sample.read_text().count("\n") == 5


def test_compact_without_any_limit_says_so(sample: Path, both: Callable[..., Both]) -> None:
    done = both("persistence", "compact", "--path", "papyra.ndjson", "--dry-run")
    assert "no limit was given and the store has none of its own" in done.pipe.stdout
    assert "give --max-records N" in done.shown


def test_compact_names_where_invalid_lines_went(invoke: Callable[..., Result], damaged: Path) -> None:
    limit = ("--path", "papyra.ndjson", "--max-records", "100")
    dry = invoke("persistence", "compact", "--dry-run", *limit)
    assert "3 invalid lines; a compaction would move them to a quarantine file" in dry.stderr
    done = invoke("persistence", "compact", "-o", "json", *limit)
    report = json.loads(done.stdout)
    assert report["invalid_records"] == 3
    (quarantine,) = report["quarantined_files"]
    assert done.stderr == f"papyra: note: 3 invalid lines moved to {quarantine}\n"
    assert Path(quarantine).read_text() == 'nonsense\n[]\n{"kind":"eve'


# Safe on a file that an application is writing: `test_cli_follow.py`.


# `recover --mode repair|quarantine [--quarantine-dir DIR]`, `--dry-run`; on a terminal it asks first, `--yes`
# answers. With neither: exit 2.


@pytest.mark.parametrize("mode", ["repair", "quarantine"])
def test_a_dry_run_of_a_recovery_changes_not_a_byte(
    damaged: Path, both: Callable[..., Both], mode: str
) -> None:
    before = damaged.read_bytes()
    done = both("persistence", "recover", "--path", "papyra.ndjson", "--mode", mode, "--dry-run")
    assert (done.pipe.returncode, done.code) == (0, 0)
    assert f"would {mode} 3 anomalies" in done.pipe.stdout
    assert f"would {mode} 3 anomalies" in done.shown
    assert f"repaired\t{damaged}\n" in done.pipe.stdout
    assert damaged.read_bytes() == before
    assert list(damaged.parent.iterdir()) == [damaged]


def test_a_recovery_without_a_terminal_needs_yes(invoke: Callable[..., Result], damaged: Path) -> None:
    before = damaged.read_bytes()
    done = invoke("persistence", "recover", "--path", "papyra.ndjson")
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "add --yes to recover" in done.stderr
    assert damaged.read_bytes() == before


def test_a_recovery_on_a_terminal_asks_first(damaged: Path, terminal: Callable[..., Terminal]) -> None:
    before = damaged.read_bytes()
    shell = terminal("persistence", "recover", "--path", "papyra.ndjson", "--mode", "repair")
    shell.wait_for("3 anomalies found in the json store: repair? [y/N]: ")
    assert damaged.read_bytes() == before
    shell.type("y\n")
    assert shell.finish() == 0
    assert damaged.read_text().count("\n") == 240


def test_a_recovery_with_yes_and_a_quarantine(
    invoke: Callable[..., Result], run: Runner, damaged: Path, terminal: Callable[..., Terminal]
) -> None:
    done = invoke("persistence", "recover", "--path", "papyra.ndjson", "--quarantine-dir", "kept", "--yes")
    assert done.exit_code == 0
    assert [file.read_text() for file in (run.folder / "kept").iterdir()] == ['nonsense\n[]\n{"kind":"eve']
    shell = terminal("persistence", "recover", "--path", "papyra.ndjson", "--yes", "--color", "never")
    assert shell.finish() == 0
    assert shell.text == "clean: nothing to recover\n"


# `inspect events --limit N --since/--until (Unix, ISO 8601 or "15m") --type T --actor A --reverse --follow`.
# Default limit 100.


def test_filters_of_events(sample: Path, both: Callable[..., Both]) -> None:
    done = both("inspect", "events", "--path", "papyra.ndjson", "--time", "unix")
    assert done.pipe.stdout.endswith("status\t100 events\n")
    assert "100 events" in done.shown
    options = ("--limit", "3", "--since", "12h", "--type", "ActorCrashed", "--reverse", "--time", "unix")
    done = both("inspect", "events", "--path", "papyra.ndjson", *options)
    *rows, status = done.pipe.stdout.splitlines()
    moments = [float(row.split("\t")[1]) for row in rows]
    assert (len(rows), status) == (3, "status\t3 events")
    assert moments == sorted(moments, reverse=True)
    assert all(row.split("\t")[3] == "ActorCrashed" for row in rows)
    assert done.shown.count("ActorCrashed") == 3


@pytest.mark.parametrize("moment", ["1700000000", "2023-11-14T22:13:20Z", "2023-11-14 22:13", "900d"])
def test_moments(invoke: Callable[..., Result], sample: Path, moment: str) -> None:
    done = invoke("inspect", "events", "--path", "papyra.ndjson", "--since", moment, "--actor", "shop:3")
    assert done.stdout.count("\tshop:3\t") == done.stdout.count("\n") - 1 > 20
    assert (
        invoke("inspect", "events", "--path", "papyra.ndjson", "--until", moment).stdout
        == "status\t0 events\n"
    )


# `doctor run --mode ignore|fail_on_anomaly|recover --recovery-mode repair|quarantine`; `startup-check`
# likewise: what `ActorSystem.start()` would do.


@pytest.mark.parametrize("command", ["doctor run", "persistence startup-check"])
def test_what_a_start_would_do(
    damaged: Path, both: Callable[..., Both], invoke: Callable[..., Result], command: str
) -> None:
    before = damaged.read_bytes()
    ignored = invoke(*command.split(), "--path", "papyra.ndjson", "--mode", "ignore")
    assert (ignored.exit_code, "would start: it does not look" in ignored.stdout) == (0, True)
    done = both(*command.split(), "--path", "papyra.ndjson", "--mode", "fail_on_anomaly")
    assert (done.pipe.returncode, done.code) == (1, 1)
    assert "would not start: 3 anomalies" in done.pipe.stdout
    assert "would not start: 3 anomalies" in done.shown
    assert damaged.read_bytes() == before
    recovery = ("--mode", "recover", "--recovery-mode", "quarantine")
    assert invoke(*command.split(), "--path", "papyra.ndjson", *recovery).exit_code == 0
    assert damaged.read_text().count("\n") == 240
    assert len(list(damaged.parent.glob("papyra.ndjson.quarantine-*"))) == 1


# `papyra plugins`: name, group, distribution and version, target, api, capabilities, status (ok, broken,
# incompatible, disabled, shadowed) with the reason, load time; `--check` exits 1 if one is not ok.


def test_plugins(toy: Path, site: Site, both: Callable[..., Both]) -> None:
    done = both("plugins", "--check")
    assert (done.pipe.returncode, done.code) == (1, 1)
    row = next(line for line in done.pipe.stdout.splitlines() if line.startswith("plugin\ttoy\t"))
    _, name, group, owner, target, api, capabilities, status, load_time, reason = row.split("\t")
    assert (name, group, owner, target) == ("toy", "papyra.backends", "papyra-toy 1.0", "toy_backend:Toy")
    assert (api, status, reason) == ("1.1", "ok", "-")
    assert "scan" in capabilities
    assert load_time.endswith(" ms")
    assert "broken" in done.shown
    assert "ModuleNotFoundError" in done.shown.replace("\n", "").replace(" ", "")
