"""The rows of the record in PostgreSQL, and their floors.

``python postgres.py ROW[-floor] SCALE BACKEND``; the server is a real one, started on a Unix socket.
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


async def postgres(server, scale: int) -> dict[str, float]:
    """Give all batches to the store, each awaited."""
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
    return {"per_second": scale / elapsed}


def bare_copy(cursor, scale: int) -> float:
    """Copy the rows of the same facts in the same batches; the table has no index."""
    from papyra_contrib._rows import to_row

    given = [[tuple(to_row(record)) for record in batch] for batch in batches(scale)]
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


async def postgres_floor(server, scale: int) -> dict[str, float]:
    """Do nothing but the copy."""
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        return {"per_second": scale / bare_copy(cursor, scale)}


async def postgres_care(server, scale: int) -> dict[str, float]:
    """List the newest ten, scan all and compact to half."""
    from papyra.persistence import RetentionPolicy
    from papyra_contrib.postgres import PostgresPersistence

    backend = PostgresPersistence(server.conninfo, timeout=600.0)
    for number, batch in enumerate(batches(scale)):
        await backend.record_batch(batch, batch_id=f"06f3k2m9a1:{number}")
    began = time.perf_counter()
    assert len(await backend.list_events(limit=10)) == min(10, scale)
    listed = time.perf_counter()
    assert not (await backend.scan()).has_anomalies
    scanned = time.perf_counter()
    backend.retention = RetentionPolicy(max_records=scale // 2)
    assert (await backend.compact()).after_records == scale // 2
    compacted = time.perf_counter()
    await backend.aclose()
    return {
        "newest_ms": (listed - began) * 1e3,
        "scan_s": scanned - listed,
        "compact_s": compacted - scanned,
    }


async def postgres_care_floor(server, scale: int) -> dict[str, float]:
    """Read all rows of the bare table, 500 at a time; delete half of them and vacuum."""
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        bare_copy(cursor, scale)
        began = time.perf_counter()
        with connection.transaction(), connection.cursor(name="all") as rows:
            rows.itersize = 500
            assert sum(1 for _ in rows.execute("SELECT * FROM bare")) == scale
        scanned = time.perf_counter()
        connection.execute("DELETE FROM bare WHERE seq <= %s", (scale // 2,))
        connection.execute("VACUUM bare")
        return {"scan_s": scanned - began, "compact_s": time.perf_counter() - scanned}


def main(row: str, scale: int, backend: str) -> None:
    """Run one contestant."""
    from tests.contrib._postgres_server import PostgresServer

    server = PostgresServer()
    try:
        server.start()
        measured = anyio.run(globals()[row.replace("-", "_")], server, scale, backend=backend)
    finally:
        server.close()
    print(json.dumps(measured))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
