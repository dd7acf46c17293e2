"""A Redis server of the tests' own, on a Unix socket."""

from __future__ import annotations

import itertools
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from ._postgres_server import PostgresServer
from ._server_binaries import redis_binary

_numbers = itertools.count()


class RedisServer:
    """Starts and stops; what it has to keep is in its folder. A socket's path must be short."""

    def __init__(self, *options: str) -> None:
        self._binary = redis_binary()
        self._folder = tempfile.TemporaryDirectory(prefix="papyra-")
        self.socket = Path(self._folder.name, "redis.sock")
        self.log = Path(self._folder.name, "log")
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.socket.unlink(missing_ok=True)
        settings = {
            "port": "0",
            "unixsocket": str(self.socket),
            "dir": self._folder.name,
            "logfile": str(self.log),
            "save": "",
        }
        command = [self._binary, *(word for name, value in settings.items() for word in (f"--{name}", value))]
        self._process = subprocess.Popen([*command, *self._options])
        deadline = time.monotonic() + 60
        while "ready to accept connections" not in self._logged():
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def _logged(self) -> str:
        return self.log.read_text().lower() if self.log.exists() else ""

    def kill(self) -> None:
        """Let it die at once; the log of the next start begins anew."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self.log.unlink(missing_ok=True)

    def stall(self) -> None:
        """Let it do nothing before `go_on`; what it is sent meanwhile it reads then."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.kill()
        self._folder.cleanup()


@pytest.fixture(scope="session")
def redis_server():
    """Start a server for all tests; each uses a stream of its own."""
    server = RedisServer()
    server.start()
    yield server
    server.close()


@pytest.fixture
def own_redis_server():
    """Return a function that makes a server with options, to be started, killed and started again."""
    servers: list[RedisServer] = []

    def make(*options: str) -> RedisServer:
        servers.append(RedisServer(*options))
        servers[-1].start()
        return servers[-1]

    yield make
    for server in servers:
        server.close()


@pytest.fixture
def stream() -> str:
    """Name a stream that no other test uses."""
    return f"papyra:facts:{next(_numbers)}"


@pytest.fixture(scope="session")
def postgres_server():
    """Start a server for all tests; each uses a table of its own."""
    server = PostgresServer()
    server.start()
    yield server
    server.close()


@pytest.fixture
def table() -> str:
    """Name a table that no other test uses."""
    return f"facts_{next(_numbers)}"


@pytest.fixture
def url(redis_server) -> str:
    """Return the address of the Redis server of all tests."""
    return f"unix://{redis_server.socket}"


@pytest.fixture
def raw(redis_server):
    """Return a client that looks at Redis without the backend."""
    import redis

    with redis.Redis(unix_socket_path=str(redis_server.socket)) as client:
        yield client


@pytest.fixture
def open_store(url, stream):
    """Return a function that opens the test's store on Redis."""
    from papyra_contrib.redis import RedisPersistence

    return lambda policy=None, **options: RedisPersistence(url, policy, stream=stream, **options)
