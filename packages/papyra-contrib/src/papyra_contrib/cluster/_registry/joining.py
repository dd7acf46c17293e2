"""Claim the lease of a node, also over that of a predecessor."""

from __future__ import annotations

import math
import os
import socket
from typing import TYPE_CHECKING, Final

import anyio

from papyra import __version__
from papyra_contrib.cluster._errors import ClusterUnavailable, Conflict, NodeNameTaken, TransportError
from papyra_contrib.cluster._registry.keys import node_key
from papyra_contrib.cluster._registry.members import member_value, read_incarnation

if TYPE_CHECKING:
    from papyra_contrib.cluster._port import Entry, Lease, NodeId, Transport

__all__ = ["IncarnationSpentError", "claim_membership"]

REPEAT_SECONDS: Final = 0.1


class IncarnationSpentError(ClusterUnavailable):
    """Others may have seen this incarnation expire, and would ignore it: join under another one."""


async def claim_membership(transport: Transport, me: NodeId, seconds: float, former: str | None) -> Lease:
    """Claim the lease of this node; `TimeoutError` after ``seconds`` and a lease.

    A crashed predecessor is waited for; if it renews its lease, that is a `NodeNameTaken`. The lease of
    ``former``, the incarnation before of this very node, is ended at once. An attempt without an answer may
    have succeeded. After the time of a lease its key may have expired: that is an `IncarnationSpentError`.
    """
    key, ttl = node_key(me.node), transport.lease_seconds
    value = member_value(me, transport.unix_time(), socket.gethostname(), os.getpid(), __version__)
    deadline = anyio.current_time() + seconds + ttl
    seen: Entry | None = None
    spent = math.inf
    while True:
        began = anyio.current_time()
        if began > deadline:
            raise TimeoutError
        if began >= spent:
            raise IncarnationSpentError(f"the registry did not answer whether {me} is a member")
        try:
            lease = await transport.hold(key, value, ttl)
        except Conflict:
            pass
        except TransportError:
            spent = min(spent, began + ttl)
            await anyio.sleep(REPEAT_SECONDS)
            continue  # if it was done, the next attempt takes it over
        else:
            if anyio.current_time() < spent:
                return lease
            continue
        try:
            found = await transport.get(key)
            if found is None:
                continue
            if read_incarnation(found.value) == me.incarnation:
                continue  # an attempt has just succeeded, and the next one takes it over
            if read_incarnation(found.value) == former:
                await transport.end(key, expect=found.revision)
                continue
        except (Conflict, TransportError):
            continue
        if seen is not None and found.revision != seen.revision:
            raise NodeNameTaken(me.node, f"incarnation {read_incarnation(found.value)}")
        seen = found  # a node that crashed: its lease ends soon
        await anyio.sleep(REPEAT_SECONDS)
