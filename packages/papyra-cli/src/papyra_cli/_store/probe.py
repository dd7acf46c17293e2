"""Find out whether a record could be written, without writing one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from papyra.exceptions import PersistenceError
from papyra.persistence.url import BackendURL

if TYPE_CHECKING:
    from papyra_cli._store.choose import Store
    from papyra_cli._store.session import OpenStore

__all__ = ["write_problem"]

_MIN_FREE_BYTES = 2**20
"""The largest record; with less room than that, the next one may fail."""


async def write_problem(opened: OpenStore, store: Store) -> str:
    """Return why the next record would not be written, "" if nothing is known to prevent it.

    The backend is asked first (its ``ping``). For a store in files, the file system is asked too.
    """
    try:
        await opened.backend.ping()
    except PersistenceError as error:
        if error.retry:  # the store is away: nothing else can be said about it
            raise
        return str(error)
    return _file_problem(Path(BackendURL.parse(store.url).path)) if store.is_in_files else ""


def _file_problem(path: Path) -> str:
    folder = next((parent for parent in path.absolute().parents if parent.is_dir()), None)
    if folder is None:
        return f"there is no folder for {path}"
    try:
        room = os.statvfs(folder)
    except OSError:  # nothing is known of its room
        return ""
    if room.f_flag & os.ST_RDONLY:
        return f"{folder} is on a file system that is mounted read-only. Mount it writable"
    if room.f_bavail * room.f_frsize < _MIN_FREE_BYTES:
        return f"the disk of {folder} is full. Make room on it"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"no file may be created in {folder}. Check its owner and mode"
    if path.exists() and not os.access(path, os.W_OK):
        return f"{path} may not be written. Check its owner and mode"
    return ""
