"""A command that waits for a lock says who holds it, and does not wait for ever: R26."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import Result

from papyra_cli._store.lock_watch import LockHolder, find_holder

from .conftest import Runner

pytestmark = pytest.mark.skipif(
    not Path("/proc/locks").exists(), reason="only Linux lists the locks of files"
)

HOLDER = """
import fcntl, sys
file = open(sys.argv[1], "a")
fcntl.flock(file, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked(run: Runner, name: str) -> Iterator[int]:
    argv = [sys.executable, "-c", HOLDER, name]
    with subprocess.Popen(argv, cwd=run.folder, stdin=-1, stdout=-1) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == b"locked\n"
        try:
            yield holder.pid
        finally:
            holder.stdin.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a command in this process note a lock, and look at files without it, after a tenth of the time."""
    monkeypatch.setattr("papyra_cli._store.lock_watch._SILENT_SECONDS", 0.1)
    monkeypatch.setattr("papyra_json._fileset.recognize.LOCK_PATIENCE_SECONDS", 0.1)


def test_r26_the_wait_for_a_lock_is_bounded_and_names_its_holder(run: Runner, sample: Path) -> None:
    with locked(run, "papyra.ndjson.lock") as pid:
        done = run("persistence", "scan", "--path", "papyra.ndjson", "--wait", "1200ms")
    check_that_it_names(pid, sample, "1.2 s", done.stderr)
    assert (done.returncode, done.stdout) == (3, "")


@pytest.mark.parametrize("command", ["persistence recover --yes", "persistence compact", "doctor run"])
def test_r26_each_command_bounds_its_wait(
    invoke: Callable[..., Result], run: Runner, sample: Path, command: str, impatient: None
) -> None:
    with locked(run, "papyra.ndjson.lock") as pid:
        done = invoke(*command.split(), "--path", "papyra.ndjson", "--wait", "500ms")
    check_that_it_names(pid, sample, "0.5 s", done.stderr)
    assert (done.exit_code, done.stdout) == (3, "")


def check_that_it_names(pid: int, sample: Path, wait: str, stderr: str) -> None:
    note, error = stderr.splitlines()
    assert f"papyra: note: waiting for the lock of {sample}.lock, which process {pid} (" in note
    assert f"papyra: error: waited {wait} for the lock of {sample}.lock, which process {pid} (" in error
    assert "python" in error


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (command, name)
        for command in ("copy", "backup", "restore")
        for name in ("papyra.ndjson", "there.db", "there.ndjson")
    ],
)
def test_r26_a_copy_waits_no_longer_for_either_store(
    invoke: Callable[..., Result], run: Runner, sample: Path, command: str, name: str, impatient: None
) -> None:
    target = "there.db" if name == "there.db" else "there.ndjson"
    first, _, _ = sample.read_bytes().partition(b"\n")
    (run.folder / "there.ndjson").write_bytes(first + b"\n")
    assert invoke("persistence", "copy", "there.ndjson", "sqlite:./there.db").exit_code == 0
    with locked(run, f"{name}.lock") as pid:
        done = invoke("persistence", command, "papyra.ndjson", target, "--wait", "100ms")
    assert (done.exit_code, done.stdout) == (3, "")
    assert f"waited 0.1 s for the lock of {run.folder}/{name}.lock, which process {pid} (" in done.stderr


def test_r26_a_lock_that_is_given_back_is_waited_for(run: Runner, sample: Path) -> None:
    with locked(run, "papyra.ndjson.lock") as pid:
        process = run.start("persistence", "scan", "--path", "papyra.ndjson", stdout=-1, stderr=-1)
        assert process.stderr is not None
        assert f"which process {pid} (".encode() in process.stderr.readline()
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (0, b"status\tclean\n", b"")


def test_r26_a_database_that_another_program_has_locked(
    invoke: Callable[..., Result], run: Runner, sample: Path
) -> None:
    assert invoke("persistence", "copy", "papyra.ndjson", "sqlite:./f.db").exit_code == 0
    with locked(run, "f.db.lock") as pid:
        done = invoke("persistence", "compact", "--path", "f.db", "--max-records", "1", "--wait", "200ms")
    assert done.exit_code == 3
    assert f"waited 0.2 s for the lock of {run.folder}/f.db.lock, which process {pid} (" in done.stderr


def test_r26_a_lock_that_the_command_inherited_is_not_waited_for(run: Runner, toy: Path) -> None:
    """As in a line of a crontab: flock /run/nightly.lock papyra persistence compact --wait 10s."""
    with (run.folder / "nightly.lock").open("w") as file:
        code = "import fcntl, sys; fcntl.flock(int(sys.argv[1]), fcntl.LOCK_EX)"
        subprocess.run([sys.executable, "-c", code, str(file.fileno())], check=True, pass_fds=[file.fileno()])
        process = run.start(
            "persistence", "scan", "--backend", f"toy:{toy}?slow=2", "--wait", "300ms",
            stdout=-1, stderr=-1, pass_fds=[file.fileno()],
        )  # fmt: skip
        _, errors = process.communicate(timeout=120)
    assert b"waited" not in errors
    assert process.returncode == 1  # the toy is damaged


def test_r26_a_wait_needs_a_unit(run: Runner, sample: Path) -> None:
    done = run("persistence", "scan", "--path", "papyra.ndjson", "--wait", "10")
    assert (done.returncode, "as in 30s" in done.stderr) == (2, True)


def test_a_holder_that_the_system_does_not_name_is_reported_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert str(LockHolder("f", 0)) == "the lock of f, which another process holds"
    assert str(LockHolder("f", 2**30)) == f"the lock of f, which process {2**30} holds"  # it ends just now
    assert f"process {os.getpid()} (" in str(LockHolder("f", os.getpid()))

    def refuse(self: Path, *_: object) -> str:
        raise FileNotFoundError(self)

    monkeypatch.setattr(Path, "read_text", refuse)  # there is no /proc on other systems
    assert find_holder() is None
