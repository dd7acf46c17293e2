"""Checks of the registry's keys: those in doubt, and those of incarnations that are gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import anyio

from papyra_contrib.cluster._errors import Conflict, TransportError
from papyra_contrib.cluster._transport import Ended

if TYPE_CHECKING:
    from papyra.cluster import Background
    from papyra_contrib.cluster._session import Session
    from papyra_contrib.cluster._transport import Entry

__all__ = ["Verifier"]

REPEAT_SECONDS: Final = 0.1


class Verifier:
    """Asks the leader for keys in doubt, and ends the keys that incarnations left behind."""

    def __init__(self, session: Session, background: Background) -> None:
        self._session = session
        self._background = background
        self._doubted: set[str] = set()

    def doubt(self, key: str) -> None:
        """Ask the leader for a key, in the background."""
        if key not in self._doubted and not self._session.closed:
            self._doubted.add(key)
            self._background.spawn(lambda: self._verify(key), f"papyra cluster asks for {key}")

    async def _verify(self, key: str) -> None:
        session = self._session
        replica, transport = session.replica, session.transport
        try:
            while not session.closed:
                cached = replica.entries.get(key)
                if cached is None:
                    return
                try:
                    stored = await transport.get(key)
                except TransportError:
                    await anyio.sleep(REPEAT_SECONDS)
                    continue
                if replica.revision(key) != cached.revision:
                    return  # it changed meanwhile, so there is no doubt any more
                if stored is None:
                    if session.is_valid() or session.lease is None:
                        session.on_change(Ended(key, "expired"))
                        return
                elif stored.revision != cached.revision:
                    session.on_change(stored)
                    return
                elif key[2:] not in replica.overdue(transport.lease_seconds, session.me.node):
                    return  # it exists: the earlier read was of a replica that lags
                await anyio.sleep(REPEAT_SECONDS)
        finally:
            self._doubted.discard(key)

    def clear_leftovers(self) -> None:
        """End claims and services of incarnations that are gone; the oldest member does it for all."""
        session = self._session
        leftovers = list(session.replica.leftovers())
        if leftovers and session.replica.oldest() == session.me.node:
            self._background.spawn(lambda: self._end_all(leftovers), "papyra cluster clears leftovers")

    async def _end_all(self, leftovers: list[Entry]) -> None:
        for entry in leftovers:
            try:
                await self._session.transport.end(entry.key, expect=entry.revision)
            except (Conflict, TransportError):
                continue  # the key has a new owner, or this node may not end it, or it tries again in ten seconds
