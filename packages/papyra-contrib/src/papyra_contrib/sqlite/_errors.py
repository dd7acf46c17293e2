"""What SQLite's errors tell of: the database, the machine, or other programs; and what can be done."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["DAMAGE", "FAILED_SYNC", "HARMLESS", "explain", "is_damage", "primary_code"]

# After these a connection is as good as before; after any other a new one is opened, should its cache be wrong.
HARMLESS = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_INTERRUPT})
DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_NO_LEAVE = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM})
FAILED_SYNC = frozenset({sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC})

# What the machine or other programs cause: no file descriptor left, no memory, no room, no leave.
_CIRCUMSTANCES = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
    }
)


def explain(error: sqlite3.Error, path: Path) -> str:
    """Return a text that says what happened to which database, and what can be done."""
    hints = {
        sqlite3.SQLITE_BUSY: "another program keeps it locked; give a longer busy_timeout or find that program",
        sqlite3.SQLITE_FULL: "the disk is full; writing works again once there is room",
        sqlite3.SQLITE_CORRUPT: "`papyra persistence scan` tells the damage, `papyra persistence recover` repairs it",
        sqlite3.SQLITE_NOTADB: "`papyra persistence scan` tells the damage, `papyra persistence recover` repairs it",
        sqlite3.SQLITE_CANTOPEN: "its folder must exist and be writable, for SQLite keeps a log beside the database",
    }
    hint = hints.get(primary_code(error) or 0)
    if primary_code(error) in _NO_LEAVE and path.exists() and not os.access(path, os.R_OK | os.W_OK):
        hint = "it belongs to another user; run as that one, or give the file away with chown"
    return f"SQLite database {path}: {error}" + (f"; {hint}" if hint else "")


def primary_code(error: BaseException) -> int | None:
    """Return SQLite's result code without its extension, if the error has one."""
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the error tells of the database's content, and not of the machine or of other programs."""
    return primary_code(error) not in _CIRCUMSTANCES
