"""Put a rebuilt database in the place of a damaged one, so that a crash at any instant loses neither.

A database in WAL mode is two files, and no rename moves two at once. A log that stayed behind would be
replayed into the new database. So the rebuilt one is first published as ``<database>.recovered``; from
then on it is what readers see, and whoever opens the store for writing finishes the swap.
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
from papyra_contrib.sqlite._errors import is_damage
from papyra_contrib.sqlite._files import COMPANIONS, beside, stamp, sync_path
from papyra_contrib.sqlite._schema import NotOurs, connect, is_initialized

if TYPE_CHECKING:
    from pathlib import Path

    from papyra_contrib.sqlite._files import Stamp

__all__ = ["clear_building", "finish_swap", "publish", "published", "stranger"]


def clear_building(path: Path) -> Path:
    """Return where to build the new database, with nothing there."""
    building = beside(path, ".recovering")
    for suffix in ("", *COMPANIONS):
        beside(building, suffix).unlink(missing_ok=True)  # left by a recovery that was killed
    return building


def publish(path: Path) -> None:
    """Make what was built the database at ``path``. The caller holds the write lock."""
    building = beside(path, ".recovering")
    sync_path(building)
    if stranger(path):
        raise PersistenceError(f"{beside(path, '.recovered')} is in the way of the recovery; move it away")
    building.replace(beside(path, ".recovered"))
    sync_folder(path.parent)
    finish_swap(path)


def published(path: Path) -> Path | None:
    """Return the database that was published for ``path`` and not put in place yet, if there is one.

    Anything else under its name is not ours to use: None.
    """
    name = beside(path, ".recovered")
    try:
        found = name.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode) or not os.access(name, os.R_OK) or _has_log(name):
        return None
    return name if _is_whole(name, stamp(name)) else None


def stranger(path: Path) -> Path | None:
    """Return what stands where a recovery publishes, but was not published by one."""
    name = beside(path, ".recovered")
    return name if os.path.lexists(name) and published(path) is None else None


def finish_swap(path: Path) -> bool:
    """Put a published database in place; False if there is none. The caller holds the write lock."""
    name = published(path)
    if name is None:
        return False
    for suffix in COMPANIONS:
        beside(path, suffix).unlink(missing_ok=True)
    sync_folder(path.parent)  # the old log is gone for good before the new name stands
    name.replace(path)
    sync_folder(path.parent)
    return True


def _has_log(name: Path) -> bool:
    """Whether somebody has written to the database, which a recovery never does after it published it."""
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
