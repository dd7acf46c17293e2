"""The Redis backend keeps the contract, with a real server."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from papyra.testing import BackendConformance, Wire

redis = pytest.importorskip("redis", reason="the library redis is not installed; the extra redis brings it")

from papyra_contrib._rows import to_row  # noqa: E402 - as below
from papyra_contrib.redis import RedisPersistence  # noqa: E402 - only where the library is

from .conftest import RedisServer  # noqa: E402 - as above


@pytest.fixture(scope="module")
def redis_server():
    """Start a server whose records survive its death."""
    server = RedisServer("--appendonly", "yes", "--appendfsync", "always")
    server.start()
    yield server
    server.close()


class TestRedisPersistence(BackendConformance):
    durable = True
    shared = True
    keeps_batch_ids = True

    @pytest.fixture
    def wire(self, redis_server):
        with Wire(redis_server.socket) as wire:
            yield wire

    @pytest.fixture
    def open_backend(self, request, redis_server, stream):
        """Go through the wire only where it is cut: the socket needs less time."""
        url = f"unix://{redis_server.socket}"
        if "wire" in request.fixturenames:
            url = f"redis://127.0.0.1:{request.getfixturevalue('wire').port}"
        return lambda retention_policy=None: RedisPersistence(
            url, retention_policy, stream=stream, timeout=1.0
        )

    @pytest.fixture
    def record_size(self):
        return lambda record: to_row(record)[-2]

    @pytest.fixture
    def backend_url(self, redis_server, stream):
        return f"redis:{redis_server.socket}?stream={stream}:url"

    @pytest.fixture
    def damage_store(self, redis_server, stream):
        def damage():
            with redis.Redis(unix_socket_path=str(redis_server.socket)) as client:
                client.xadd(stream, {"not": "a record", "nor": "this"})
            return [b"a record", b"this"]

        return damage

    @pytest.fixture
    def fill_store(self, redis_server):
        @contextmanager
        def fill():
            with redis.Redis(unix_socket_path=str(redis_server.socket)) as client:
                client.config_set("maxmemory", "1")
                try:
                    yield
                finally:
                    client.config_set("maxmemory", "0")

        return fill

    @pytest.fixture
    def read_quarantine(self, redis_server):
        def read(names):
            with redis.Redis(unix_socket_path=str(redis_server.socket)) as client:
                entries = [fields for name in names for _, fields in client.xrange(name)]
            return b"".join(value for fields in entries for value in fields.values())

        return read

    @pytest.fixture
    def restart_store(self, redis_server):
        def restart() -> None:
            redis_server.kill()
            redis_server.start()

        return restart

    @pytest.fixture
    def cut_wire(self, redis_server):
        def cut() -> None:
            with redis.Redis(unix_socket_path=str(redis_server.socket)) as client:
                client.client_kill_filter(_type="normal", skipme=True)

        return cut

    @pytest.fixture
    def stall_store(self, redis_server):
        @contextmanager
        def stall():
            redis_server.stall()
            try:
                yield
            finally:
                redis_server.go_on()

        return stall
