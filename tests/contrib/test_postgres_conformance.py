"""The PostgreSQL backend keeps the contract, with a real server."""

from __future__ import annotations

import signal
from contextlib import contextmanager

import pytest

from papyra.testing import BackendConformance
from papyra_contrib._rows import to_row
from papyra_contrib.postgres import PostgresPersistence


class TestPostgresPersistence(BackendConformance):
    durable = True
    shared = True
    keeps_batch_ids = True

    @pytest.fixture
    def open_backend(self, postgres_server, table):
        return lambda retention_policy=None: PostgresPersistence(
            postgres_server.conninfo, retention_policy, table=table, timeout=2.0
        )

    @pytest.fixture
    def record_size(self):
        return lambda record: to_row(record)[-2]

    @pytest.fixture
    def backend_url(self, postgres_server, table):
        return postgres_server.url(table=f"{table}_url")

    @pytest.fixture
    def damage_store(self, postgres_server, table):
        def damage() -> None:
            with postgres_server.connect() as connection:
                connection.execute(
                    f"INSERT INTO {table} (kind, timestamp, system_id, actor, type, run, details, payload, size, crc) "
                    "VALUES ('event', 1, 'local', 'local:1', 'ActorStarted', '', '', '{}', 1, 1)"
                )

        return damage

    @pytest.fixture
    def read_quarantine(self, postgres_server):
        def read(names) -> bytes:
            with postgres_server.connect() as connection:
                rows = [connection.execute(f"SELECT payload FROM {name}").fetchall() for name in names]
            return repr(rows).encode()

        return read

    @pytest.fixture
    def restart_store(self, postgres_server):
        def restart() -> None:
            postgres_server.kill()
            postgres_server.start()

        return restart

    @pytest.fixture
    def cut_wire(self, postgres_server):
        def cut() -> None:
            with postgres_server.connect() as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'papyra'"
                )

        return cut

    @pytest.fixture
    def stall_store(self, postgres_server):
        @contextmanager
        def stall():
            postgres_server.signal_all(signal.SIGSTOP)
            try:
                yield
            finally:
                postgres_server.signal_all(signal.SIGCONT)

        return stall
