"""The contract of the command, line by line: how it prints, and what it exits with.

See `test_cli_contract.py`.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from .conftest import Both, Runner, Site, Terminal

COMMANDS = {
    "persistence scan": (),
    "persistence recover": ("--dry-run",),
    "persistence compact": ("--dry-run",),
    "persistence inspect": (),
    "persistence startup-check": (),
    "doctor run": (),
    "inspect events": (),
    "inspect audits": (),
    "inspect dead-letters": (),
    "inspect summary": (),
    "metrics persistence": (),
}
KEYS = {
    "persistence scan": {"backend", "anomalies", "has_anomalies"},
    "persistence recover": {"scan", "repaired_files", "quarantined_files", "left", "mode", "dry_run"},
    "persistence compact": {
        "before_records",
        "after_records",
        "removed_records",
        "reclaimed_bytes",
        "dry_run",
    },
    "persistence inspect": {"counts", "first_timestamp", "last_timestamp", "events"},
    "persistence startup-check": {"passed", "scan", "recovery", "left"},
    "doctor run": {"status", "checks", "startup"},
    "inspect events": {"system_id", "actor_address", "event_type", "payload", "timestamp", "run"},
    "inspect audits": {"total_actors", "alive_actors", "registry_orphans", "dead_letters_count"},
    "inspect dead-letters": {"target", "message_type", "payload"},
    "inspect summary": {"counts", "event_types", "timeline", "actors", "dead_letter_targets", "newest_audit"},
    "metrics persistence": {"scans", "anomalies_detected", "records_written"},
}


# Output: a table on a terminal, plain lines in a pipe, `-o json`, `-o jsonl` (`--follow` streams jsonl). In
# JSON modes stdout holds JSON alone, everything else goes to stderr, and keys are the field names of the
# models and reports.


@pytest.mark.parametrize("command", COMMANDS)
def test_json_parses_and_has_the_names_of_the_models(
    damaged: Path, both: Callable[..., Both], command: str
) -> None:
    argv = (*command.split(), "--path", "papyra.ndjson", *COMMANDS[command])
    done = both("-o", "json", *argv)  # before the command, or after it as below
    loaded = json.loads(done.pipe.stdout)
    first = loaded[0] if isinstance(loaded, list) else loaded
    assert set(first) >= KEYS[command]
    notes = r"papyra: note: [^\n]*\n"
    shown = json.loads(re.sub(notes, "", done.shown))
    if command == "persistence recover":  # the name has the time in it
        assert len(loaded.pop("quarantined_files")) == len(shown.pop("quarantined_files")) == 1
    assert shown == loaded
    assert re.fullmatch(f"({notes})*", done.pipe.stderr)
    assert "\x1b" not in done.shown


def test_jsonl_is_one_object_a_line(sample: Path, both: Callable[..., Both]) -> None:
    done = both("inspect", "events", "--path", "papyra.ndjson", "-o", "jsonl")
    assert [set(json.loads(line)) for line in done.pipe.stdout.splitlines()] == [KEYS["inspect events"]] * 216
    assert done.shown == done.pipe.stdout
    damage = both("inspect", "--output", "jsonl", "summary", "--path", "papyra.ndjson")
    assert json.loads(damage.pipe.stdout)["counts"] == {"events": 216, "audits": 6, "dead_letters": 18}


@pytest.mark.parametrize("command", ["persistence scan", "inspect events", "plugins", "config view"])
def test_stdout_holds_json_alone_whatever_prints(run: Runner, toy: Path, site: Site, command: str) -> None:
    """A backend that prints while it is imported, opened and used spoils nothing."""
    module = site.folder / "toy_backend.py"
    module.write_text(f"print('imported')\n{module.read_text()}")
    run.env["PAPYRA_PERSISTENCE"] = f"toy:{toy}?noise=1"
    json.loads(run(*command.split(), "-o", "json").stdout)


# Colour: `--color auto|always|never`, then `NO_COLOR`, `FORCE_COLOR`, then the terminal.


@pytest.mark.parametrize(
    ("options", "env", "in_pipe", "on_terminal"),
    [
        ([], {}, False, True),
        (["--color", "always"], {"NO_COLOR": "1"}, True, True),
        (["--color", "never"], {"FORCE_COLOR": "1"}, False, False),
        ([], {"FORCE_COLOR": "1"}, True, True),
    ],
)
def test_colour(
    run: Runner,
    sample: Path,
    both: Callable[..., Both],
    options: list[str],
    env: dict[str, str],
    in_pipe: bool,
    on_terminal: bool,
) -> None:
    run.env |= env
    done = both("persistence", "scan", "--path", "papyra.ndjson", *options)
    assert ("\x1b[32mclean\x1b[0m" in done.pipe.stdout) is in_pipe
    assert ("\x1b[32mclean\x1b[0m" in done.shown) is on_terminal


# Progress bars on stderr, on terminals only, for work past a second: `test_cli_progress.py`.

# Times are local ISO by default, `--time unix|iso|relative`.


@pytest.mark.parametrize(
    ("style", "form"),
    [
        (None, r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+09:00"),
        ("iso", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d"),
        ("unix", r"\d{10}(\.\d+)?"),
        ("relative", r"\d+m ago"),
    ],
)
def test_times(
    run: Runner,
    sample: Path,
    both: Callable[..., Both],
    invoke: Callable[..., Result],
    style: str | None,
    form: str,
) -> None:
    argv = ["inspect", "events", "--path", "papyra.ndjson", "--limit", "1"]
    if style is None:
        run.env["TZ"] = "Asia/Tokyo"
        done = both(*argv)
        assert re.fullmatch(form, done.pipe.stdout.split("\t")[1])
        assert re.search(form, done.shown)
        return
    for printed in ("plain", "table"):
        assert re.search(form, invoke(*argv, "--time", style, "-o", printed).stdout)


# Payloads are untrusted: whatever is not printable is escaped (ESC, C1, bidi), and nothing in them is read as
# markup.

HOSTILE = "\x1b]0;owned\x07\x1b[31m \x9b2J \u202eevil\u2066 [bold]markup[/bold] [link=http://x]y[/] :smile: \x7f\u2028\n\ttab"
STEERING = set("\x1b\x07\x9b\u202e\u2066\x7f\u2028\ud800")
FORMS = ("plain", "table", "json", "jsonl")


@pytest.fixture
def hostile(run: Runner) -> Path:
    """Make a store in which every text is hostile, and a name, too."""
    path = run.folder / "evil\x1b[2J\u202e.ndjson"
    event = {
        "kind": "event",
        "system_id": HOSTILE,
        "timestamp": 1.0,
        "payload": {HOSTILE: HOSTILE, "error": HOSTILE},
    }
    records: list[dict[str, object]] = [
        event | {"actor_address": HOSTILE, "event_type": HOSTILE},
        event | {"actor_address": HOSTILE, "event_type": "ActorCrashed"},
        event | {"actor_address": HOSTILE, "event_type": "ActorRestarted"},
        {"kind": "dead_letter", "system_id": HOSTILE, "target": HOSTILE, "message_type": HOSTILE, "payload": HOSTILE, "timestamp": 2.0},
        {"kind": "audit", "system_id": HOSTILE, "timestamp": 3.0, "total_actors": 1, "alive_actors": 1, "stopping_actors": 0,
         "restarting_actors": 0, "registry_size": 1, "registry_orphans": [HOSTILE], "registry_dead": [], "dead_letters_count": 1},
    ]  # fmt: skip
    damage = '{"kind":"event","system_id":"\u202e\x1b[2J\x9b"\n'
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records) + damage)
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_hostile_payloads_reach_no_terminal(
    hostile: Path, terminal: Callable[..., Terminal], invoke: Callable[..., Result], command: str
) -> None:
    argv = (*command.split(), "--path", hostile.name, *COMMANDS[command], "--color", "never")
    on_terminal = terminal(*argv)
    for form in FORMS:
        done = invoke(*argv, "-o", form, COLUMNS="3000")
        shown = done.stdout + done.stderr
        assert not STEERING & set(shown), form
        assert "Traceback" not in shown
        if form.startswith("json"):
            for document in done.stdout.splitlines() if form == "jsonl" else [done.stdout]:
                json.loads(document)
        elif "inspect" in command:
            assert "\n\ttab" not in shown
            assert "audits" in command or "[bold]markup[/bold]" in shown
    on_terminal.finish()
    assert not STEERING & set(on_terminal.text)


def test_hostile_payloads_are_escaped_while_followed(
    hostile: Path, run: Runner, terminal: Callable[..., Terminal]
) -> None:
    for form in ("table", "jsonl"):
        shell = terminal(
            "inspect", "events", "--path", hostile.name, "--follow", "-o", form, "--color", "never"
        )
        shell.wait_for("ActorRestarted")
        shell.interrupt()
        assert shell.finish() == 130
        assert not STEERING & set(shell.text.replace("^C", ""))


def test_a_hostile_log_is_escaped(hostile: Path, both: Callable[..., Both]) -> None:
    """What a start-up check logs quotes the store."""
    done = both("doctor", "run", "--mode", "scan_only", "--path", hostile.name, "--color", "never")
    assert (done.pipe.returncode, done.code) == (0, 0)
    assert done.pipe.stderr.startswith("papyra: warning: store of facts: corrupt_line in ")
    assert not STEERING & set(done.pipe.stderr + done.shown)


def test_a_hostile_plugin_is_escaped(run: Runner, site: Site, terminal: Callable[..., Terminal]) -> None:
    site.add("evil", "[papyra.commands]\nev\x1b[2Jil = evil:x\u202e\n[papyra.backends]\nnasty = evil:x\n",
             version="1\x1b[2J", evil=f"raise RuntimeError({HOSTILE!r})")  # fmt: skip
    shells = [
        terminal(*argv, "--color", "never")
        for argv in (["plugins"], ["persistence", "scan", "--backend", "nasty:"])
    ]
    for argv in (["--help"], ["plugins"], ["plugins", "-o", "json"], ["persistence", "scan", "--backend", "nasty:x"],
                 ["no\x1b[2J"], ["persistence", "scan", "--path", HOSTILE], ["inspect", "events", f"--limit={HOSTILE}"],
                 [f"--{HOSTILE}"]):  # fmt: skip
        done = run(*argv)
        assert not STEERING & set(done.stdout + done.stderr), argv
    for shell in shells:
        shell.finish()
        assert not STEERING & set(shell.text)


# Exit codes, a documented contract: 0 yes / done; 1 no (anomalies found, check failed) or an unexpected
# failure; 2 usage; 3 the store or its plugin can't be had; 4 recovery left anomalies; 130 interrupted. `|
# head` ends quietly.


@pytest.mark.parametrize("command", COMMANDS)
def test_exit_codes_that_all_commands_share(
    invoke: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    argv = (*command.split(), *COMMANDS[command])
    monkeypatch.setattr("papyra.persistence.registry.find_plugins", lambda _: {})
    for options, code, text in (
        (["--bogus"], 2, f"no such option '--bogus'; see 'papyra {command} --help'"),
        (["--path", "none.ndjson"], 3, "there is no file none.ndjson; check --path"),
        (["--backend", "sqlite:x"], 3, "pip install 'papyra-contrib[sqlite]' brings it"),
    ):
        done = invoke(*argv, *options)
        assert (done.exit_code, done.stdout) == (code, "")
        assert text in done.stderr


def test_a_store_that_fails_to_open(toy: Path, both: Callable[..., Both]) -> None:
    done = both("persistence", "scan", "--backend", f"toy:{toy}?opening=no+driver", "--color", "never")
    assert (done.pipe.returncode, done.code, done.pipe.stdout) == (3, 3, "")
    assert done.shown == done.pipe.stderr
    assert done.shown.endswith("opening=no+driver: RuntimeError: no driver\n")


HIDING = """
import importlib_metadata

