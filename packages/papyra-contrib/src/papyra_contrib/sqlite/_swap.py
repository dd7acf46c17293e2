"""Replace a damaged database with a rebuilt one, so that a crash at any instant loses neither.

A database in WAL mode is two files, and a rename moves only one. SQLite would replay a log that stayed behind
into the new database. Therefore the rebuilt database is first published as ``<database>.recovered``. From
then on readers use it, and the next process that opens the store for writing finishes the swap.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing, suppress
from functools import lru_cache
from typing import TYPE_CHECKING

from papyra.exceptions import PersistenceError
from papyra.persistence.files import sync_folder
from papyra_contrib.sqlite._connect import connect
from papyra_contrib.sqlite._errors import is_damage
from papyra_contrib.sqlite._files import COMPANIONS, beside, stamp, sync_path
from papyra_contrib.sqlite._schema import NotOurs, is_initialized

if TYPE_CHECKING:
    from pathlib import Path

    from papyra_contrib.sqlite._files import Stamp

__all__ = ["clear_building", "finish_swap", "publish", "published", "stranger"]


def clear_building(path: Path) -> Path:
    """Return the path at which to build the new database. Remove the files of an interrupted recovery."""
    building = beside(path, ".recovering")
    for suffix in ("", *COMPANIONS):
        beside(building, suffix).unlink(missing_ok=True)  # left by a recovery that was killed
    return building


def publish(path: Path) -> None:
    """Publish the database that was built and put it at ``path``. The caller holds the write lock."""
    building = beside(path, ".recovering")
    sync_path(building)
    if stranger(path):
        raise PersistenceError(f"{beside(path, '.recovered')} is in the way of the recovery. Move it away.")
    building.replace(beside(path, ".recovered"))
    sync_folder(path.parent)
    finish_swap(path)


def published(path: Path) -> Path | None:
    """Return the database that was published for ``path`` and not put in place yet, if there is one.

    None also if the file of that name was not published by a recovery.
    """
    name = beside(path, ".recovered")
    try:
        status = name.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode) or not os.access(name, os.R_OK) or _has_log(name):
        return None
    return name if _is_whole(name, stamp(name)) else None


def stranger(path: Path) -> Path | None:
    """Return the file that has the name of a published database, if it was not published by a recovery."""
    name = beside(path, ".recovered")
    return name if os.path.lexists(name) and published(path) is None else None


def finish_swap(path: Path) -> bool:
    """Put a published database in place; False if there is none. The caller holds the write lock."""
    name = published(path)
    if name is None:
        return False
    for suffix in COMPANIONS:
        beside(path, suffix).unlink(missing_ok=True)
    sync_folder(path.parent)  # the old log must be gone for good before the rename
    name.replace(path)
    sync_folder(path.parent)
    return True


def _has_log(name: Path) -> bool:
    """Whether another program has written to the database: a recovery never does once it is published."""
    for suffix in ("-wal", "-journal"):
        with suppress(FileNotFoundError):
            if beside(name, suffix).lstat().st_size > 0:
                return True
    return False


@lru_cache(maxsize=32)
def _is_whole(name: Path, _: Stamp) -> bool:
    """Whether a file is an undamaged database of ours."""
    try:
        with closing(connect(name, "ro&immutable=1")) as connection:
            if not is_initialized(connection, name):
                return False
            connection.execute("SELECT seq FROM facts LIMIT 1").fetchall()
            return connection.execute("PRAGMA quick_check(1)").fetchall() == [(b"ok",)]
    except NotOurs:
        return False
    except sqlite3.Error as error:
        if is_damage(error):
            return False
        raise
