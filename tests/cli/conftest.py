"""Run the real command, beside a throw-away distribution that brings a backend and commands."""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import pty
import select
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from textwrap import dedent
from typing import TextIO

import pytest
from click.testing import CliRunner, Result

from papyra_cli._main import papyra

from ._fork_server import Forked, ForkServer

LIMIT = 120
"""Seconds after which something hangs, and no longer is slow because the machine is busy."""

TOY_BACKEND = '''
"""A store in a text file: a line "event TYPE TIME" is an event, any other is damage."""
import os
import signal
from dataclasses import replace
from pathlib import Path

import anyio
from papyra.persistence import InMemoryPersistence
from papyra.persistence.models import *
from papyra.persistence.url import BackendURL


class Toy(InMemoryPersistence):
    name = "toy"

    @classmethod
    def from_url(cls, url):
        parsed = BackendURL.parse(url)
        policy, options = parsed.convert_with_retention(
            {"slow": float, "until": str, "stubborn": str, "fail": str, "payload": str, "opening": str, "noise": str}
        )
        if "opening" in options:
            raise RuntimeError(options["opening"])
        self = cls(policy)
        self.path, self.options = Path(parsed.path), options
        if "noise" in options:
            print("noise from the backend")
        self.lines = self.path.read_text().splitlines()
        payload = {"text": options.get("payload", "")}
        for line in self.lines:
            if line.startswith("event "):
                _, kind, moment = line.split()
                self._records.append(PersistedEvent("local", "local:1", kind, payload, float(moment)))
        return self

    async def work(self):
        Path(f"{self.path}.working").touch()
        await anyio.sleep(self.options.get("slow", 0))
        while "until" in self.options and not Path(self.options["until"]).exists():
            await anyio.sleep(0.01)
        if "fail" in self.options:
            raise {"OSError": OSError(28, "No space left on device"), "denied": PermissionError(13, "Permission denied", "/x"),
                   "bug": RuntimeError("first\\nsecond")}[self.options["fail"]]

    async def scan(self):
        await self.work()
        bad = [(n, line) for n, line in enumerate(self.path.read_text().splitlines(), 1) if not line.startswith("event ")]
        return PersistenceScanReport("toy", tuple(
            PersistenceAnomaly(PersistenceAnomalyType.CORRUPT_LINE, str(self.path), line, n, 0) for n, line in bad))

    async def recover(self, config=None):
        report = await self.scan()
        if "stubborn" not in self.options:
            self.path.write_text("".join(line + "\\n" for line in self.lines if line.startswith("event ")))
        return PersistenceRecoveryReport("toy", report, (str(self.path),))

    async def compact(self, *, dry_run=False):
        await self.work()
        report = await super().compact(dry_run=dry_run)
        return replace(report, before_records=len(self.lines), before_bytes=2_000_000, after_bytes=500)

    async def aclose(self):
        await super().aclose()
        Path(f"{self.path}.closed").touch()
'''

TOY_COMMANDS = """
import click

@click.command()
def hello():
    "Say hello."
    click.echo("hello from toy")

@click.command()
def boom():
    raise RuntimeError("first line\\nsecond \\x1b[31m line")

not_a_command = 42
"""

INSTALLED = Path(sys.executable).with_name("papyra")

PATIENT = """\
#!/bin/sh
'''exec' "{python}" "$0" "$@"
' '''
# The command, but that no work is taken for long, however busy the machine is.
from papyra_cli import main
from papyra_cli._click import completion as _completion
from papyra_cli._output import progress as _progress

_completion._MAX_SECONDS = _progress._SILENCE_SECONDS = 600.0
main()
"""


@cache
def fork_server(number: int = 1) -> ForkServer | None:
    """Start a process that runs commands for all tests of this process, one at a time."""
    if "REAL_COMMAND" in os.environ or not hasattr(os, "fork"):
        return None
    return ForkServer(Runner(Path.cwd()).environment)


