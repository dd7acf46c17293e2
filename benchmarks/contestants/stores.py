"""The rows of the record in SQLite and in Redis, and their floors.

``python stores.py ROW[-floor] SCALE BACKEND``; Redis is a real server, started on a Unix socket.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import anyio

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # for the server that the tests start

BATCH = 5000  # as a system hands them over


async def record(backend, scale: int) -> dict[str, float]:
    """Record the facts of a system until aclose() has returned: actors that start and stop."""
    from papyra import Actor, ActorSystem

    class Nothing(Actor):
        async def receive(self, message):
            return None

    began = time.perf_counter()
    async with ActorSystem(persistence=backend, shutdown_timeout=600.0) as system:
        for _ in range(scale // 2):
            system.spawn(Nothing)
    elapsed = time.perf_counter() - began
    assert backend.metrics.records_written >= scale // 2 * 2, backend.metrics
    return {"per_second": scale / elapsed}


def rows(scale: int) -> list[list[tuple]]:
    """Return the rows of as many facts, in batches."""
    from papyra.persistence.models import PersistedEvent
    from papyra_contrib._rows import to_row

    facts = [
        to_row(PersistedEvent("local", f"local:{n // 2}", "ActorStarted", {"type": "Nothing"}, 1.7e9, "run"))
        for n in range(scale)
    ]
    return [facts[start : start + BATCH] for start in range(0, scale, BATCH)]


async def record_sqlite(scale: int) -> dict[str, float]:
    """Record into a database."""
    from papyra_contrib.sqlite import SQLitePersistence

    with tempfile.TemporaryDirectory() as folder:
        return await record(SQLitePersistence(Path(folder, "facts.db")), scale)


async def record_sqlite_floor(scale: int) -> dict[str, float]:
    """Insert the rows into a table without an index, a transaction for each batch."""
    given = rows(scale)
    with tempfile.TemporaryDirectory() as folder:
        connection = sqlite3.connect(Path(folder, "bare.db"), isolation_level=None)
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute(
            "CREATE TABLE bare (kind, timestamp, system_id, actor, type, run, details, payload, size, crc)"
        )
        began = time.perf_counter()
        for batch in given:
            connection.execute("BEGIN")
            connection.executemany("INSERT INTO bare VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", batch)
            connection.execute("COMMIT")
        elapsed = time.perf_counter() - began
        connection.close()
    return {"per_second": scale / elapsed}


@contextmanager
def redis_server():
    """Lend a server that runs."""
    from tests.contrib.conftest import RedisServer

    server = RedisServer()
    server.start()
    try:
        yield server
    finally:
        server.close()


async def record_redis(scale: int) -> dict[str, float]:
    """Record into a stream."""
    from papyra_contrib.redis import RedisPersistence

    with redis_server() as server:
        return await record(RedisPersistence(f"unix://{server.socket}"), scale)


async def record_redis_floor(scale: int) -> dict[str, float]:
    """Append the same fields to a stream, a pipeline of commands for each batch, and read the answers."""
    import socket

    names = [b"kind", b"timestamp", b"system", b"actor", b"type", b"run", b"payload", b"size", b"crc"]
    given = [[row[:6] + row[7:] for row in batch] for batch in rows(scale)]  # details are empty
    with redis_server() as server, socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(server.socket))
        answers = connection.makefile("rb")
        began = time.perf_counter()
        for batch in given:
            parts: list[bytes] = []
            for row in batch:
                parts.append(b"*21\r\n$4\r\nXADD\r\n$4\r\nbare\r\n$1\r\n*\r\n")
                for name, value in zip(names, row, strict=True):
                    text = str(value).encode()
                    parts.append(b"$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(name), name, len(text), text))
            connection.sendall(b"".join(parts))
            for _ in batch:
                answers.readline()
                answers.readline()
        elapsed = time.perf_counter() - began
    return {"per_second": scale / elapsed}


if __name__ == "__main__":
    row, scale, backend = sys.argv[1].replace("-", "_"), int(sys.argv[2]), sys.argv[3]
    print(json.dumps(anyio.run(globals()[row], scale, backend=backend)))
