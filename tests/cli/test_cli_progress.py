"""Progress on a terminal, and backends that know less than the contract by now has."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import click
import pytest

from papyra.persistence import InMemoryPersistence
from papyra.persistence.models import (
    CompactionReport,
    PersistedEvent,
    PersistenceAnomaly,
    PersistenceAnomalyType,
    PersistenceRecoveryConfig,
    PersistenceRecoveryReport,
    PersistenceScanReport,
)
from papyra_cli._main import papyra
from papyra_cli._output.display import Display
from papyra_cli._output.output import Output
from papyra_cli._output.progress import Gauge, watched
from papyra_cli._output.progress_bar import Line
from papyra_cli._store.session import OpenStore

from .conftest import Runner, Site, Terminal

DAMAGE = PersistenceScanReport(
    "x", (PersistenceAnomaly(PersistenceAnomalyType.CORRUPT_LINE, "p", "d", 1, 0),)
)


class Old(InMemoryPersistence):
    """Written before there was progress, or a rehearsal."""

    recovered = False

    async def scan(self) -> PersistenceScanReport:  # type: ignore[override]  # that is what is tested
        return DAMAGE

    async def recover(self, config: PersistenceRecoveryConfig | None = None) -> PersistenceRecoveryReport:  # type: ignore[override]  # see above
        self.recovered = True
        return PersistenceRecoveryReport("x", DAMAGE, ("p",))

    async def compact(self, *, dry_run: bool = False) -> CompactionReport:  # type: ignore[override]  # see above
        return CompactionReport("x", 1, 1, None, None)


class Careless(Old):
    """Takes any keyword and heeds none."""

    async def recover(
        self, config: PersistenceRecoveryConfig | None = None, **options: Any
    ) -> PersistenceRecoveryReport:  # type: ignore[override]  # see above
        self.recovered = True
        return PersistenceRecoveryReport("x", DAMAGE, ("p",))


class Telling(Old):
    """Tells how far it is, and can rehearse."""

    async def scan(self, *, progress: Any = None) -> PersistenceScanReport:
        progress(1, 2)
        return DAMAGE

    async def recover(
        self, config: PersistenceRecoveryConfig | None = None, *, dry_run: bool = False, progress: Any = None
    ) -> PersistenceRecoveryReport:
        progress(2, 2)
        self.recovered = not dry_run
        return PersistenceRecoveryReport("x", DAMAGE, ("p",), ("q",))


def opened(backend: InMemoryPersistence) -> OpenStore:
    with click.Context(papyra):
        return OpenStore(backend, Output(click.get_current_context()), in_bytes=False)


@pytest.mark.parametrize("kind", [Old, Careless])
async def test_an_older_backend_is_asked_without_what_it_does_not_know(kind: type[Old]) -> None:
    backend = kind()
    store = opened(backend)
    assert await store.scan() == DAMAGE
    assert (await store.compact(dry_run=True)).before_records == 1
    assert await store.rehearse(PersistenceRecoveryConfig()) is None
    assert not backend.recovered
    assert (await store.recover(PersistenceRecoveryConfig())).repaired_files == ("p",)


async def test_a_backend_that_can_rehearses() -> None:
    backend = Telling()
    store = opened(backend)
    assert await store.scan() == DAMAGE
    rehearsal = await store.rehearse(PersistenceRecoveryConfig())
    assert rehearsal is not None
    assert rehearsal.quarantined_files == ("q",)
    assert not backend.recovered
    await store.recover(PersistenceRecoveryConfig())
    assert backend.recovered


async def test_reading_gives_every_record_newest_first_and_lets_others_run() -> None:
    backend = InMemoryPersistence()
    await backend.record_batch([PersistedEvent("s", "s:1", "A", {}, float(n)) for n in range(9500)])
    seen: list[float] = []
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(count_turns)
            await opened(backend).read(1.0, 9498.0, lambda record: seen.append(record.timestamp))
            group.cancel_scope.cancel()
    assert seen == [float(n) for n in range(9498, 0, -1)]
    assert turns >= 5


def test_a_dry_run_on_a_backend_that_cannot_rehearse_is_a_scan(run: Runner, toy: Path) -> None:
    before = toy.read_text()
    done = run("persistence", "recover", "--dry-run", "--backend", f"toy:{toy}", "-o", "json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["dry_run"], report["repaired_files"]) == (0, True, [])
    assert [found["line"] for found in report["scan"]["anomalies"]] == [2]
    assert toy.read_text() == before


SLOW = """
    async def scan(self, *, progress):
        progress(2_500_000, 3_500_000)
        await self.work()
        return PersistenceScanReport("toy")
"""


def test_a_bar_shows_how_far_it_is_and_only_on_a_terminal(
    run: Runner, toy: Path, site: Site, terminal: Callable[..., Terminal]
) -> None:
    toy.write_text("event A 1\n")
    module = site.folder / "toy_backend.py"
    module.write_text(module.read_text() + SLOW)
    enough = toy.with_name("enough")
    command = ("persistence", "scan", "--backend", f"toy:{toy}?until={enough}", "--color", "never")
    shell = terminal(*command, progress=True)
    shell.wait_for("2,500,000 of 3,500,000")
    enough.touch()
    assert shell.finish() == 0
    assert "━" in shell.text
    done = run("persistence", "scan", "--backend", f"toy:{toy}?slow=1.3")
    assert shell.text.endswith("\x1b[2Kclean\n")
    assert (done.stdout, done.stderr) == ("status\tclean\n", "")


async def test_a_terminal_that_goes_away_ends_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def isatty(self) -> bool:
            return True

        def write(self, text: str) -> int:
            tried.set()
            raise OSError(5, "Input/output error")

    async def work() -> str:
        await tried.wait()
        await anyio.sleep(0.01)  # the drawing has failed, and could have ended this
        return "done"

    monkeypatch.setattr("sys.stderr", Gone())
    monkeypatch.setattr("papyra_cli._output.progress._SILENCE_SECONDS", 0)
    monkeypatch.setenv("TERM", "xterm")
    with anyio.fail_after(60):
        tried = anyio.Event()
        assert await watched(Display(), "reading", Gauge(in_bytes=True), work) == "done"


@pytest.mark.parametrize(
    ("in_bytes", "latest", "records", "shown"),
    [
        (True, (2_500_000, 3_500_000), 0, "2.5 MB of 3.5 MB"),
        (False, (2_500_000, 3_500_000), 0, "2,500,000 of 3,500,000"),
        (True, None, 1, "1 record "),
        (True, None, 1234, "1,234 records "),
        (True, None, 0, "0:01:"),
    ],
)
def test_what_a_line_says(
    capsys: pytest.CaptureFixture[str],
    in_bytes: bool,
    latest: tuple[int, int] | None,
    records: int,
    shown: str,
) -> None:
    gauge = Gauge(in_bytes=in_bytes)
    if latest is not None:
        gauge(*latest)
    gauge.records = records
    with Line("reading", gauge, time.monotonic() - 65, colored=False) as line:
        line.redraw()
    told = capsys.readouterr().err
    assert shown in told
    assert "reading" in told
    assert ("━" in told) is (latest is not None)
