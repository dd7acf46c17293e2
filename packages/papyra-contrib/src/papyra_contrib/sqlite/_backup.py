"""Copy a database while others write to it, by SQLite's backup API."""

from __future__ import annotations

import os
import secrets
from contextlib import closing
from typing import TYPE_CHECKING

from papyra.exceptions import PersistenceError
from papyra.persistence.files import sync_folder
from papyra_contrib.sqlite._connect import connect
from papyra_contrib.sqlite._files import COMPANIONS, beside, create_private, sync_path

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

__all__ = ["write_backup"]


def write_backup(connection: sqlite3.Connection, path: Path) -> bool:
    """Write the state that ``connection`` reads to a new database at ``path``; an existing file is an error.

    The file gets its name once it is whole and on disk, so an interrupted backup leaves none.
    """
    if os.path.lexists(path):
        raise PersistenceError(f"{path} exists already. Choose another file for the backup, or remove it.")
    draft = beside(path, f".tmp-{secrets.token_hex(8)}")
    create_private(draft)
    try:
        with closing(connect(draft, "rw")) as target:
            connection.backup(target)  # all pages in one step: one state, and readers do not stop writers
        sync_path(draft)
        draft.rename(path)
    finally:
        for suffix in ("", *COMPANIONS):
            beside(draft, suffix).unlink(missing_ok=True)
    sync_folder(path.parent)
    return True
