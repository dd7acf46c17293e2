"""Kill stores that rotate and compress: `python -m tests.json._packing_kills sweep|traced FOLDER ...`, as in
`_kills`.
"""

from __future__ import annotations

import gzip
import mmap
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import MutableSequence
from itertools import count
from pathlib import Path

from papyra.persistence.blocking import Work
from papyra_json import RotatingFilePersistence
from papyra_json._fileset.names import FileSet
from papyra_json._maintenance.operations import scan
from papyra_json._record.encode import encode
from papyra_json._segment.codec import codec_for
from papyra_json._write.appender import Appender

from ._compressed import compressed
from ._kills import exit_code, forked, trace
from ._records import make_event, numbered_line
from ._scenarios import DONE
from ._steps import CHANGING, Steps, die

MAX_FILES = 9
THERE = range(1, 7)  # in a full file, and in the base
RECORDS = range(7, 12)
MAX_BYTES = 3 * len(numbered_line(11)) + 9
SYSTEM_CALLS = ("openat", "write", "fsync", "ftruncate", "rename", "unlink", "flock", "fchmod")


class Case:
    """A set in a folder of its own, the work on it, and what must be found after it, wherever it ended."""

    def __init__(self, folder: str) -> None:
        self.path = Path(folder, "facts")
        self.path.parent.mkdir(parents=True)
        self.path.write_bytes(b"".join(map(numbered_line, THERE[3:])))
        self.path.with_name("facts.1").write_bytes(b"".join(map(numbered_line, THERE[:3])))
        self.outcomes = mmap.mmap(-1, mmap.PAGESIZE)
        self.scenario = self

    async def act(self, path: Path, outcomes: MutableSequence[int]) -> None:
        store = RotatingFilePersistence(path, max_bytes=MAX_BYTES, max_files=MAX_FILES, compress="gzip")
        for number in RECORDS:
            await store.record_event(make_event(number))
            outcomes[number] = DONE
        await compressed(path)
        await store.aclose()

    def work(self) -> None:
        """Do the same, one after the other: the files are compressed before the next record comes."""
        appender = self._appender()
        for number in RECORDS:
            assert appender.append(encode([make_event(number)], appender.next_seq)).records
            self.outcomes[number] = DONE
            self._wait(appender)
        appender.close()

    def _appender(self) -> Appender:
        files = FileSet(self.path, MAX_FILES)
        appender = Appender(files, sync_each=False, sync_later=False, max_bytes=MAX_BYTES)
        appender.compress_with(codec_for("gzip"))
        return appender

    @staticmethod
    def _wait(appender: Appender) -> None:
        assert appender._compressor is not None
        thread = appender._compressor._thread
        if thread is not None:
            thread.join()

    def check(self) -> None:
        done = [number for number in RECORDS if self.outcomes[number] == DONE]
        perhaps = [number for number in RECORDS if number not in done][:1]
        found = self._numbers()
        assert found in ([*THERE, *done], [*THERE, *done, *perhaps]), (found, done)
        appender = self._appender()
        assert appender.append(encode([make_event(99)], appender.next_seq)).records
        self._wait(appender)
        appender.close()
        assert self._numbers() == [*found, 99]
        assert scan(FileSet(self.path, MAX_FILES), "rotating", Work()).anomalies == ()
        names = {file.name for file in self.path.parent.iterdir()}
        assert all(re.fullmatch(r"facts(\.lock|\.\d\.gz|\.quarantine-.*)?", name) for name in names), names
        self.outcomes.close()

    def _numbers(self) -> list[int]:
        """Read the set without the code under test."""
        numbers: list[int] = []
        for number in reversed(range(MAX_FILES)):
            name = f"facts.{number}" if number else "facts"
            paths = [self.path.with_name(name + end) for end in ("", ".gz")]
            there = [path.read_bytes() for path in paths if path.exists()]
            assert len(there) <= 1, "never are both there"
            for content in there:
                text = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
                numbers += map(int, re.findall(rb'"number":(\d+)}[^\n]*"crc":"[0-9a-f]{8}"}\n', text))
        return numbers


def sweep(folder: str) -> None:
    """Kill before each call of `os` that changes something, and amid each write."""
    os.fsync = lambda fd: None  # as in _kills
    for step in count():
        case = Case(f"{folder}/{step}")

        def work(case: Case = case, step: int = step) -> None:
            Steps(setattr, CHANGING, step, die)
            case.work()

        code = exit_code(forked(work))
        assert code in (0, -signal.SIGKILL), f"step {step}: {code}"
        try:
            case.check()
        except BaseException:
            print(f"killed at step {step}")
            raise
        if code == 0:
            print(f"{step} steps")
            return


def traced(folder: str, strace: str) -> None:
    """Kill before each system call that changes something."""
    log = Path(folder, "log")
    case = Case(f"{folder}/all")
    assert trace(strace, case, f"--output={log}", f"--trace={','.join(SYSTEM_CALLS)}") == 0
    case.check()
    calls = Counter(re.findall(r"^(\d+) +(\w+)\(", log.read_text(), re.MULTILINE))
    kills = sorted({(call, at) for (_, call), most in calls.items() for at in range(1, most + 1)})
    for call, at in kills:
        case = Case(f"{folder}/{call}-{at}")
        code = trace(
            strace, case, "--output=/dev/null", f"--trace={call}", f"--inject={call}:signal=KILL:when={at}"
        )
        assert code in (0, -signal.SIGKILL), (call, at, code)  # how often a thread waits is a matter of luck
        try:
            case.check()
        except BaseException:
            print(f"killed at the call {call} number {at}")
            raise
    print(f"{len(kills)} system calls")


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