@dataclass
class Runner:
    """The command as users have it: a process."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)
    command: Path = INSTALLED

    @property
    def argv(self) -> list[str]:
        return [str(self.command)]

    def patient(self) -> Runner:
        """Return one that draws no progress, and waits as long as it takes for what completion reads."""
        command = self.folder.with_name("patient") / "papyra"
        command.parent.mkdir(exist_ok=True)
        command.write_text(PATIENT.format(python=sys.executable))
        command.chmod(0o755)
        return Runner(self.folder, self.env, command)

    @property
    def environment(self) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PAPYRA", "COV_", "COVERAGE"))}
        return clean | {"TERM": "xterm-256color", "PYTHONWARNINGS": "error"} | self.env

    def __call__(self, *args: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        argv, environment = [*self.argv, *args], self.environment | env
        if self.command == INSTALLED and (server := fork_server()):
            done = server.run(argv, stdin, self.folder, environment, LIMIT)
            if done is not None:
                return done
        return subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            text=True,
            encoding="utf-8",
            cwd=self.folder,
            env=environment,
            timeout=LIMIT,
        )

    def start_on_terminal(self, *args: str, terminal: int, patient: bool) -> Forked | subprocess.Popen[bytes]:
        """Start one that a person sees; a patient one draws no progress, and waits as long as it takes."""
        if self.command == INSTALLED and (server := fork_server(2)):  # beside one in a pipe
            argv, environment = [*self.argv, *args], self.environment
            forked = server.start_on_terminal(argv, self.folder, environment, terminal, patient=patient)
            if forked is not None:
                return forked
        return (self.patient() if patient else self).start(
            *args, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
            preexec_fn=_own_terminal,
        )  # fmt: skip

    def start(self, *args: str, **options: object) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*self.argv, *args], cwd=self.folder, env=self.environment, **options)  # type: ignore[call-overload]  # passed on


@pytest.fixture(autouse=True)
def _same_environment_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away the developer's own settings of the command, also where no process is started."""
    for name in list(os.environ):
        if name.startswith("PAPYRA_") or name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TERM", "xterm-256color")


@pytest.fixture
def run(tmp_path: Path) -> Runner:
    """Run ``papyra`` in a folder of its own."""
    folder = tmp_path / "work"
    folder.mkdir()
    return Runner(folder)


@dataclass
class Site:
    """A folder on the path, for distributions that were never installed."""

    folder: Path

    def add(self, name: str, entry_points: str, version: str = "1.0", **modules: str) -> None:
        info = self.folder / f"{name}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(dedent(entry_points))
        for module, text in modules.items():
            (self.folder / f"{module}.py").write_text(text)
        importlib.invalidate_caches()


