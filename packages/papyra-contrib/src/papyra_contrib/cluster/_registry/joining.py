"""Claim the lease of a node, also after a predecessor with the same name."""

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
    from papyra_contrib.cluster._transport import Entry, Lease, NodeId, Transport

__all__ = ["IncarnationSpentError", "claim_membership"]

REPEAT_SECONDS: Final = 0.1


class IncarnationSpentError(ClusterUnavailable):
    """Others may have seen this incarnation expire, and would ignore it: join under another one."""


async def claim_membership(transport: Transport, me: NodeId, seconds: float, former: str | None) -> Lease:
    """Claim the lease of this node; `TimeoutError` after ``seconds`` and a lease.

    Wait for the lease of a crashed predecessor to end; if it is renewed, raise `NodeNameTaken`. The lease of
    ``former``, the previous incarnation of this node, is ended at once. An attempt without an answer may
    have succeeded; after the time of a lease its key may have expired: that is an `IncarnationSpentError`.
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
            continue  # if the request was done, the next attempt takes the lease over
        else:
            if anyio.current_time() < spent:
                return lease
            continue
        try:
            stored = await transport.get(key)
            if stored is None:
                continue
            if read_incarnation(stored.value) == me.incarnation:
                continue  # an attempt has just succeeded, and the next one takes it over
            if read_incarnation(stored.value) == former:
                await transport.end(key, expect=stored.revision)
                continue
        except (Conflict, TransportError):
            continue
        if seen is not None and stored.revision != seen.revision:
            raise NodeNameTaken(me.node, f"incarnation {read_incarnation(stored.value)}")
        seen = stored  # a node that crashed: its lease ends soon
        await anyio.sleep(REPEAT_SECONDS)
