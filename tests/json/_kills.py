"""Programs that do the work of a scenario again and again, and kill it: `python -m tests.json._kills
sweep|traced|instants ...`.

They fork once a case, which is far cheaper than to start Python as often; the process that forks has no
threads. Acknowledged numbers are in memory that both share.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import random
import re
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

import anyio
import anyio._backends._asyncio  # here, and not in every child

from papyra_json._file_persistence import FilePersistence

from ._records import make_event
from ._scenarios import SCENARIOS, Scenario, plain_numbers
from ._steps import CHANGING, Steps, die

_PR_SET_PTRACER = 0x59616D61

CHANGING_CALLS = (
    "openat", "write", "pwrite64", "writev", "fsync", "fdatasync", "ftruncate", "rename", "renameat", "renameat2",
    "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir", "link", "linkat", "flock", "fchmod", "fchown",
    "copy_file_range", "sendfile",
)  # fmt: skip
FAILING_CALLS = (
    "write",
    "pread64",
    "fsync",
    "ftruncate",
    "rename",
    "unlink",
)  # where Python itself calls none


def forked(work: Callable[[], object]) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return child


def exit_code(child: int) -> int:
    """Wait for a process; the code of one that was killed is negative."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Case:
    """A scenario in a folder of its own."""

    def __init__(self, name: str, folder: str) -> None:
        self.scenario = SCENARIOS[name]
        self.path = Path(folder, "facts")
        self.scenario.prepare(self.path)
        self.outcomes = mmap.mmap(-1, mmap.PAGESIZE)

    def check(self, *words: object) -> None:
        try:
            self.scenario.check(self.path, self.outcomes[:100])
        except BaseException:
            print(*words)
            raise
        finally:
            self.outcomes.close()


def sweep(folder: str) -> None:
    """Kill the work of each scenario before each of its calls that change something, and amid each write."""
    os.fsync = lambda fd: (
        None
    )  # what is done outlives a process without it; test_faults_power is about the rest
    for name in SCENARIOS:
        for step in count():
            case = Case(name, f"{folder}/{name}/{step}")

            def work(case: Case = case, step: int = step) -> None:
                Steps(setattr, CHANGING, step, die)
                case.scenario.work(case.path, case.outcomes)

            code = exit_code(forked(work))
            assert code in (0, -signal.SIGKILL)
            case.check(f"{name}: killed at step {step}")
            if code == 0:
                print(f"{name}: {step} steps")
                break


def traced(folder: str, strace: str, happening: str, every: str) -> None:
    """Have something happen to stores at each system call that matters, or at every third of them.

    That is at the n-th of a kind in a thread, for every n.
    """
    kill = happening == "signal=KILL"
    names = ("torn tail", "rotation, synced", "compact a set", "quarantine of a set")
    calls = ",".join(f"?{call}" for call in (CHANGING_CALLS if kill else FAILING_CALLS))
    for name in names if kill else names[:2]:
        log = Path(folder, f"{name}.log")
        case = Case(name, f"{folder}/{name}/all")
        assert trace(strace, case, f"--output={log}", f"--trace={calls}") == 0
        case.check(f"{name}: traced")
        most = Counter(re.findall(r"^(\d+) +(\w+)\(", log.read_text(), re.MULTILINE))
        steps = sorted({(call, at) for (_, call), count in most.items() for at in range(1, count + 1)})
        steps = steps[:: int(every)]
        killed = 0
        for call, at in steps:
            case = Case(name, f"{folder}/{name}/{call}-{at}")
            inject = f"--inject={call}:{happening}:when={at}"
            code = trace(strace, case, "--output=/dev/null", f"--trace={call}", inject)
            # Which thread does what is not the same each time, nor how often one waits.
            assert code in ((0, -signal.SIGKILL) if kill else (0,)), (name, call, at, code)
            killed += code != 0
            case.check(f"{name}: {happening} at the call {call} number {at}")
        assert not kill or killed > len(steps) / 2, "hardly any was killed"
        print(f"{name}: {len(steps)} system calls")


def trace(strace: str, case: Case, *options: str) -> int:
    """Do the work of a case under strace, which takes hold of a process that waits for it."""
    ready, go = os.pipe()

    def work() -> None:
        # Where Yama guards processes, one must say that it may be traced by who is not its parent.
        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_long(-1), 0, 0, 0)
        case.outcomes[-1] = 1
        os.read(ready, 1)
        anyio.run(case.scenario.act, case.path, case.outcomes)

    child = forked(work)
    while not case.outcomes[-1]:
        time.sleep(0.0005)
    tracer = _attached([strace, "-f", "-qq", *options, "-p", str(child)], child)
    os.write(go, b".")
    code = exit_code(child)
    os.close(ready)
    os.close(go)
    tracer.communicate()
    return code


def _attached(command: list[str], child: int) -> subprocess.Popen[bytes]:
    """Start a tracer and wait until it has the child; a busy machine may refuse it a process of its own."""
    status = Path(f"/proc/{child}/status")
    said = b""
    for _ in range(3):
        tracer = subprocess.Popen(command, stderr=subprocess.PIPE)
        while tracer.poll() is None:
            if "TracerPid:\t0\n" not in status.read_text():
                return tracer
            time.sleep(0.001)
        said += tracer.communicate()[1]
    os.kill(child, signal.SIGKILL)
    exit_code(child)
    sys.exit(f"no tracing: {said.decode()}")


def instants(folder: str, kills: str) -> None:
    """Kill writers at any instant, one after the other on one set; each acknowledges what it has stored."""
    for kind, scenario in {
        "a file": Scenario(),
        "a set": Scenario(max_files=1000, max_bytes=2000, durability="always"),
        "a file under compaction": Scenario(keep=50),
    }.items():
        path = Path(folder, kind, "facts")
        written: list[int] = []
        for run in range(int(kills)):
            acknowledged = _write_and_die(scenario.store(path), run, random.Random(run))
            found = plain_numbers(path, scenario.max_files)
            stored = max(0, found[-1] + 1 - run * 10**6) if found else 0
            assert acknowledged <= stored <= acknowledged + 5, "perhaps with the batch at work"
            written += range(run * 10**6, run * 10**6 + stored)
            assert found == written[len(written) - len(found) :]
            assert len(found) == len(written) or len(found) >= (scenario.keep or len(written))
        anyio.run(_go_on, scenario.store(path))
        print(f"{kind}: {len(written)} records")


def _write_and_die(store: FilePersistence, run: int, chance: random.Random) -> int:
    """Kill a writer at some instant and return how many records it had acknowledged."""
    shared = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")
    writer = forked(partial(anyio.run, _write_on, store, run, shared))
    enough = chance.randrange(40)
    while shared[0] < enough:
        time.sleep(0.0005)
    time.sleep(chance.random() * 0.003)
    os.kill(writer, signal.SIGKILL)
    assert exit_code(writer) == -signal.SIGKILL
    return shared[0]


async def _write_on(store: FilePersistence, run: int, shared: memoryview) -> None:
    async def compact() -> None:
        while True:
            await store.compact()

    async with anyio.create_task_group() as group:
        if store.retention.max_records is not None:
            group.start_soon(compact)
        for batch in count():
            first = run * 10**6 + shared[0]
            await store.record_batch([make_event(first + number) for number in range(batch % 5 + 1)])
            shared[0] += batch % 5 + 1


async def _go_on(store: FilePersistence) -> None:
    await store.record_event(make_event(0))
    assert not (await store.scan()).has_anomalies
    await store.aclose()


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
