"""Whether a server can keep a store: its version, its mode, its settings, and a trial record."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING

from papyra.exceptions import PersistenceError

if TYPE_CHECKING:
    from papyra_contrib.redis._connection import Server

__all__ = ["check_server", "probe"]

OLDEST_VERSION = (6, 2)

# What a batch does, on a key that is gone before another client can see it.
_PROBE = """
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'none' and kind ~= 'stream' then
  return redis.error_reply('WRONGTYPE the key of the stream holds a ' .. kind)
end
redis.call('XADD', KEYS[2], '*', 'probe', '')
return redis.call('DEL', KEYS[2])
"""


def check_server(server: Server) -> tuple[str, ...]:
    """Raise unless the server is one that can keep a store; return warnings of its settings.

    A user that may not call INFO gets no check.
    """
    try:
        reply: bytes = server.call("INFO")
    except PersistenceError as error:
        if server.code_of(error) == "NOPERM":
            return ()
        raise
    lines = (line.partition(":") for line in reply.decode(errors="replace").splitlines())
    facts = {name: value for name, _, value in lines}
    _check_mode(server, facts.get("server_mode") or facts.get("redis_mode", ""))  # Valkey has the first
    _check_version(server, facts.get("redis_version", ""))
    policy = facts.get("maxmemory_policy", "")
    if not policy.startswith("allkeys-"):
        return ()
    warning = (
        f"Redis at {server.name} has maxmemory-policy {policy}: it deletes the whole record when its memory is full. "
        "Set noeviction, or a volatile- policy."
    )
    return (warning,)


def _check_mode(server: Server, mode: str) -> None:
    if mode == "cluster":
        raise PersistenceError(
            f"Redis at {server.name} is a node of a cluster, and a store needs a server of its own. Name a server that "
            "is not in cluster mode.",
            retry=False,
        )
    if mode == "sentinel":
        raise PersistenceError(
            f"Redis at {server.name} is a Sentinel, which keeps no data. Name the master that it watches.",
            retry=False,
        )


def _check_version(server: Server, version: str) -> None:
    match = re.match(r"(\d+)\.(\d+)", version)
    if match and (int(match[1]), int(match[2])) < OLDEST_VERSION:
        raise PersistenceError(
            f"Redis at {server.name} has version {version}, and a store needs 6.2 or newer. Update the server.",
            retry=False,
        )


def probe(server: Server, stream: str) -> None:
    """Raise unless a record could be written now; nothing is left behind."""
    server.call("EVAL", _PROBE, 2, stream, f"{stream}:probe:{secrets.token_hex(4)}")
