"""Group commit: one thread appends all waiting batches with one write, then wakes their callers.

The idea comes from the write-ahead logs of databases (DeWitt et al., 1984). While one group is written, the
next one gathers, so all waiting callers share the cost of a write or sync.
"""

from __future__ import annotations

import math
import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Literal

import anyio
import anyio.to_thread

from papyra.exceptions import PartialWriteError, PersistenceError
from papyra.persistence.files import failed_write
from papyra_json._record.encode import encode
from papyra_json._record.time_range import times_of
from papyra_json._write.appender import Appended
from papyra_json._write.wakeup import new_waiter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from papyra.persistence.metrics import PersistenceMetrics
    from papyra.persistence.models import PersistedRecord
    from papyra_json._write.appender import Appender
    from papyra_json._write.wakeup import Call, Waiter

__all__ = ["Committer"]

GROUP_RECORDS = 20_000  # a group takes no more batches after this many records, to bound its memory


@dataclass(slots=True, eq=False)
class _Request:
    """A request of a caller, and its error if it failed. Without a waiter, no caller waits for it."""

    action: Literal["store", "sync", "stop"]
    records: Sequence[PersistedRecord] = ()
    waiter: Waiter | None = None
    error: Exception | None = None


class Committer:
    """A queue of requests to an appender. A thread serves it, started by the first record."""

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

    async def store(self, records: Sequence[PersistedRecord]) -> None:
        """Return once the records are stored.

        If the caller is cancelled, they are still stored, or fail, as a whole.
        """
        await self._ask("store", records)

    async def sync(self) -> None:
        """Return once all records stored so far are on the disk."""
        if self._thread is not None:
            await self._ask("sync")

    async def close(self) -> None:
        """Store the waiting batches, sync them if durability asks for it, and end the thread.

        A cancelled scope does not interrupt it. It waits for the lock until the deadline of the caller's
        scope, if that is in the future.
        """
        if self._thread is None or self._process != os.getpid():
            return
        left = anyio.current_effective_deadline() - anyio.current_time()
        with anyio.CancelScope(shield=True):
            try:
                if not self._stopping:
                    self._stopping = True
                    self._appender.hurry(left if left > 0 else math.inf)
                    await self._ask("stop")
            except BaseException:
                self.abandon()  # the request may not have reached the queue
                raise
            finally:
                await anyio.to_thread.run_sync(self._thread.join)

    def abandon(self) -> None:
        """End the thread after its work, without waiting for it."""
        if self._thread is not None:
            self._queue.put(_Request("stop"))

    async def _ask(
        self, action: Literal["store", "sync", "stop"], records: Sequence[PersistedRecord] = ()
    ) -> None:
        self._start()
        waiter = new_waiter()
        request = _Request(action, records, waiter)
        self._queue.put(request)
        await waiter.wait()
        if request.error is not None:
            raise request.error

    def _start(self) -> None:
        if self._thread is None:
            self._process = os.getpid()
            # A daemon thread: a program that forgot aclose() must be able to end. Acknowledged records are
            # written.
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        elif self._process != os.getpid():
            raise PersistenceError(
                f"{self._name} was opened before this process was forked. Open the store again in the child."
            )

    # -- in the thread

    def _run(self) -> None:
        while True:
            group, last = self._next_group()
            if group:
                self._commit(group)
            if last is not None:
                last.error = self._sync()
                if last.action == "stop":
                    self._appender.close()
                _wake([last])
                if last.action == "stop":
                    return
            elif self._sync_at is not None and monotonic() >= self._sync_at:
                self._sync()

    def _next_group(self) -> tuple[list[_Request], _Request | None]:
        """Return the waiting batches, and the request of another kind that ended the group, if any."""
        group: list[_Request] = []
        size = 0
        request = self._wait()
        while request is not None and request.action == "store":
            group.append(request)
            size += len(request.records)
            if size >= GROUP_RECORDS or self._queue.empty():
                return group, None
            request = self._queue.get()  # returns at once because no other thread takes requests
        return group, request

    def _wait(self) -> _Request | None:
        """Wait for a request, or until the time of the next sync."""
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
        except Exception as error:  # noqa: BLE001 - the thread must continue; the caller of the sync gets the error
            self._metrics.write_errors += 1
            if self._sync_interval is not None:
                self._sync_at = monotonic() + self._sync_interval
            failure = PersistenceError(f"{self._name} could not be synced: {error}")
            failure.__cause__ = error
            return failure
        return None

    def _commit(self, group: list[_Request]) -> None:
        """Append the records of a group, and set the error of each request that failed."""
        lines: list[bytes] = []
        stored: list[Sequence[PersistedRecord]] = []
        ends: list[int] = []
        for request in group:
            try:
                records = tuple(request.records)  # a caller that was cancelled may change its list
                lines += encode(records, self._appender.next_seq + len(lines))
                stored.append(records)
            except Exception as error:  # noqa: BLE001 - an invalid record fails its own batch only
                request.error = error
            except BaseException as error:  # noqa: BLE001 - raised by a payload's repr, it must not end this thread
                request.error = PersistenceError(f"a record could not be encoded: {error!r}")
            ends.append(len(lines))
        times = times_of(stored[0] if len(stored) == 1 else list(chain.from_iterable(stored)), lines)
        appended = self._appender.append(lines, times) if lines else Appended()
        metrics = self._metrics
        metrics.records_written += appended.records
        metrics.bytes_written += appended.size
        if appended.records < len(lines) or len(stored) < len(group):
            self._set_errors(group, ends, appended)
        if self._sync_interval is not None and self._sync_at is None and self._appender.dirty:
            self._sync_at = monotonic() + self._sync_interval
        _wake(group)

    def _set_errors(self, group: list[_Request], ends: list[int], appended: Appended) -> None:
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
        error = appended.error
        count = "a record" if total == 1 else f"{total} records"
        text = f"{count} could not be written to {self._name}: {error}"
        cause = error.__cause__ if isinstance(error, PersistenceError) else error
        failure = failed_write(text, cause) if isinstance(cause, OSError) else PersistenceError(text)
        if stored:
            failure = PartialWriteError(failed, total, retry=failure.retry is True)
        failure.__cause__ = error
        return failure


def _wake(requests: Sequence[_Request]) -> None:
    """Wake the callers with one call into each of their event loops."""
    loops: dict[Call, list[Waiter]] = {}
    for request in requests:
        if request.waiter is not None:
            loops.setdefault(request.waiter.call, []).append(request.waiter)
    for call, waiters in loops.items():
        with suppress(RuntimeError):  # its loop is closed, so no caller waits any more
            call(waiters[0].wake if len(waiters) == 1 else partial(_wake_all, waiters))


def _wake_all(waiters: Sequence[Waiter]) -> None:
    for waiter in waiters:
        waiter.wake()
