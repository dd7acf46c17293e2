"""The PostgreSQL backend keeps the contract, with a real server."""

from __future__ import annotations

import signal
from contextlib import contextmanager

import pytest

from papyra.testing import BackendConformance, Wire
from papyra_contrib._rows import to_row
from papyra_contrib.postgres import PostgresPersistence

NO_ROOM = """
CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT count(*) FROM {table}) > 500 THEN
        RAISE EXCEPTION 'no room' USING ERRCODE = 'disk_full';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER no_room BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION no_room();
"""


class TestPostgresPersistence(BackendConformance):
    durable = True
    shared = True
    keeps_batch_ids = True

    @pytest.fixture
    def wire(self, postgres_server):
        with Wire(postgres_server.folder / ".s.PGSQL.5432") as wire:
            yield wire

    @pytest.fixture
    def open_backend(self, request, postgres_server, table):
        """Go through the wire only where it is cut: the socket needs less time."""
        conninfo = postgres_server.conninfo
        if "wire" in request.fixturenames:
            conninfo += f" host=127.0.0.1 port={request.getfixturevalue('wire').port}"
        return lambda retention_policy=None: PostgresPersistence(
            conninfo, retention_policy, table=table, timeout=2.0
        )

    @pytest.fixture
    def record_size(self):
        return lambda record: to_row(record)[-2]

    @pytest.fixture
    def backend_url(self, postgres_server, table):
        return postgres_server.url(table=f"{table}_url")

    @pytest.fixture
    def damage_store(self, postgres_server, table):
        def damage() -> bytes:
            with postgres_server.connect() as connection:
                connection.execute(
                    f"INSERT INTO {table} (kind, timestamp, system_id, actor, type, run, details, payload, size, crc) "
                    "VALUES ('event', 1, 'local', 'local:1', 'ActorStarted', '', '', 'no checksum agrees', 1, 1)"
                )
            return b"no checksum agrees"

        return damage

    @pytest.fixture
    def fill_store(self, postgres_server, table):
        """It takes some rows of the batch before it says what PostgreSQL says of a full disk."""

        @contextmanager
        def fill():
            with postgres_server.connect() as connection:
                connection.execute(NO_ROOM.format(table=table))
                try:
                    yield
                finally:
                    connection.execute(f"DROP TRIGGER no_room ON {table}; DROP FUNCTION no_room")

        return fill

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
