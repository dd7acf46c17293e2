"""Where bytes go that are no valid record: into files that are never overwritten.

A quarantine file holds the dropped bytes as they were, one after the other, and nothing else. It is named after the
damaged file, the time and a counter, and is made with ``O_EXCL``: what stands there already, a planted
symbolic link too, sends the counter on.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING

from papyra_json._fs.files import copy_ranges, make_folder
from papyra_json._fs.posix import SAFE_FLAGS, sync_file, sync_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from papyra_json._fs.files import Range
    from papyra_json._record.lines import Readable

__all__ = ["MARK", "move_aside", "quarantine", "quarantine_name"]

MARK = ".quarantine-"


def quarantine(
    path: Path,
    file: Readable,
    ranges: Iterable[Range],
    folder: Path | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> Path:
    """Copy parts of ``path``, open as ``file``, to a new quarantine file, sync it and return its path.

    It stands in ``folder``, by default beside ``path``. ``advance`` is as in `copy_ranges`.
    """
    made, target = _create(path, _prepared(path, folder))
    try:
        copy_ranges(file, target, ranges, advance)
        sync_file(target)
    except BaseException:
        made.unlink()  # the bytes are still where they were
        raise
    finally:
        os.close(target)
    sync_folder(str(made.parent))
    return made


def quarantine_name(path: Path, folder: Path | None = None) -> Path:
    """Return where the next quarantine file of ``path`` would stand, and make nothing."""
    target = folder or path.parent
    return next(target / name for name in _names(path) if not os.path.lexists(target / name))


def move_aside(path: Path, folder: Path | None = None) -> Path:
    """Move what stands at ``path``, whatever it is, into a new folder in the quarantine; return its new path."""
    try:
        return _moved(path, _prepared(path, folder))
    except OSError:
        if folder is None:
            raise
        return _moved(path, path.parent)  # the quarantine is on another file system


def _moved(path: Path, folder: Path) -> Path:
    # A rename overwrites; into a folder that was made for it, it can't.
    target = _create_folder(path, folder) / path.name
    try:
        path.rename(target)
    except BaseException:
        target.parent.rmdir()
        raise
    sync_folder(str(folder))
    sync_folder(str(path.parent))
    return target


def _prepared(path: Path, folder: Path | None) -> Path:
    if folder is None:
        return path.parent
    make_folder(folder)
    return folder


def _create(path: Path, folder: Path) -> tuple[Path, int]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFE_FLAGS
    for name in _names(path):
        with suppress(FileExistsError):
            return folder / name, os.open(folder / name, flags, 0o600)
    raise AssertionError("the names never end")


def _create_folder(path: Path, folder: Path) -> Path:
    for name in _names(path):
        with suppress(FileExistsError):
            (folder / name).mkdir(0o700)
            return folder / name
    raise AssertionError("the names never end")


def _names(path: Path) -> Iterable[str]:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    return (f"{path.name}{MARK}{stamp}-{number}" for number in count(1))
