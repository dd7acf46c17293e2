"""Output into pipes: readers that leave, JSON alone on stdout, encodings."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from papyra_cli._main import _open_missing_streams

from .conftest import Runner, Site, run_into


def _shell(run: Runner, line: str, **env: str) -> subprocess.CompletedProcess[str]:
    script = f"set -o pipefail; {line.replace('papyra', run.argv[0])}"
    return subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        cwd=run.folder,
        env=run.environment | env,
        timeout=120,
    )


def test_head_ends_a_long_listing_quietly(run: Runner, toy: Path) -> None:
    toy.write_text("".join(f"event A {n}\n" for n in range(20_000)))
    done = _shell(run, f"papyra inspect events --limit 20000 --backend toy:{toy} | head -n 1")
    assert (done.returncode, done.stdout.count("\n"), done.stderr) == (0, 1, "")


def test_the_exit_code_of_a_scan_survives_a_reader_that_leaves(run: Runner, toy: Path) -> None:
    toy.write_text("nonsense\n" * 20_000)
    done = _shell(run, f"papyra persistence scan --backend toy:{toy} | head -n 1")
    assert (done.returncode, done.stderr) == (1, "")


def test_follow_ends_when_its_reader_leaves(run: Runner, toy: Path) -> None:
    toy.write_text("event A 1\n" * 3000)
    done = _shell(run, f"papyra inspect events --limit 3000 --follow --backend toy:{toy} | head -n 1")
    assert (done.returncode, done.stderr) == (0, "")


def test_follow_ends_when_its_reader_leaves_though_nothing_new_comes(run: Runner, toy: Path) -> None:
    done = _shell(run, f"papyra inspect events --follow --backend toy:{toy} | head -n 1")
    assert (done.returncode, done.stdout.count("\n"), done.stderr) == (0, 1, "")


@pytest.mark.parametrize("command", ["hello", "--help"])
def test_a_closed_stdout_is_quiet(run: Runner, toy: Path, command: str) -> None:
    assert _shell(run, f"papyra {command} | true").stderr == ""


PRINTS = "import click\n@click.command()\ndef prints():\n    print('printed, but not flushed')\n"


@pytest.mark.parametrize(
    ("command", "code"),
    [("hello", 0), ("prints", 0), ("inspect events --limit 1000", 0), ("persistence scan", 1)],
)
def test_a_reader_that_has_left_does_not_change_the_exit_code(
    invoke_into_pipe: Callable[..., int],
    toy: Path,
    site: Site,
    capsys: pytest.CaptureFixture[str],
    command: str,
    code: int,
) -> None:
    site.add("prints", "[papyra.commands]\nprints = prints_command:prints\n", prints_command=PRINTS)
    toy.write_text("event A 1\n" * 1000 + "nonsense\n" * 1000)  # more than a buffer
    store = ["--backend", f"toy:{toy}"] if " " in command else []
    assert invoke_into_pipe(*command.split(), *store) == code
    assert capsys.readouterr().err == ""


def test_output_that_is_flushed_at_the_end_meets_a_full_disk(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site.add("prints", "[papyra.commands]\nprints = prints_command:prints\n", prints_command=PRINTS)
    assert run_into(os.open("/dev/full", os.O_WRONLY), monkeypatch, "prints") == 1
    assert "No space left on device; make room on the disk" in capsys.readouterr().err


def test_a_stream_that_was_closed_is_the_null_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a store could get its descriptor, and be written to."""
    for name in ("stdin", "stdout"):
        monkeypatch.setattr(sys, name, None)
    stderr = sys.stderr
    _open_missing_streams()
    try:
        sys.stdout.write("nowhere")
        sys.stdout.flush()
        assert (sys.stdin.read(), sys.stderr) == ("", stderr)
    finally:
        os.close(sys.stdin.fileno())
        os.close(sys.stdout.fileno())


@pytest.mark.parametrize("form", ["plain", "table", "json"])
def test_what_plugins_print_while_they_load_goes_to_stderr(
    run: Runner, toy: Path, site: Site, form: str
) -> None:
    for name in ("toy_backend", "toy_commands"):
        module = site.folder / f"{name}.py"
        module.write_text(f"print('noise of {name}')\n{module.read_text()}")
    command = ("persistence", "scan", "-o", form)
    quiet = run(*command, "--backend", f"toy:{toy}")
    assert "noise" not in quiet.stdout
    assert quiet.stderr == "noise of toy_backend\n"
    constructed = run(*command, "--backend", f"toy:{toy}?noise=1")
    assert constructed.stdout == quiet.stdout
    hello = run("hello")
    assert (hello.stdout, hello.stderr) == ("hello from toy\n", "noise of toy_commands\n")


def test_what_settings_print_while_they_load_goes_to_stderr(run: Runner) -> None:
    (run.folder / "conf.py").write_text(
        "from papyra.settings import Settings\nprint('noise')\nsettings = Settings(persistence='memory:')\n"
    )
    done = run("persistence", "scan", PAPYRA_SETTINGS_MODULE="conf")
    assert (done.stdout, done.stderr) == ("status\tclean\n", "noise\n")


def test_what_the_encoding_of_stdout_lacks_is_escaped(run: Runner, toy: Path) -> None:
    done = run(
        "inspect", "events", "--backend", f"toy:{toy}?payload=Žluť", "-o", "plain", PYTHONIOENCODING="ascii"
    )
    assert done.returncode == 0
    assert "\\u017dlu\\u0165" in done.stdout


@pytest.mark.parametrize("path", ["/dev/full"])
def test_a_full_disk_behind_stdout_is_an_error_not_a_traceback(run: Runner, toy: Path, path: str) -> None:
    done = _shell(run, f"papyra inspect events --backend toy:{toy} > {path}")
    assert done.returncode == 1
    assert (
        done.stderr
        == "papyra: error: [Errno 28] No space left on device; make room on the disk and try again\n"
    )


@pytest.mark.parametrize(
    "closed",
    [
        ">&-",
        "<&- >&- 2>&-",
        pytest.param("<&-", marks=pytest.mark.sweep),
        pytest.param("2>&-", marks=pytest.mark.sweep),
    ],
)
def test_a_closed_stream_keeps_no_work_from_being_done(run: Runner, toy: Path, closed: str) -> None:
    for command, code in (
        ("persistence scan", 1),
        ("persistence recover", 2),
        ("persistence recover --yes", 0),
        ("inspect events --limit 1000", 0),
    ):
        done = _shell(run, f"papyra {command} --backend toy:{toy} {closed}")
        assert (command, done.returncode) == (command, code)
        assert "Traceback" not in done.stderr
    store = run.folder / "facts.ndjson"
    store.write_text(
        '{"kind":"event","system_id":"s","actor_address":"s:1","event_type":"A","payload":{},"timestamp":1}\n'
        * 3
    )
    done = _shell(run, f"papyra persistence compact --path facts.ndjson --max-records 1 {closed}")
    assert (done.returncode, store.read_text().count("\n")) == (0, 1)
    assert _shell(run, f"papyra --help {closed}").returncode == 0
