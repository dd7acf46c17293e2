"""The command tells the truth: causes, codes, probes and questions. R24, R27, R30, R34, H20."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import Result

from papyra.exceptions import PersistenceError
from papyra_cli import ExitCode
from papyra_cli._errors import Failure, explain

from .conftest import Both, Runner, Site, Terminal

# R30: one code for one cause, and a remedy.


@pytest.mark.parametrize(
    ("number", "code", "remedy"),
    [
        (errno.ENOSPC, ExitCode.NO, "make room on the disk"),
        (errno.EDQUOT, ExitCode.NO, "disk quota"),
        (errno.EROFS, ExitCode.UNAVAILABLE, "mounted read-only"),
        (errno.EACCES, ExitCode.UNAVAILABLE, "check the owner and the mode"),
        (errno.ENOLCK, ExitCode.UNAVAILABLE, "the file system has no locks"),
        (errno.EIO, ExitCode.UNAVAILABLE, "the disk reports an error"),
    ],
)
def test_r30_a_cause_has_one_code_and_a_remedy(number: int, code: ExitCode, remedy: str) -> None:
    wrapped = PersistenceError("facts could not be compacted")
    wrapped.__cause__ = OSError(number, os.strerror(number), "facts")
    text, found = explain(wrapped)
    assert (found, remedy in text, text.startswith("facts could not be compacted")) == (code, True, True)
    if code is ExitCode.NO:  # the same cause, unwrapped
        assert explain(wrapped.__cause__)[1] is code


def test_r30_a_full_disk_is_1_whichever_backend_says_so(toy: Path, run: Runner) -> None:
    done = run("persistence", "scan", "--backend", f"toy:{toy}?fail=OSError")
    assert (done.returncode, "No space left on device" in done.stderr) == (1, True)


def test_r30_a_deleted_folder_and_a_missing_file_have_different_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = FileNotFoundError(errno.ENOENT, "No such file or directory", "x")
    monkeypatch.chdir(tmp_path)
    assert explain(missing) == ("x: No such file or directory", ExitCode.UNAVAILABLE)
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    text, code = explain(missing)
    assert (text.startswith("the current folder was deleted"), code) == (True, ExitCode.UNAVAILABLE)


@pytest.mark.parametrize(
    ("error", "text", "code"),
    [
        (click.Abort(), "interrupted", ExitCode.INTERRUPTED),
        (click.FileError("f", "no"), "Could not open file 'f': no", ExitCode.NO),
        (ExceptionGroup("one", [Failure("it is away")]), "it is away", ExitCode.UNAVAILABLE),
        (
            ExceptionGroup("two", [Failure("a"), Failure("b")]),
            "unexpected: ExceptionGroup: two (2 sub-exceptions)",
            ExitCode.NO,
        ),
        (OSError(errno.EIO, "Input/output error", "f"), "unexpected: f: Input/output error", ExitCode.NO),
    ],
)
def test_r30_other_errors_have_a_text_and_a_code(error: BaseException, text: str, code: int) -> None:
    assert explain(error) == (text, code)


def test_r30_a_deleted_folder_is_named(run: Runner) -> None:
    gone = run.folder / "gone"
    gone.mkdir()
    script = 'cd gone; rmdir ../gone; exec "$0" persistence scan --path x'
    done = subprocess.run(
        ["bash", "-c", script, *run.argv],
        cwd=run.folder,
        env=run.environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 3
    assert "the current folder was deleted. Change to another one" in done.stderr


# R24: doctor knows whether a fact can be written.


def test_r24_doctor_probes_a_write_and_leaves_no_record(invoke: Callable[..., Result], sample: Path) -> None:
    before = sample.read_bytes()
    done = invoke("doctor", "run", "--path", "papyra.ndjson")
    assert (
        done.exit_code,
        "check\thealth\tok\thealthy, and a record could be written\n" in done.stdout,
    ) == (0, True)
    assert sample.read_bytes() == before


def test_r24_a_store_that_takes_no_record_fails_the_doctor(invoke: Callable[..., Result]) -> None:
    """A file system without room needs root, so the store is in a folder that can't exist."""
    done = invoke("doctor", "run", "--backend", "json:/proc/1/nowhere/facts")
    assert done.exit_code == 1
    assert "check\thealth\tfailed\t" in done.stdout


