"""Claim the lease of a node, also over that of a predecessor."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Final

import anyio

from papyra import __version__
from papyra_contrib.cluster._errors import Conflict, NodeNameTaken, TransportError
from papyra_contrib.cluster._keys import node_key
from papyra_contrib.cluster._members import member_value, read_incarnation

if TYPE_CHECKING:
    from papyra_contrib.cluster._port import Entry, Lease, NodeId, Transport

__all__ = ["claim_membership"]

REPEAT_SECONDS: Final = 0.1


async def claim_membership(transport: Transport, me: NodeId, seconds: float, former: str | None) -> Lease:
    """Claim the lease of this node; `TimeoutError` after ``seconds`` and a lease.

    A crashed predecessor is waited for; if it renews its lease, that is a `NodeNameTaken`. The lease of
    ``former``, the incarnation before of this very node, is ended at once.
    """
    key, ttl = node_key(me.node), transport.lease_seconds
    value = member_value(me, time.time(), socket.gethostname(), os.getpid(), __version__)
    deadline = anyio.current_time() + seconds + ttl
    seen: Entry | None = None
    while True:
        if anyio.current_time() > deadline:
            raise TimeoutError
        try:
            return await transport.hold(key, value, ttl)
        except Conflict:
            pass
        except TransportError:
            await anyio.sleep(REPEAT_SECONDS)
        try:
            found = await transport.get(key)
            if found is None:
                continue
            if read_incarnation(found.value) == former:
                await transport.end(key, expect=found.revision)
                continue
        except (Conflict, TransportError):
            continue
        if seen is not None and found.revision != seen.revision:
            raise NodeNameTaken(me.node, f"incarnation {read_incarnation(found.value)}")
        seen = found  # a node that crashed: its lease ends soon
        await anyio.sleep(REPEAT_SECONDS)