everything = importlib_metadata.Distribution.discover
importlib_metadata.Distribution.discover = lambda **kw: (
    found for found in everything(**kw) if "\\nName: papyra" not in str(found.read_text("METADATA"))
)
"""


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (["--bogus"], 2, "no such option '--bogus'"),
        (["--path", "none.ndjson"], 3, "there is no file none.ndjson; check --path"),
        (["--backend", "json:none.ndjson"], 3, "pip install papyra-json brings it"),
        (["--backend", "mongo:x"], 3, "no backend for the scheme 'mongo': installed are memory"),
    ],
)
def test_exit_codes_in_a_pipe_and_on_a_terminal(
    site: Site, both: Callable[..., Both], options: list[str], code: int, text: str
) -> None:
    """Here papyra-cli is installed alone, as far as metadata tells."""
    (site.folder / "sitecustomize.py").write_text(HIDING)
    done = both("persistence", "compact", *options, "--color", "never")
    assert (done.pipe.returncode, done.code, done.pipe.stdout) == (code, code, "")
    assert text in done.pipe.stderr
    told = [line for line in done.pipe.stderr.splitlines() if "error:" in line]
    assert len(told) == 1
    assert told[0] in done.shown.replace("\x1b[31m\x1b[1m", "").replace("\x1b[0m", "")


@pytest.mark.parametrize("command", COMMANDS)
def test_an_interrupt_exits_with_130(run: Runner, site: Site, toy: Path, command: str) -> None:
    """A backend that takes for ever is interrupted, in whatever it is asked to do."""
    module = site.folder / "toy_backend.py"
    module.write_text(module.read_text() + STUCK)
    process = run.start(
        *command.split(), "--backend", f"toy:{toy}", *COMMANDS[command],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    working = toy.with_name("facts.toy.working")
    deadline = time.monotonic() + 120
    while not working.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (130, b"", b"papyra: error: interrupted\n")
    assert toy.with_name("facts.toy.closed").exists()


STUCK = """
    async def _stuck(self, *args, **options):
        Path(f"{self.path}.working").touch()
        await anyio.sleep(600)

    scan = recover = compact = list_events = list_audits = list_dead_letters = _stuck