@pytest.fixture
def site(tmp_path: Path, run: Runner, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Let ``run`` and this process see distributions that a test makes up."""
    site = Site(tmp_path / "site")
    site.folder.mkdir()
    monkeypatch.syspath_prepend(site.folder)
    run.env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(site.folder), os.environ.get("PYTHONPATH")]))
    yield site
    for name, module in list(sys.modules.items()):
        if Path(getattr(module, "__file__", None) or "/").parent == site.folder:
            del sys.modules[name]


@pytest.fixture
def toy(site: Site, run: Runner) -> Path:
    """Bring the backend ``toy`` and the commands ``hello`` and ``boom``; return a store with one bad line."""
    site.add(
        "papyra-toy",
        """
        [papyra.backends]
        toy = toy_backend:Toy

        [papyra.commands]
        hello = toy_commands:hello
        boom = toy_commands:boom
        odd = toy_commands:not_a_command
        missing = toy_nowhere:command
        """,
        toy_backend=TOY_BACKEND,
        toy_commands=TOY_COMMANDS,
    )
    store = run.folder / "facts.toy"
    store.write_text("event ActorStarted 1700000000.5\nnonsense\nevent ActorStopped 1700000060\n")
    return store


class Terminal:
    """The command on a terminal of 100 columns, driven like a person does."""

    def __init__(self, run: Runner, *args: str, patient: bool) -> None:
        self._master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (40, 100))
        self.process = run.start_on_terminal(*args, terminal=slave, patient=patient)
        os.close(slave)
        self.text = ""
        self._read_so_far = b""

    def wait_for(self, text: str) -> None:
        """Read until ``text`` was shown."""
        while text not in self.text:
            if not self._read():
                raise AssertionError(f"{text!r} was never shown, but: {self.text!r}")

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def interrupt(self) -> None:
        """Press Ctrl-C until it is heard: between a prompt and the read behind it, Python may miss one.

        But not soon again: a second one while the command ends would be another story.
        """
        while self.process.poll() is None:
            self.type("\x03")
            while select.select([self._master], [], [], 10)[0]:
                if not self._read():
                    return

    def finish(self) -> int:
        """Read to the end and return the exit code."""
        while self._read():
            pass
        os.close(self._master)
        return self.process.wait(timeout=LIMIT)

    def _read(self) -> bool:
        if not select.select([self._master], [], [], LIMIT)[0]:
            raise AssertionError(f"nothing more was shown after: {self.text!r}")
        try:
            piece = os.read(self._master, 65536)
        except OSError:  # EIO: the last one who had the terminal open is gone
            return False
        self._read_so_far += piece  # which may end in the middle of a character
        self.text = self._read_so_far.decode(errors="replace").replace("\r\n", "\n")
        return bool(piece)


def _own_terminal() -> None:
    # So that Ctrl-C, typed, is a SIGINT to the command.
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture
def terminal(run: Runner) -> Iterator[Callable[..., Terminal]]:
    """Start ``papyra`` on a terminal; only if ``progress`` is wanted may it be drawn past a second."""
    started: list[Terminal] = []

    def start(*args: str, progress: bool = False) -> Terminal:
        started.append(Terminal(run, *args, patient=not progress))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


@pytest.fixture
def invoke(run: Runner, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run a command inside this process: for the many combinations whose kind a real process has shown."""
    monkeypatch.chdir(run.folder)
    for name in set(os.environ) - set(run.environment):
        monkeypatch.delenv(name)

    def start(*args: str, stdin: str = "", **env: str) -> Result:
        return CliRunner(env=run.env | env).invoke(papyra, args, stdin)

    return start


@pytest.fixture
def invoke_into_pipe(invoke: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run a command inside this process, while ``read`` reads its stdout in a thread; return its exit code.

    Without ``read`` the reader has left before it begins.
    """

    def start(*args: str, read: Callable[[TextIO], object] | None = None) -> int:
        reader, writer = os.pipe()

        def consume() -> None:
            with os.fdopen(reader) as lines:
                if read is not None:
                    read(lines)

        thread = threading.Thread(target=consume)
        thread.start()
        if read is None:
            thread.join()
        code = run_into(writer, monkeypatch, *args)
        thread.join()
        return code

    return start


def run_into(descriptor: int, monkeypatch: pytest.MonkeyPatch, *args: str) -> int:
    """Run a command inside this process with this stdout, which is closed; return its exit code."""
    with os.fdopen(descriptor, "w") as stdout, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stdout)
        with pytest.raises(SystemExit) as end:
            papyra.main(args, "papyra")
    assert isinstance(end.value.code, int)
    return end.value.code


@dataclass(frozen=True)
class Both:
    """What one command line did in a pipe, and what it did on a terminal."""

    pipe: subprocess.CompletedProcess[str]
    shown: str
    code: int  # on the terminal


@pytest.fixture
def both(run: Runner, terminal: Callable[..., Terminal]) -> Callable[..., Both]:
    """Run a command in a pipe and on a terminal, at the same time."""

    def start(*args: str) -> Both:
        shell = terminal(*args)
        done = run(*args)
        code = shell.finish()
        return Both(done, shell.text, code)

    return start


def _records() -> list[dict[str, object]]:
    """Make a day's facts, the newest a minute ago: starts and stops, crashes and restarts, dead letters,
    audits.
    """
    records: list[dict[str, object]] = []
    now = time.time()
    for number in range(240):
        base: dict[str, object] = {"system_id": "shop", "timestamp": now - 60 - 300 * (239 - number)}
        event = base | {"kind": "event", "actor_address": f"shop:{number % 7}"}
        if number % 40 == 39:
            counts = {"total_actors": 7, "alive_actors": 6, "stopping_actors": 1, "restarting_actors": 0}
            odd = {
                "registry_size": 2,
                "registry_orphans": ["x"],
                "registry_dead": [],
                "dead_letters_count": 9,
            }
            records.append(base | {"kind": "audit"} | counts | odd)
        elif number % 10 == 9:
            letter = {
                "kind": "dead_letter",
                "target": "shop:9",
                "message_type": "Order",
                "payload": {"n": number},
            }
            records.append(base | letter)
        elif number % 12 == 5:
            records.append(
                event | {"event_type": "ActorCrashed", "payload": {"error": "ValueError: no stock"}}
            )
        elif number % 12 == 6:
            records.append(event | {"event_type": "ActorRestarted", "payload": {"reason": "actor restarted"}})
        else:
            kind, payload = (("ActorStarted", {}), ("ActorStopped", {"reason": "stopped"}))[number % 2]
            records.append(event | {"event_type": kind, "payload": payload})
    return records


def line(record: dict[str, object]) -> str:
    """Write a record as a store in a file has it."""
    return json.dumps(record) + "\n"


@pytest.fixture
def sample(run: Runner) -> Path:
    """Put a store in order, `papyra.ndjson`, into the folder of ``run``."""
    path = run.folder / "papyra.ndjson"
    path.write_text("".join(map(line, _records())))
    return path


@pytest.fixture
def damaged(sample: Path) -> Path:
    """Put two invalid lines into the sample store, and a torn one at its end."""
    lines = sample.read_text().splitlines(keepends=True)
    sample.write_text("".join([*lines[:5], "nonsense\n", *lines[5:9], "[]\n", *lines[9:], '{"kind":"eve']))
    return sample
