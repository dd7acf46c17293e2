"""Follows the registry: the changes that the stream republishes, and all of it again after a gap."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any, Final, cast

from papyra_contrib.cluster._transport import Change, Ended, Entry, Reset, Synced
from papyra_contrib.cluster.nats._client import NATS_ERRORS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from papyra_contrib.cluster.nats._bucket import Bucket
    from papyra_contrib.cluster.nats._client import Client, Message

__all__ = ["Follower"]

_logger = logging.getLogger("papyra")

PAGE_KEYS: Final = 256
PAGE_SECONDS: Final = 2.0
REPEAT_SECONDS: Final = 0.1
LAG_ATTEMPTS: Final = 5


class Follower:
    """Hands every change to ``hand_over``, in the order of revisions. Lives in the keeper's loop."""

    def __init__(
        self, client: Client, bucket: Bucket, cluster: str, hand_over: Callable[[Change], None]
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._subject = f"papyra.{cluster}.reg.>"
        self._hand_over = hand_over
        self._last: int | None = None
        self._ended: dict[str, int] = {}
        self._task: asyncio.Task[None] | None = None
        self._again = False
        self._highest = 0

    async def start(self) -> None:
        """Subscribe, then read the whole registry."""
        await self._client.subscribe(
            self._subject, cb=self._on_message, pending_msgs_limit=-1, pending_bytes_limit=-1
        )
        self.resync()

    def resync(self) -> None:
        """Read the whole registry again, also if a reading is under way."""
        self._last = None
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._read_all())
        else:
            self._again = True

    def stop(self) -> None:
        """End the reading."""
        if self._task is not None:
            self._task.cancel()

    async def _on_message(self, message: Message) -> None:
        headers = message.headers or {}
        revision = _revision(headers)
        if not revision:
            return
        expected = None if self._last is None else self._last + 1
        self._last = revision
        self._hand_on(headers, message.data, revision)
        if expected is not None and revision != expected:
            _logger.debug(
                "registry: revision %d came instead of %d; reading all of it again", revision, expected
            )
            self.resync()

    def _hand_on(self, headers: Mapping[str, str], data: bytes, revision: int) -> None:
        subject = headers.get("Nats-Subject", "")
        key = subject.removeprefix(self._bucket.prefix)
        if key == subject or revision < self._ended.get(key, 0):
            return
        if self._bucket.is_expired(key, headers.get("Nats-Time-Stamp", "")):
            return
        if "KV-Operation" in headers:
            self._ended[key] = revision
            self._hand_over(Ended(key, "left", revision))
        else:
            self._hand_over(Entry(key, data, revision))

    async def _read_all(self) -> None:
        attempts = 0
        while True:
            self._again = False
            self._highest = 0
            self._hand_over(Reset())
            try:
                newest = await self._newest()
                position = 1
                while position:
                    position = await self._page(position)
            except NATS_ERRORS as error:
                _logger.debug("registry: reading it failed: %s", error)
                await asyncio.sleep(REPEAT_SECONDS)
                continue
            attempts += 1
            # A replica that lacks the newest write may lack others as well.
            if self._highest < newest and attempts < LAG_ATTEMPTS and self._last is None:
                await asyncio.sleep(REPEAT_SECONDS)
                continue
            if not self._again:
                break
        self._hand_over(Synced())
        self._ended.clear()

    async def _newest(self) -> int:
        reply = await self._client.request(f"$JS.API.STREAM.INFO.{self._bucket.stream}", b"", PAGE_SECONDS)
        info = cast("dict[str, Any]", json.loads(reply.data))
        self._bucket.note_server_time(info)
        return int(cast("dict[str, Any]", info.get("state") or {}).get("last_seq", 0))

    async def _page(self, position: int) -> int:
        """Read a page. Return the position of the next one, 0 after the last.

        A page that does not end with the status 204 is incomplete: an `OSError` or a `TimeoutError`.
        """
        inbox = self._client.new_inbox()
        messages: asyncio.Queue[Message] = asyncio.Queue()

        async def keep(message: Message) -> None:
            messages.put_nowait(message)

        subscription = await self._client.subscribe(inbox, cb=keep)
        request = {"seq": position, "next_by_subj": f"{self._bucket.prefix}>", "batch": PAGE_KEYS}
        try:
            await self._client.publish(
                f"$JS.API.DIRECT.GET.{self._bucket.stream}", json.dumps(request).encode(), reply=inbox
            )
            last = 0
            while True:
                message = await asyncio.wait_for(messages.get(), PAGE_SECONDS)
                headers = message.headers or {}
                status = headers.get("Status", "")
                if status == "404":
                    return 0
                if status == "204":
                    left = headers.get("Nats-Num-Pending", "0")
                    return last + 1 if last and left != "0" else 0
                if status:
                    raise OSError(f"the page ended with the status {status}")
                last = _revision(headers)
                self._highest = max(self._highest, last)
                self._hand_on(headers, message.data, last)
        finally:
            await subscription.unsubscribe()


def _revision(headers: Mapping[str, str]) -> int:
    text = headers.get("Nats-Sequence", "")
    return int(text) if text.isascii() and text.isdecimal() else 0