"""


def test_a_recovery_that_leaves_anomalies(toy: Path, both: Callable[..., Both]) -> None:
    done = both("persistence", "recover", "--yes", "--backend", f"toy:{toy}?stubborn=1")
    assert (done.pipe.returncode, done.code) == (4, 4)
    assert "1 left after the recovery" in done.pipe.stdout
    assert "1 left after the recovery" in done.shown


@pytest.mark.parametrize("command", COMMANDS)
def test_a_closed_pipe_is_quiet(run: Runner, damaged: Path, command: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = run.start(
        *command.split(), "--path", "papyra.ndjson", *COMMANDS[command], stdout=writer, stderr=subprocess.PIPE
    )
    os.close(writer)
    _, err = process.communicate(timeout=120)
    assert process.returncode == (command in ("persistence scan", "persistence startup-check", "doctor run"))
    assert b"Traceback" not in err
    assert b"error" not in err


# An error is one line on stderr that says what is wrong and what to do; a traceback only with `--debug`.
# Shell completion for bash, zsh, fish: `test_cli_completion.py`.


def test_an_error_is_one_line_and_debug_shows_where(toy: Path, both: Callable[..., Both]) -> None:
    url = f"toy:{toy}?fail=bug"
    plain = both("persistence", "scan", "--backend", url, "--color", "never")
    told = "papyra: error: unexpected: RuntimeError: first\\nsecond (--debug shows where)\n"
    assert (plain.pipe.returncode, plain.code) == (1, 1)
    assert (plain.pipe.stdout, plain.pipe.stderr, plain.shown) == ("", told, told)
    debug = both("--debug", "persistence", "scan", "--backend", url)
    assert "Traceback (most recent call last)" in debug.pipe.stderr
    assert "Traceback (most recent call last)" in debug.shown


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["inspect", "events", "--limit", "x"], "invalid value for '--limit': 'x' is not a valid integer"),
        (["inspect", "--path", "x", "events"], "(options of a command come after its name); see 'papyra inspect --help'"),
        (["inspect", "evens"], "no such command 'evens', did you mean 'events'?"),
        (["inspect", "events", "--since", "soon"], "'soon': expected Unix time, ISO 8601 as in 2026-07-01T12:00"),
        (["persistence", "compact", "--max-bytes", "many"], "'many': expected bytes or a number with a unit"),
        (["persistence", "scan", "--path", "x", "--backend", "memory:"], "name two stores; give one of them"),
    ],
)  # fmt: skip
def test_an_error_begins_small_and_says_what_to_do(
    invoke: Callable[..., Result], argv: list[str], text: str
) -> None:
    done = invoke(*argv)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert re.match(r"papyra: error: [a-z'\"-]", done.stderr)
    assert text in done.stderr
