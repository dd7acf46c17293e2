"""The row `postgres`: batches of facts into a table, and a bare ``COPY`` of the same rows as its floor.

``python postgres.py postgres[-floor] SCALE BACKEND``; the server is a real one, started on a Unix socket.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import closing
from pathlib import Path

import anyio

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # for the server that the tests start

BATCH = 5000  # as a system hands them over


def events(start: int, count: int) -> list:
    """Return facts as a system has them: two of each actor."""
    from papyra.persistence.models import PersistedEvent

    identity = {"type": "shop.orders.Order"}
    return [
        PersistedEvent(
            "shop",
            f"shop:{n // 2}",
            "ActorStopped" if n % 2 else "ActorStarted",
            {"reason": "stopped", "processed": 1, **identity} if n % 2 else dict(identity),
            1.7e9 + n / 1000,
            "06f3k2m9a1",
        )
        for n in range(start, start + count)
    ]


def batches(scale: int) -> list[list]:
    """Return the facts of all batches."""
    return [events(start, min(BATCH, scale - start)) for start in range(0, scale, BATCH)]


async def ours(server, scale: int) -> float:
    """Return the seconds for all batches through the store, each awaited."""
    from papyra_contrib.postgres import PostgresPersistence

    given = batches(scale)
    backend = PostgresPersistence(server.conninfo)
    await backend.open()
    await backend.record_batch(events(0, 1), batch_id="warm:1")
    began = time.perf_counter()
    for number, batch in enumerate(given):
        await backend.record_batch(batch, batch_id=f"06f3k2m9a1:{number}")
    elapsed = time.perf_counter() - began
    await backend.aclose()
    with closing(server.connect()) as connection:
        ((stored,),) = connection.execute("SELECT count(*) FROM papyra_facts").fetchall()
    assert stored == scale + 1, f"{stored} rows for {scale} facts"
    return elapsed


def floor(server, scale: int) -> float:
    """Return the seconds to copy the rows of the same facts in the same batches; the table has no index."""
    from papyra_contrib._rows import to_row

    given = [[tuple(to_row(record)) for record in batch] for batch in batches(scale)]
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE bare (seq bigint GENERATED ALWAYS AS IDENTITY, kind text, timestamp double precision, "
            "system_id text, actor text, type text, run text, details text, payload text, size integer, crc bigint)"
        )
        columns = "kind, timestamp, system_id, actor, type, run, details, payload, size, crc"
        began = time.perf_counter()
        for rows in given:
            with cursor.copy(f"COPY bare ({columns}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
        return time.perf_counter() - began


def main(row: str, scale: int, backend: str) -> None:
    """Run one contestant."""
    from tests.contrib._postgres_server import PostgresServer

    server = PostgresServer()
    try:
        server.start()
        elapsed = (
            floor(server, scale)
            if row.endswith("-floor")
            else anyio.run(ours, server, scale, backend=backend)
        )
    finally:
        server.close()
    print(json.dumps({"per_second": scale / elapsed}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
