"""The rows of the record in NDJSON files, and their floors, in the words that Papyra and the published
package share.

``python files.py ROW[-floor] SCALE FOLDER BACKEND``; the floors need orjson.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
import time
from pathlib import Path
from queue import SimpleQueue

import anyio

from papyra.actor import Actor
from papyra.persistence.json import JsonFilePersistence
from papyra.persistence.models import PersistedEvent
from papyra.system import ActorSystem


class Nothing(Actor):
    """Lives and dies: two facts."""

    async def receive(self, message):
        return None


def peak_mb() -> float:
    """Return the peak of resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def record(n: int, folder: Path) -> dict[str, float]:
    """Record n facts of a system until aclose() has returned: n / 2 actors start and stop."""
    path = folder / "record.ndjson"
    began = time.perf_counter()
    async with ActorSystem(persistence=JsonFilePersistence(path)) as system:
        for _ in range(n // 2):
            system.spawn(Nothing)
    elapsed = time.perf_counter() - began
    lines = path.read_bytes().count(b'"event_type":"Actor') or path.read_bytes().count(b"\n")
    assert lines == n // 2 * 2, f"{lines} lines for {n} facts"  # without the two facts of the system itself
    return {"per_second": lines / elapsed}


async def append(n: int, folder: Path) -> dict[str, float]:
    """Append n facts, one after the other, each acknowledged before the next."""
    backend = JsonFilePersistence(folder / "append.ndjson")
    began = time.perf_counter()
    for i in range(n):
        await backend.record_event(
            PersistedEvent(
                system_id="local",
                actor_address="local:1",
                event_type="ActorStarted",
                payload={},
                timestamp=1.7e9 + i,
            )
        )
    elapsed = time.perf_counter() - began
    await backend.aclose()
    return {"per_second": n / elapsed}


async def append_floor(n: int, folder: Path) -> dict[str, float]:
    """Have a thread write each line, with nothing around it: two wake-ups of a thread, and one write."""
    import asyncio

    import orjson

    descriptor = os.open(folder / "floor.ndjson", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    lines: SimpleQueue[tuple[bytes, asyncio.Future[None]] | None] = SimpleQueue()
    loop = asyncio.get_running_loop()

    def write() -> None:
        while (request := lines.get()) is not None:
            line, done = request
            os.write(descriptor, line)
            loop.call_soon_threadsafe(done.set_result, None)

    writer = threading.Thread(target=write)
    writer.start()
    began = time.perf_counter()
    for i in range(n):
        fact = {
            "kind": "event",
            "system_id": "local",
            "actor_address": "local:1",
            "event_type": "ActorStarted",
            "payload": {},
            "timestamp": 1.7e9 + i,
        }
        done = loop.create_future()
        lines.put((orjson.dumps(fact) + b"\n", done))
        await done
    elapsed = time.perf_counter() - began
    lines.put(None)
    writer.join()
    os.close(descriptor)
    return {"per_second": n / elapsed}


async def record_floor(n: int, folder: Path) -> dict[str, float]:
    """Serialize with orjson, and write a batch at a time."""
    import orjson

    descriptor = os.open(folder / "floor.ndjson", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    began = time.perf_counter()
    for start in range(0, n, 1000):
        lines = [
            orjson.dumps(
                {
                    "kind": "event",
                    "system_id": "local",
                    "actor_address": f"local:{i}",
                    "event_type": "ActorStarted",
                    "payload": {},
                    "timestamp": 1.7e9 + i,
                }
            )
            for i in range(start, start + 1000)
        ]
        os.write(descriptor, b"\n".join(lines) + b"\n")
    elapsed = time.perf_counter() - began
    os.close(descriptor)
    return {"per_second": n / elapsed}


async def prepare(n: int, folder: Path) -> Path:
    """Write the file of n records that scan, tail and compact work on, once."""
    path = folder / f"records-{n}.ndjson"
    if not path.exists():
        backend = JsonFilePersistence(path)
        for start in range(0, n, 5000):
            await backend.record_batch(
                [
                    PersistedEvent("local", f"local:{i}", "ActorStopped", {"reason": "stopped"}, 1.7e9 + i)
                    for i in range(start, min(n, start + 5000))
                ]
            )
        await backend.aclose()
    return path


async def scan(n: int, folder: Path) -> dict[str, float]:
    """Scan a file of n records."""
    backend = JsonFilePersistence(folder / f"records-{n}.ndjson")
    began = time.perf_counter()
    report = await backend.scan()
    elapsed = time.perf_counter() - began
    assert not report.has_anomalies, report.anomalies[:3]
    await backend.aclose()
    return {"seconds": elapsed, "resident_mb": peak_mb()}


async def scan_floor(n: int, folder: Path) -> dict[str, float]:
    """Parse every line with orjson."""
    import orjson

    began = time.perf_counter()
    with (folder / f"records-{n}.ndjson").open("rb") as file:
        for line in file:
            orjson.loads(line)
    return {"seconds": time.perf_counter() - began, "resident_mb": peak_mb()}


async def tail(n: int, folder: Path) -> dict[str, float]:
    """List the newest ten of n."""
    backend = JsonFilePersistence(folder / f"records-{n}.ndjson")
    began = time.perf_counter()
    found = await backend.list_events(limit=10)
    elapsed = time.perf_counter() - began
    assert len(found) == 10
    await backend.aclose()
    return {"ms": elapsed * 1e3}


async def compact(n: int, folder: Path) -> dict[str, float]:
    """Compact a copy of the file to half its records."""
    source, path = folder / f"records-{n}.ndjson", folder / "compact.ndjson"
    path.write_bytes(b"")
    with source.open("rb") as read, path.open("wb") as write:
        while block := read.read(1 << 20):
            write.write(block)
    from papyra.persistence import RetentionPolicy  # 0.3.0 has it elsewhere

    backend = JsonFilePersistence(path, RetentionPolicy(max_records=n // 2))
    began = time.perf_counter()
    report = await backend.compact()
    elapsed = time.perf_counter() - began
    assert report.after_records == n // 2
    await backend.aclose()
    path.unlink()
    return {"seconds": elapsed, "resident_mb": peak_mb()}


def _write_legacy(n: int, path: Path) -> None:
    """Write n records as the published package does: spaces, no seq, no crc."""
    with path.open("w") as file:
        for i in range(n):
            fact = {
                "kind": "event",
                "system_id": "local",
                "actor_address": f"local:{i}",
                "event_type": "ActorStopped",
                "payload": {"reason": "stopped"},
                "timestamp": 1.7e9 + i,
            }
            file.write(json.dumps(fact) + "\n")


async def legacy(n: int, folder: Path) -> dict[str, float]:
    """Compact a file of the published package to half its records."""
    from papyra.persistence import RetentionPolicy

    path = folder / "legacy.ndjson"
    _write_legacy(n, path)
    backend = JsonFilePersistence(path, RetentionPolicy(max_records=n // 2))
    began = time.perf_counter()
    report = await backend.compact()
    elapsed = time.perf_counter() - began
    assert report.after_records == n // 2
    await backend.aclose()
    path.unlink()
    return {"seconds": elapsed, "resident_mb": peak_mb()}


async def legacy_floor(n: int, folder: Path) -> dict[str, float]:
    """Scan the same file."""
    path = folder / "legacy-floor.ndjson"
    _write_legacy(n, path)
    backend = JsonFilePersistence(path)
    began = time.perf_counter()
    report = await backend.scan()
    elapsed = time.perf_counter() - began
    assert not report.has_anomalies, report.anomalies[:3]
    await backend.aclose()
    path.unlink()
    return {"seconds": elapsed, "resident_mb": peak_mb()}


async def compact_floor(n: int, folder: Path) -> dict[str, float]:
    """Copy half the bytes."""
    source, path = folder / f"records-{n}.ndjson", folder / "floor-copy.ndjson"
    began = time.perf_counter()
    with source.open("rb") as read, path.open("wb") as write:
        left = source.stat().st_size // 2
        while left > 0:
            block = read.read(min(1 << 20, left))
            left -= len(block)
            write.write(block)
        os.fsync(write.fileno())
    elapsed = time.perf_counter() - began
    path.unlink()
    return {"seconds": elapsed, "resident_mb": peak_mb()}


async def main() -> None:
    """Run one row."""
    row, scale, folder = sys.argv[1].replace("-", "_"), int(sys.argv[2]), Path(sys.argv[3])
    if row == "prepare":
        await prepare(scale, folder)
        print("{}")
        return
    print(json.dumps(await globals()[row](scale, folder)))


if __name__ == "__main__":
    anyio.run(main, backend=sys.argv[4])
