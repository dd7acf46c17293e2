"""R30: a full disk is exit 1 with a sentence, whatever the command does there; R24: doctor sees it
beforehand.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from .conftest import Runner

RECORDS = 300  # some 50 KB as lines, of the 256 KiB of the disk

START = 1_790_000_000.0


@pytest.fixture
def small(run: Runner) -> Path:
    """A store of lines outside of the small disk."""
    path = run.folder / "facts.ndjson"
    with path.open("w") as file:
        for number in range(RECORDS):
            record = {"kind": "event", "system_id": "s", "actor_address": "s:1", "event_type": "ActorStarted",
                      "payload": {"n": number}, "timestamp": START + number, "run": "r1"}  # fmt: skip
            file.write(json.dumps(record) + "\n")
    return path


@pytest.fixture
def fill(small_disk: Path) -> Callable[[], None]:
    """Fill the small disk to its last byte."""

    def fill() -> None:
        (small_disk / "ballast").write_bytes(bytes(shutil.disk_usage(small_disk).free))
        assert shutil.disk_usage(small_disk).free == 0

    return fill


def assert_full(done: Result) -> None:
    assert done.exit_code == 1, (done.stdout, done.stderr)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("papyra: error:")]
    assert "full" in line or "No space left" in line
    assert "room" in line
    assert "unexpected" not in line
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("scheme", ["json", "rotating", "sqlite"])
def test_r30_r24_a_full_disk_is_1_everywhere(
    invoke: Callable[..., Result], small: Path, small_disk: Path, fill: Callable[[], None], scheme: str
) -> None:
    url = f"{scheme}:{small_disk / 'facts'}"
    assert invoke("persistence", "copy", str(small), url).exit_code == 0
    if scheme != "sqlite":  # something to repair
        with (small_disk / "facts").open("ab") as file:
            file.write(b"damage\n")
    fill()
    before = {path.name: path.read_bytes() for path in small_disk.iterdir() if path.name.startswith("facts")}

    events = invoke("inspect", "events", "--backend", url, "-o", "json")
    assert (events.exit_code, len(json.loads(events.stdout))) == (0, RECORDS)
    doctor = invoke("doctor", "run", "--backend", url, "--mode", "ignore")
    assert doctor.exit_code == 1
    assert "check\thealth\tfailed\t" in doctor.stdout
    assert "room" in doctor.stdout
    assert_full(invoke("persistence", "compact", "--backend", url, "--max-records", "250"))
    assert_full(invoke("persistence", "copy", str(small), f"{scheme}:{small_disk / 'other'}"))
    assert_full(invoke("persistence", "backup", url, f"{scheme}:{small_disk / 'backup'}"))
    assert_full(invoke("persistence", "restore", str(small), f"{scheme}:{small_disk / 'restored'}"))
    if scheme != "sqlite":
        assert_full(invoke("persistence", "recover", "--backend", url, "--mode", "quarantine", "--yes"))

    after = {path.name: path.read_bytes() for path in small_disk.iterdir() if path.name.startswith("facts")}
    lines = [name for name in before if not name.endswith((".lock", "-wal", "-shm"))]
    assert {name: after[name] for name in lines} == {name: before[name] for name in lines}

    for path in small_disk.iterdir():
        if path.name not in before:
            path.unlink()
    assert invoke("doctor", "run", "--backend", url, "--mode", "ignore").exit_code == 0


def test_r30_output_to_a_full_disk_is_1(run: Runner, small: Path) -> None:
    device = Path("/dev/full")
    if not device.exists():
        pytest.skip("no /dev/full here")
    with device.open("wb") as full:
        process = run.start("inspect", "events", "--path", str(small), "-o", "json", stdout=full, stderr=-1)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert b"No space left on device" in errors
    assert b"Traceback" not in errors
