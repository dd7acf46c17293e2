"""Put a rebuilt database in the place of a damaged one, so that a crash at any instant loses neither.

A database in WAL mode is two files, and no rename moves two at once. A log that stayed behind would be
replayed into the new database. So the rebuilt one is first published as ``<database>.recovered``; from
then on whoever opens the store for writing finishes the swap.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from papyra.exceptions import PersistenceError
from papyra_contrib.sqlite._files import COMPANIONS, beside, sync_file, sync_folder

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["clear_building", "finish_swap", "publish", "swap_pending"]


def clear_building(path: Path) -> Path:
    """Return where to build the new database, with nothing there."""
    building = beside(path, ".recovering")
    for suffix in ("", *COMPANIONS):
        beside(building, suffix).unlink(missing_ok=True)  # left by a recovery that was killed
    return building


def publish(path: Path) -> None:
    """Make what was built the database at ``path``. The caller holds the write lock."""
    building = beside(path, ".recovering")
    sync_file(building)
    building.replace(beside(path, ".recovered"))
    sync_folder(path.parent)
    finish_swap(path)


def swap_pending(path: Path) -> bool:
    """Whether a published database was not put in place yet."""
    try:
        mode = beside(path, ".recovered").lstat().st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(mode):
        raise PersistenceError(f"{beside(path, '.recovered')} is not a regular file; remove it")
    return True


def finish_swap(path: Path) -> None:
    """Put a published database in place, if there is one. The caller holds the write lock."""
    if not swap_pending(path):
        return
    for suffix in COMPANIONS:
        beside(path, suffix).unlink(missing_ok=True)
    sync_folder(path.parent)  # the old log is gone for good before the new name stands
    beside(path, ".recovered").replace(path)
    sync_folder(path.parent)