@pytest.mark.parametrize(
    ("fault", "code", "text"),
    [
        ("Toy.healthy = False", 1, "health\tfailed\tan acknowledged record may not be safe on disk"),
        ("Toy.ping = away", 1, "health\tfailed\tno route to it"),  # it can be read
        ("Toy.ping = Toy.list_events = away", 3, "papyra: error: no route to it"),
    ],
)
def test_r24_doctor_reports_a_store_that_is_away_or_not_safe(
    toy: Path, site: Site, invoke: Callable[..., Result], fault: str, code: int, text: str
) -> None:
    toy.write_text("event A 1\n")
    module = site.folder / "toy_backend.py"
    module.write_text(f"""{module.read_text()}
async def away(self, **_):
    from papyra.exceptions import PersistenceError
    raise PersistenceError("no route to it", retry=True)
{fault}
""")
    done = invoke("doctor", "run", "--backend", f"toy:{toy}")
    assert (done.exit_code, text in done.output) == (code, True)


def test_r24_facts_that_the_last_runs_dropped_are_a_warning(
    invoke: Callable[..., Result], sample: Path
) -> None:
    stopped = {"kind": "event", "system_id": "shop", "actor_address": "shop:0", "event_type": "SystemStopped",
               "payload": {"reason": "closed", "facts": 700, "facts_dropped": 7}, "timestamp": time.time(), "run": "r"}  # fmt: skip
    with sample.open("a") as file:
        file.write(json.dumps(stopped) + "\n")
    done = invoke("doctor", "run", "--path", "papyra.ndjson", "-o", "json")
    (warning,) = (check for check in json.loads(done.stdout)["checks"] if check["status"] == "warning")
    assert (done.exit_code, warning["name"]) == (0, "dropped")
    assert "the last 1 run dropped 7 facts, 1.00% of all," in warning["detail"]


def test_h20_both_papyra_0_3_and_papyra_core_are_a_warning(
    invoke: Callable[..., Result], sample: Path, site: Site
) -> None:
    assert "installation" not in invoke("doctor", "run", "--path", "papyra.ndjson").stdout
    site.add("papyra", "", version="0.3.0")
    done = invoke("doctor", "run", "--path", "papyra.ndjson")
    assert done.exit_code == 0
    assert "check\tinstallation\twarning\tpapyra 0.3.0 and papyra-core 0.4" in done.stdout


# R27: a compaction on a terminal asks when it would remove more than half.


def test_r27_a_compaction_of_more_than_half_asks_on_a_terminal(
    sample: Path, terminal: Callable[..., Terminal]
) -> None:
    before = sample.read_bytes()
    argv = ("persistence", "compact", "--path", "papyra.ndjson", "--max-records")
    shell = terminal(*argv, "100")
    shell.wait_for("remove 140 of 240 records in the json store? [y/N]: ")
    shell.type("n\n")
    assert shell.finish() == 1
    assert "nothing was changed" in shell.text
    assert sample.read_bytes() == before
    few = terminal(*argv, "130", "--color", "never")
    assert few.finish() == 0
    assert "removed 110 records" in few.text
    assert "[y/N]" not in few.text
    sure = terminal(*argv, "10", "--yes", "--color", "never")
    assert sure.finish() == 0
    assert "removed 120 records" in sure.text


