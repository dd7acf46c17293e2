"""Batches of records, each stored as a whole and once, also if it is offered again."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from papyra_contrib.redis._connection import Argument, Server

__all__ = ["add_batch", "batches_key", "forget_old_runs"]

RUN_KEPT_SECONDS = 86_400
SCAN_ROWS = 500

# A script is atomic, and the server replicates and logs what it did as one transaction. It refuses a script
# that writes while memory is full at the first XADD, so before anything was stored. HGET comes first because
# it fails, with nothing done, if the key belongs to another program. For each run, the hash has the time and
# the last batch id.
_ADD = """
local run, id = ARGV[1], ARGV[2]
if id ~= '' then
  local last = redis.call('HGET', KEYS[2], run)
  if last and string.match(last, '^%d+ (.*)$') == id then return 0 end
end
local place = 3
while place <= #ARGV do
  local last = place + tonumber(ARGV[place])
  redis.call('XADD', KEYS[1], '*', unpack(ARGV, place + 1, last))
  place = last + 1
end
if id ~= '' then redis.call('HSET', KEYS[2], run, redis.call('TIME')[1] .. ' ' .. id) end
return 1
"""

# A run whose id was replaced meanwhile is kept.
_FORGET = """
local removed = 0
for place = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[place]) == ARGV[place + 1] then
    removed = removed + redis.call('HDEL', KEYS[1], ARGV[place])
  end
end
return removed
"""


def batches_key(stream: str) -> str:
    """Return the key of the hash with the last batch id of each run."""
    return f"{stream}:batches"


def add_batch(server: Server, stream: str, entries: Iterable[list[Argument]], batch_id: str | None) -> bool:
    """Store the entries and note the id; return False if the last batch of its run had this id."""
    arguments: list[Argument] = [(batch_id or "").rpartition(":")[0], batch_id or ""]
    for fields in entries:
        arguments += [len(fields), *fields]
    return bool(server.call("EVAL", _ADD, 2, stream, batches_key(stream), *arguments))


def forget_old_runs(server: Server, stream: str) -> None:
    """Delete the batch ids of the runs that have stored nothing for a day."""
    key = batches_key(stream)
    oldest = int(server.call("TIME")[0]) - RUN_KEPT_SECONDS
    cursor = b"0"
    while True:
        cursor, fields = server.call("HSCAN", key, cursor, "COUNT", SCAN_ROWS)
        pairs = zip(fields[::2], fields[1::2], strict=True)
        old = [
            part for run, value in pairs if int(value.partition(b" ")[0]) < oldest for part in (run, value)
        ]
        if old:
            server.call("EVAL", _FORGET, 1, key, *old)
        if cursor == b"0":
            return
