"""Finds out whether a record could be written now, without writing one."""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

from papyra.persistence.files import create_file, failed_write, open_regular, sync_file, write_all
from papyra_json._fs.files import TEMPORARY_INFIX

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["probe"]

PROBE_BYTES = 2**16

_ADVICE = {
    errno.EROFS: "Mount the file system for writing, or choose another path.",
    errno.ENOSPC: "Make room on the disk; the next record is written once there is room.",
    errno.EDQUOT: "Make room, or raise the quota of the user.",
    errno.EFBIG: "Raise the limit of the process for the size of a file.",
}


def probe(base: Path) -> None:
    """Raise a `PersistenceError` if no record could be appended to the store at ``base`` now.

    Opens the existing files for writing, and writes and syncs a temporary file beside them. Creates nothing
    else: if the folder does not exist yet, only the permission to create it is checked.
    """
    try:
        exists = _open_for_writing(base)
        locked = _open_for_writing(base.with_name(base.name + ".lock"))
        if base.parent.is_dir():
            _write_beside(base, needed=not (exists and locked))
        else:
            _check_creatable(base.parent)
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "Check the owner and mode of the file and its folder.")
        text = f"no record can be written to {base}: {os.strerror(error.errno or 0)}. {advice}"
        raise failed_write(text, error) from error


def _open_for_writing(path: Path) -> bool:
    with suppress(FileNotFoundError, NotADirectoryError):
        os.close(open_regular(path, os.O_RDWR | os.O_APPEND))
        return True
    return False


def _write_beside(base: Path, *, needed: bool) -> None:
    temporary = base.with_name(f".{base.name}{TEMPORARY_INFIX}{secrets.token_hex(8)}")
    try:
        fd = create_file(temporary)
    except PermissionError:
        if needed:
            raise
        return  # only the files may be written, which is enough until the next rotation
    try:
        write_all(fd, bytes(PROBE_BYTES))
        sync_file(fd)
    finally:
        os.close(fd)
        temporary.unlink(missing_ok=True)


def _check_creatable(folder: Path) -> None:
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(folder))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