@pytest.mark.parametrize(
    ("argv", "question"),
    [
        ("compact --max-records 100", "remove 140 of 240 records in the json store? [y/N]: "),
        ("recover --mode repair", "1 anomaly found in the json store: repair? [y/N]: "),
    ],
)
def test_r27_a_no_changes_nothing(
    sample: Path, invoke: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, argv: str, question: str
) -> None:
    command, *options = argv.split()
    if command == "recover":
        with sample.open("a") as file:
            file.write("nonsense\n")
    before = sample.read_bytes()
    on_terminal = SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True))
    module = import_module(f"papyra_cli.commands.persistence.{command}")
    monkeypatch.setattr(module, "sys", on_terminal)
    done = invoke("persistence", command, "--path", "papyra.ndjson", *options, stdin="n\n")
    assert (done.exit_code, question in done.stderr) == (1, True)
    assert (
        f"nothing was changed; --dry-run shows what a {'recovery' if command == 'recover' else 'compaction'}"
        in done.stderr
    )
    assert sample.read_bytes() == before
    assert invoke("persistence", command, "--path", "papyra.ndjson", *options, stdin="y\n").exit_code == 0
    assert sample.read_bytes() != before


@pytest.mark.parametrize(
    ("age", "note"), [(40 * 86400, "the newest event is 40d"), (-7200, "the newest event lies 2h")]
)
def test_r27_a_clock_far_from_the_newest_record_is_noted(
    invoke: Callable[..., Result], run: Runner, age: float, note: str
) -> None:
    record = {"kind": "event", "system_id": "s", "actor_address": "s:1", "event_type": "A", "payload": {},
              "timestamp": time.time() - age - 5 * (age > 0) + 5 * (age < 0)}  # fmt: skip
    (run.folder / "f").write_text(json.dumps(record) + "\n")
    done = invoke("persistence", "compact", "--path", "f", "--max-age", "100d", "--dry-run")
    assert (done.exit_code, note in done.stderr) == (0, True)
    assert "Is the clock of this machine right?" in done.stderr


# R34: metrics say whose they are.


def test_r34_metrics_say_that_they_are_those_of_the_scan(sample: Path, both: Callable[..., Both]) -> None:
    done = both("metrics", "persistence", "--path", "papyra.ndjson")
    for text in (done.pipe.stdout, done.shown):
        assert "the counters of this scan; no running application answers" in text


APPLICATION = """
import sys, anyio
from papyra import Actor, ActorSystem

class Nothing(Actor):
    async def receive(self, message): ...

async def main():
    async with ActorSystem(system_id="shop", persistence="json:./live.ndjson") as system:
        for _ in range(5):
            await system.spawn(Nothing).ask("hello")
        await system.flush()
        (admin,) = system.instruments
        while admin.path is None:  # its socket comes a little later than the start
            await anyio.sleep(0.01)
        print("ready", flush=True)
        await anyio.to_thread.run_sync(sys.stdin.read)

anyio.run(main)
"""


def test_r34_the_counters_of_a_running_application_come_from_the_application(run: Runner) -> None:
    pytest.importorskip("papyra_contrib.admin")
    with tempfile.TemporaryDirectory(prefix="papyra-") as short:  # the path of a socket must not be long
        run.env.update(PAPYRA_RUNTIME_DIR=f"{short}/run", PAPYRA_PERSISTENCE="json:./live.ndjson")
        argv = [sys.executable, "-c", APPLICATION]
        env = run.environment | {"PAPYRA_INSTRUMENTS": "admin"}
        with subprocess.Popen(argv, cwd=run.folder, env=env, stdin=-1, stdout=-1) as program:
            assert program.stdout is not None
            assert program.stdin is not None
            assert program.stdout.readline() == b"ready\n"
            for command in ("persistence", "application"):
                done = run("metrics", command)
                assert (
                    f"status\tok: the counters of the running application shop, process {program.pid}\n"
                    in done.stdout
                )
                written = next(line for line in done.stdout.splitlines() if "records_written" in line)
                assert int(written.split("\t")[2]) >= 5
                assert "metric\tscans\t0\n" in done.stdout
            scanned = run("metrics", "persistence", "--path", "live.ndjson")
            assert "the counters of this scan" in scanned.stdout
            program.stdin.close()
        assert "the counters of this scan" in run("metrics", "persistence").stdout
        assert run("metrics", "application").returncode == 3
