"""Group commit: one thread appends, in one go, all that waits; then the callers go on.

The idea is that of databases' write-ahead logs (DeWitt et al., 1984): while one group is written, the next one gathers,
so that the cost of a write or sync is shared by as many callers as there are.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from math import inf
from queue import Empty, SimpleQueue
from time import monotonic, thread_time
from typing import TYPE_CHECKING, Literal

import anyio
import anyio.lowlevel
import anyio.to_thread

from papyra.exceptions import PartialWriteError, PersistenceError
from papyra_json._record.encode import encode
from papyra_json._record.time_range import times_of
from papyra_json._write.appender import Appended
from papyra_json._write.spinning import Spinner, calibrate
from papyra_json._write.wakeup import current_task, new_waiter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from papyra.persistence.metrics import PersistenceMetrics
    from papyra.persistence.models import PersistedRecord
    from papyra_json._write.appender import Appender
    from papyra_json._write.wakeup import Call, Waiter

__all__ = ["Committer"]

_GROUP = 20_000  # records after which a group takes no more batches, to bound its memory


@dataclass(slots=True, eq=False)
class _Request:
    """What is to be done, and how its caller waits, if it does; then when it was done, and why it could not be."""

    what: Literal["store", "sync", "stop"]
    records: Sequence[PersistedRecord] = ()
    waiter: Waiter | None = None
    done_at: float = -inf
    error: Exception | None = None

    def is_done(self) -> bool:
        return self.done_at > -inf


class Committer:
    """The queue before an appender, and the thread that serves it from the first record on."""

    def __init__(
        self, appender: Appender, metrics: PersistenceMetrics, name: str, sync_interval: float | None
    ) -> None:
        self._appender = appender
        self._metrics = metrics
        self._name = name
        self._sync_interval = sync_interval
        self._sync_at: float | None = None
        self._queue: SimpleQueue[_Request] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._process = 0
        self._stopping = False
        self._spinner = Spinner()
        self._spun = False  # whether the caller of the last group has spun, and may soon be back

    async def store(self, records: Sequence[PersistedRecord]) -> None:
        """Return once the records are stored; a caller that is cancelled leaves them to be stored or to fail."""
        await self._ask("store", records)

    async def sync(self) -> None:
        """Return once all that was stored before is on the disk."""
        if self._thread is not None:
            await self._ask("sync")

    async def close(self) -> None:
        """Store what waits, sync it if that was asked for, and end the thread; a cancelled scope can't stop this."""
        if self._thread is None or self._process != os.getpid():
            return
        with anyio.CancelScope(shield=True):
            try:
                if not self._stopping:
                    self._stopping = True
                    self._appender.hurry()
                    await self._ask("stop")
            except BaseException:
                self.abandon()  # it may not have come so far as to be asked
                raise
            finally:
                await anyio.to_thread.run_sync(self._thread.join)

    def abandon(self) -> None:
        """Let the thread end after its work, though nobody waits for it."""
        if self._thread is not None:
            self._queue.put(_Request("stop"))

    async def _ask(
        self, what: Literal["store", "sync", "stop"], records: Sequence[PersistedRecord] = ()
    ) -> None:
        self._start()
        task, request = current_task(), _Request(what, records)
        if len(records) == 1 and self._spinner.suits(task) and not self._is_asked():
            self._queue.put(request)
            handed = monotonic()
            await anyio.lowlevel.checkpoint()  # the loop does what else there is, while the thread wakes up
            if not self._spinner.spin(request.is_done, monotonic() - handed):
                request.waiter = new_waiter()
                if not request.is_done():  # asked again, now that the thread would see the waiter
                    await request.waiter.wait()
        else:
            request.waiter = new_waiter()
            began, worked = monotonic(), thread_time()
            self._queue.put(request)
            await request.waiter.wait()
            if len(records) == 1:
                busy = (thread_time() - worked) / max(monotonic() - began, 0.000001)
                self._spinner.waited(task, request.done_at - began, busy)
        if request.error is not None:
            raise request.error

    def _start(self) -> None:
        if self._thread is None:
            self._process = os.getpid()
            # A daemon: a program that forgot aclose() must be able to end; what was acknowledged is written.
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        elif self._process != os.getpid():
            raise PersistenceError(f"{self._name} was opened before this process was forked; open it anew")

    # -- in the thread

    def _run(self) -> None:
        calibrate()
        while True:
            group, last = self._next_group()
            if group:
                self._commit(group)
            if last is not None:
                last.error = self._sync()
                if last.what == "stop":
                    self._appender.close()
                _wake([last])
                if last.what == "stop":
                    return
            elif self._sync_at is not None and monotonic() >= self._sync_at:
                self._sync()

    def _next_group(self) -> tuple[list[_Request], _Request | None]:
        """Return the batches that wait, and the request of another kind that ended them, if one did."""
        group: list[_Request] = []
        size = 0
        request = self._wait()
        while request is not None and request.what == "store":
            group.append(request)
            size += len(request.records)
            if size >= _GROUP or not self._is_asked():
                return group, None
            request = self._queue.get()  # at once, for nobody else takes anything out
        return group, request

    def _is_asked(self) -> bool:
        return not self._queue.empty()

    def _wait(self) -> _Request | None:
        """Wait for a request, or for the time of the next sync."""
        if not self._spun:
            return self._sleep()
        self._spun = False
        question = self._spinner.question
        if question.pays():
            question.until(self._is_asked)
            return self._sleep()
        began = monotonic()
        request = self._sleep()
        question.learn(monotonic() - began)
        return request

    def _sleep(self) -> _Request | None:
        if self._sync_at is None:
            return self._queue.get()
        try:
            return self._queue.get(timeout=max(0.0, self._sync_at - monotonic()))
        except Empty:
            return None

    def _sync(self) -> PersistenceError | None:
        self._sync_at = None
        try:
            self._appender.sync()
        except Exception as error:  # noqa: BLE001 - the thread must live on; who waits for the sync hears of it
            self._metrics.write_errors += 1
            if self._sync_interval is not None:
                self._sync_at = monotonic() + self._sync_interval
            failure = PersistenceError(f"{self._name} could not be synced: {error}")
            failure.__cause__ = error
            return failure
        return None

    def _commit(self, group: list[_Request]) -> None:
        """Append the records of a group and tell each caller what became of its own."""
        lines: list[bytes] = []
        stored: list[Sequence[PersistedRecord]] = []
        ends: list[int] = []
        for request in group:
            try:
                records = tuple(request.records)  # a caller that was cancelled may change its list
                lines += encode(records, self._appender.next_seq + len(lines))
                stored.append(records)
            except Exception as error:  # noqa: BLE001 - what is no record fails its own batch, not the others
                request.error = error
            except BaseException as error:  # noqa: BLE001 - raised by a payload's repr, it must not end this thread
                request.error = PersistenceError(f"a record could not be laid out: {error!r}")
            ends.append(len(lines))
        times = times_of(stored[0] if len(stored) == 1 else list(chain.from_iterable(stored)), lines)
        appended = self._appender.append(lines, times) if lines else Appended()
        metrics = self._metrics
        metrics.records_written += appended.records
        metrics.bytes_written += appended.size
        if appended.records < len(lines) or len(stored) < len(group):
            self._tell_failures(group, ends, appended)
        if self._sync_interval is not None and self._sync_at is None and self._appender.dirty:
            self._sync_at = monotonic() + self._sync_interval
        _wake(group)
        self._spun = len(group) == 1 and group[0].waiter is None

    def _tell_failures(self, group: list[_Request], ends: list[int], appended: Appended) -> None:
        start = 0
        for request, end in zip(group, ends, strict=True):
            if request.error is None and end > appended.records:
                request.error = self._failure(appended, start, end)
            if request.error is not None:
                self._metrics.write_errors += 1
            start = end

    def _failure(self, appended: Appended, start: int, end: int) -> PersistenceError:
        stored = max(0, appended.records - start)
        failed, total = end - start - stored, end - start
        if stored:
            failure: PersistenceError = PartialWriteError(failed, total)
        else:
            what = "a record" if total == 1 else f"{total} records"
            failure = PersistenceError(f"{what} could not be written to {self._name}: {appended.error}")
        failure.__cause__ = appended.error
        return failure


def _wake(requests: Sequence[_Request]) -> None:
    """Let the callers go on, with one call into each of their loops."""
    loops: dict[Call, list[Waiter]] = {}
    for request in requests:
        request.done_at = monotonic()
        if request.waiter is not None:
            loops.setdefault(request.waiter.call, []).append(request.waiter)
    for call, waiters in loops.items():
        with suppress(RuntimeError):  # its loop is closed: nobody waits any more
            call(waiters[0].wake if len(waiters) == 1 else partial(_wake_all, waiters))


def _wake_all(waiters: Sequence[Waiter]) -> None:
    for waiter in waiters:
        waiter.wake()
