"""`papyra persistence copy`, `backup` and `restore`: R17 and R29."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import Result

from papyra.persistence.models import PersistedRecord
from papyra_json import JsonFilePersistence, RotatingFilePersistence

from .conftest import Runner, Site

START = 1_790_000_000.0

WRITER = """
import sys, anyio
from papyra.persistence import open_backend
from papyra.persistence.models import PersistedEvent

async def main():
    store = open_backend(sys.argv[1])
    for number in range(100_000):
        await store.record_batch([PersistedEvent("s", "s:1", "A", {"n": number}, 1e9 + number)])
        print(number, flush=True)

anyio.run(main)
"""


def write(path: Path, numbers: range, **more: object) -> None:
    with path.open("a") as file:
        for number in numbers:
            record = {"kind": "event", "system_id": "s", "actor_address": "s:1", "event_type": "A",
                      "payload": {"n": number}, "timestamp": START + number, "run": "r1"}  # fmt: skip
            file.write(json.dumps(record | more) + "\n")


@pytest.fixture
def source(run: Runner) -> Path:
    path = run.folder / "a.ndjson"
    write(path, range(1200))
    with path.open("a") as file:
        file.write(json.dumps({"kind": "dead_letter", "system_id": "s", "target": "s:2", "message_type": "M",
                               "payload": {"x": [1.5, "é"]}, "timestamp": START + 1200, "run": "r1",
                               "target_name": "mailer", "target_type": "shop.Mailer", "reason": "stopped"}) + "\n")  # fmt: skip
    return path


def numbers(invoke: Callable[..., Result], url: str) -> list[int]:
    done = invoke("inspect", "events", "--backend", url, "-o", "json")
    return [event["payload"]["n"] for event in json.loads(done.stdout)]


@pytest.mark.parametrize("url", ["json:./b", "rotating:./b?max_bytes=20KB&max_files=50", "sqlite:./b"])
def test_r17_a_store_is_copied_in_order_and_checked(
    invoke: Callable[..., Result], source: Path, url: str
) -> None:
    before = source.read_bytes()
    done = invoke("persistence", "copy", "a.ndjson", url, "-o", "json")
    report = json.loads(done.stdout)
    assert (done.exit_code, done.stderr, report["ok"]) == (0, "", True)
    assert (report["copied"], report["target_records"], report["already_there"]) == (1201, 1201, 0)
    assert (report["first_timestamp"], report["last_timestamp"]) == (START, START + 1200)
    assert numbers(invoke, url) == list(range(1200))
    letters = invoke("inspect", "dead-letters", "--backend", url, "-o", "json").stdout
    assert letters == invoke("inspect", "dead-letters", "--path", "a.ndjson", "-o", "json").stdout
    assert source.read_bytes() == before
    again = json.loads(invoke("persistence", "copy", "a.ndjson", url, "-o", "json").stdout)
    assert (again["copied"], again["already_there"], again["ok"]) == (0, 1201, True)


def test_r17_an_interrupted_copy_goes_on_where_it_was(
    invoke: Callable[..., Result], run: Runner, source: Path
) -> None:
    write(run.folder / "b", range(700))  # what was there when the power went
    done = invoke("persistence", "copy", "a.ndjson", "json:./b")
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (
        0, "status\tcopied 501 records more, 700 were there already, checked",
    )  # fmt: skip
    assert numbers(invoke, "json:./b") == list(range(1200))


@pytest.mark.parametrize("there", [[range(3, 5)], [range(5), range(7, 8)], [range(1200), range(5000, 5001)]])
def test_r17_a_target_that_holds_anything_else_is_refused(
    invoke: Callable[..., Result], run: Runner, source: Path, there: list[range]
) -> None:
    target = run.folder / "b"
    for part in there:
        write(target, part)
    before = target.read_bytes()
    done = invoke("persistence", "copy", "a.ndjson", "json:./b")
    assert (done.exit_code, done.stdout, target.read_bytes()) == (1, "", before)
    assert "they are not the beginning of the source. Nothing was changed" in done.stderr


def test_r17_stores_are_merged_and_an_interrupted_merge_goes_on(
    invoke: Callable[..., Result], run: Runner, source: Path
) -> None:
    target = run.folder / "b"
    write(target, range(5000, 5010))
    assert invoke("persistence", "copy", "a.ndjson", "json:./b", "--append").exit_code == 0
    assert numbers(invoke, "json:./b") == [*range(5000, 5010), *range(1200)]
    target.unlink()
    write(target, range(5000, 5010))
    write(target, range(1000))  # interrupted
    done = invoke("persistence", "copy", "a.ndjson", "json:./b", "--append", "-o", "json")
    assert (json.loads(done.stdout)["copied"], json.loads(done.stdout)["already_there"]) == (201, 1000)
    assert numbers(invoke, "json:./b") == [*range(5000, 5010), *range(1200)]
    again = invoke("persistence", "copy", "a.ndjson", "json:./b", "--append", "-o", "json")
    assert json.loads(again.stdout)["copied"] == 0


def test_r17_old_records_are_archived(invoke: Callable[..., Result], source: Path) -> None:
    done = invoke("persistence", "copy", "a.ndjson", "json:./old", "--until", str(START + 99), "-o", "json")
    assert (done.exit_code, json.loads(done.stdout)["copied"]) == (0, 100)
    assert numbers(invoke, "json:./old") == list(range(100))


def test_r17_damage_is_not_copied_and_makes_exit_1(invoke: Callable[..., Result], source: Path) -> None:
    with source.open("a") as file:
        file.write("nonsense\n")
    done = invoke("persistence", "copy", "a.ndjson", "json:./b")
    assert done.exit_code == 1
    assert "copied 1,201 records; 1 anomaly in the source: invalid records can't be copied" in done.stdout


def later(record: PersistedRecord) -> PersistedRecord:
    return replace(record, timestamp=record.timestamp + 1)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda batch: batch[:-1], "the target has 1,198 records in place of 1,201"),
        (
            lambda batch: [*batch[:-1], later(batch[-1])],
            "the last record of the target is not that of the source",
        ),
        (
            lambda batch: [later(batch[0]), *batch[1:]],
            "the first record of the target is not that of the source",
        ),
    ],
)
def test_r17_a_target_that_keeps_something_else_is_found(
    invoke: Callable[..., Result],
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[list[PersistedRecord]], list[PersistedRecord]],
    problem: str,
) -> None:
    real = JsonFilePersistence.record_batch

    async def record_batch(self: JsonFilePersistence, batch: list[PersistedRecord]) -> None:
        await real(self, change(batch))

    monkeypatch.setattr(JsonFilePersistence, "record_batch", record_batch)
    done = invoke("persistence", "copy", "a.ndjson", "json:./b", "-o", "json")
    assert (done.exit_code, json.loads(done.stdout)["problem"]) == (1, problem)


def test_r17_a_store_without_pages_is_read_in_order(
    invoke: Callable[..., Result], site: Site, toy: Path
) -> None:
    module = site.folder / "toy_backend.py"
    pages = "from papyra.persistence import PersistenceBackend\nToy.page = PersistenceBackend.page\n"
    module.write_text(f"{module.read_text()}\n{pages}")
    toy.write_text("".join(f"event A{number} {number}\n" for number in range(5)))
    assert invoke("persistence", "copy", f"toy:{toy}", "json:./b").exit_code == 0
    done = invoke("inspect", "events", "--path", "b", "-o", "json")
    assert [event["event_type"] for event in json.loads(done.stdout)] == ["A0", "A1", "A2", "A3", "A4"]


def test_r29_a_copy_of_a_store_without_records_makes_no_file(
    invoke: Callable[..., Result], run: Runner
) -> None:
    (run.folder / "a").touch()
    done = invoke("persistence", "backup", "json:./a", "json:./b", "-o", "json")
    assert (done.exit_code, json.loads(done.stdout)["copied"]) == (0, 0)
    assert not (run.folder / "b").exists()


@pytest.mark.parametrize("number", [errno.EPERM, errno.EEXIST])
def test_r29_a_new_store_replaces_no_file_and_needs_no_links(
    invoke: Callable[..., Result], run: Runner, source: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def link(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", link)
    done = invoke("persistence", "backup", "a.ndjson", "json:./b")
    if number == errno.EEXIST:  # another program was quicker
        assert (done.exit_code, "was made by another program meanwhile" in done.stderr) == (1, True)
        assert not (run.folder / "b").exists()
    else:
        assert done.exit_code == 0
        assert numbers(invoke, "json:./b") == list(range(1200))
    assert not (run.folder / ".b.draft").exists()


def test_r29_the_draft_of_a_command_killed_at_its_very_end_is_removed(
    invoke: Callable[..., Result], run: Runner, source: Path
) -> None:
    assert invoke("persistence", "backup", "a.ndjson", "json:./b").exit_code == 0
    (run.folder / ".b.draft").mkdir()
    (run.folder / ".b.draft" / "b").touch()
    assert invoke("persistence", "backup", "a.ndjson", "json:./b").exit_code == 0
    assert not (run.folder / ".b.draft").exists()


@pytest.mark.parametrize(
    ("argv", "code", "problem"),
    [
        (("none.ndjson", "json:./b"), 3, "there is no file none.ndjson"),
        (("json:./none", "json:./b"), 3, "there is no file"),
        (("a.ndjson", "./a.ndjson"), 2, "are the same store"),
        (("a.ndjson", "~/b"), 2, "only a shell expands '~'"),
        (("memory:", "b"), 2, "give a URL"),
        (("a.ndjson",), 2, "Missing argument 'TO'"),
    ],
)
def test_r17_stores_that_cannot_be_copied(
    invoke: Callable[..., Result], source: Path, argv: tuple[str, ...], code: int, problem: str
) -> None:
    done = invoke("persistence", "copy", *argv)
    assert (done.exit_code, done.stdout) == (code, "")
    assert problem.lower() in done.stderr.lower()
    assert list(source.parent.iterdir()) == [source]


@pytest.mark.parametrize("scheme", ["json", "sqlite"])
def test_r29_a_backup_is_consistent_while_an_application_writes(
    invoke: Callable[..., Result], run: Runner, scheme: str
) -> None:
    argv = [sys.executable, "-c", WRITER, f"{scheme}:./live"]
    with subprocess.Popen(argv, cwd=run.folder, env=run.environment, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        seen = [int(writer.stdout.readline()) for _ in range(50)][-1]
        done = invoke("persistence", "backup", "live", "saved", "-o", "json")
        writer.kill()
        writer.stdout.read()
    assert (done.exit_code, done.stderr) == (0, "")
    assert json.loads(done.stdout)["target_records"] > seen
    kept = numbers(invoke, f"{scheme}:./saved")
    assert kept == list(range(len(kept)))
    restored = invoke("persistence", "restore", "saved", "back", "-o", "json")
    assert (restored.exit_code, json.loads(restored.stdout)["ok"]) == (0, True)
    assert numbers(invoke, f"{scheme}:./back") == kept
    assert (run.folder / "saved").stat().st_mode & 0o777 == 0o600


def test_r29_a_backup_of_a_database_is_made_by_sqlite_itself(
    invoke: Callable[..., Result], run: Runner, source: Path
) -> None:
    assert invoke("persistence", "copy", "a.ndjson", "sqlite:./f.db").exit_code == 0
    assert invoke("persistence", "backup", "f.db", "saved.db").exit_code == 0
    with (
        closing(sqlite3.connect(run.folder / "saved.db")) as saved,
        closing(sqlite3.connect(run.folder / "f.db")) as own,
    ):
        for statement in ("SELECT * FROM facts ORDER BY 1", "SELECT * FROM store"):
            assert saved.execute(statement).fetchall() == own.execute(statement).fetchall()
    refused = invoke("persistence", "restore", "a.ndjson", "sqlite:./f.db", "-o", "json")
    assert json.loads(refused.stdout)["copied"] == 0  # it holds just these records
    write(run.folder / "other", range(5))
    refused = invoke("persistence", "restore", "other", "sqlite:./f.db")
    assert (refused.exit_code, "Nothing was changed" in refused.stderr) == (1, True)


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_r29_a_killed_backup_leaves_no_store_and_is_made_up_for(
    invoke: Callable[..., Result], run: Runner, source: Path, command: str
) -> None:
    """A killed copy leaves its draft; `tests/cli/_copy_kills.py` kills it at each step."""
    draft = run.folder / ".saved.draft"
    draft.mkdir()
    write(draft / "saved", range(700))
    done = invoke("persistence", command, "a.ndjson", "json:./saved", "-o", "json")
    assert (done.exit_code, json.loads(done.stdout)["copied"]) == (0, 1201)
    assert not draft.exists()
    assert numbers(invoke, "json:./saved") == list(range(1200))


def test_r29_two_commands_do_not_make_one_store_at_once(
    invoke: Callable[..., Result], run: Runner, source: Path
) -> None:
    draft = run.folder / ".saved.draft"
    draft.mkdir()
    with (draft / ".busy").open("w") as busy:
        fcntl.flock(busy, fcntl.LOCK_EX)
        done = invoke("persistence", "backup", "a.ndjson", "json:./saved")
    assert (done.exit_code, "another command is making" in done.stderr) == (3, True)
    assert not (run.folder / "saved").exists()


def test_r29_a_store_that_was_moved_away_is_restored_over_its_old_lock(
    invoke: Callable[..., Result], run: Runner
) -> None:
    """The lock has notes of the old records, and a program may have it open."""
    argv = [sys.executable, "-c", WRITER.replace("100_000", "30"), "json:./live"]
    subprocess.run(argv, cwd=run.folder, env=run.environment, check=True, capture_output=True)
    assert invoke("persistence", "backup", "live", "saved").exit_code == 0
    lock = run.folder / "live.lock"
    inode = lock.stat().st_ino
    (run.folder / "live").rename(run.folder / "broken")
    assert invoke("persistence", "restore", "saved", "live").exit_code == 0
    assert lock.stat().st_ino == inode
    argv = [sys.executable, "-c", WRITER.replace("100_000", "5"), "json:./live"]
    subprocess.run(argv, cwd=run.folder, env=run.environment, check=True, capture_output=True)
    assert invoke("persistence", "scan", "--path", "live").exit_code == 0
    assert numbers(invoke, "json:./live") == [*range(30), *range(5)]


def test_r29_a_backup_of_a_set_is_laid_out_like_it(
    invoke: Callable[..., Result], run: Runner, source: Path
) -> None:
    url = "rotating:./set?max_bytes=20KB&max_files=50&max_records=1000"
    assert invoke("persistence", "copy", "a.ndjson", url.rpartition("&")[0]).exit_code == 0
    assert invoke("persistence", "backup", url, "saved").exit_code == 0
    assert sorted(run.folder.glob("saved.[0-9]*"))
    assert numbers(invoke, "rotating:./saved?max_files=50") == list(range(201, 1200))


def test_r29_a_set_that_is_named_by_its_path_is_backed_up_whole(
    invoke: Callable[..., Result], source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its options are not known, and it may be larger than a file of the default size."""
    assert (
        invoke("persistence", "copy", "a.ndjson", "rotating:./set?max_bytes=20KB&max_files=50").exit_code == 0
    )
    assert RotatingFilePersistence.__init__.__kwdefaults__["max_bytes"] > 1_000_000
    monkeypatch.setitem(RotatingFilePersistence.__init__.__kwdefaults__, "max_bytes", 5_000)
    for command, one, other in (("backup", "set", "saved"), ("restore", "saved", "again")):
        assert invoke("persistence", command, one, other).exit_code == 0
        assert numbers(invoke, f"json:./{other}") == list(range(1200))


@pytest.mark.sweep
def test_r17_r29_killed_at_each_step_and_run_again(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.cli._copy_kills", str(tmp_path)]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    steps = dict(line.rsplit(": ", 1) for line in done.stdout.splitlines())
    assert len(steps) == 6
    assert all(int(one.removesuffix(" steps")) >= 6 for one in steps.values())
