"""Classify SQLite's errors: damage, trouble of the machine, or other programs; and say what can be done."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["DAMAGE", "FAILED_SYNC", "HARMLESS", "explain", "is_damage", "primary_code"]

# After these errors, a connection can be used again. After others, its cache may be wrong: open a new one.
HARMLESS = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_INTERRUPT})
DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_NO_PERMISSION = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM})
FAILED_SYNC = frozenset({sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC})

# Caused by the machine or by other programs: no file descriptor, memory, room or permission.
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


def explain(error: sqlite3.Error, code: int | None, path: Path) -> str:
    """Return a text that says what happened to which database, and what can be done about a primary code."""
    repair = "`papyra persistence scan` reports the damage, `papyra persistence recover` repairs it."
    hints = {
        sqlite3.SQLITE_BUSY: "Another program keeps it locked. Set a longer busy_timeout or find that program.",
        sqlite3.SQLITE_FULL: "The disk is full. Writing works again once there is room.",
        sqlite3.SQLITE_CORRUPT: repair,
        sqlite3.SQLITE_NOTADB: repair,
        sqlite3.SQLITE_CANTOPEN: "Its folder must exist and be writable, because SQLite keeps a log beside the database.",
    }
    hint = hints.get(code or 0)
    if code in _NO_PERMISSION and path.exists() and not os.access(path, os.R_OK | os.W_OK):
        hint = "It belongs to another user. Run as that user, or change its owner with chown."
    return f"SQLite database {path}: {error}" + (f". {hint}" if hint else "")


def primary_code(error: BaseException) -> int | None:
    """Return SQLite's result code without its extension, if the error has one."""
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the content of the database caused the error, and not the machine or another program."""
    return primary_code(error) not in _CIRCUMSTANCES
