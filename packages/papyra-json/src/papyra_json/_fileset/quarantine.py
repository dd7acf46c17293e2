"""Keep dropped bytes and unexpected files in quarantine files, which are never overwritten.

A quarantine file holds the dropped bytes as they were, one range after the other, and nothing else.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from papyra.persistence.files import (
    create_file,
    create_folder,
    make_folder,
    quarantine_names,
    sync_file,
    sync_folder,
)
from papyra_json._fs.files import copy_ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from papyra_json._fs.files import Range, Readable

__all__ = ["link_aside", "move_aside", "next_name", "quarantine"]


def quarantine(
    path: Path,
    file: Readable,
    ranges: Iterable[Range],
    folder: Path | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> Path:
    """Copy ranges of ``path``, open as ``file``, to a new quarantine file, sync it and return its path.

    It lies in ``folder``, by default beside ``path``. ``advance`` works as in `copy_ranges`.
    """
    if folder is not None:
        make_folder(folder)
    copy, target = _create(path, folder)
    try:
        copy_ranges(file, target, ranges, advance)
        sync_file(target)
        sync_folder(copy.parent)
    except BaseException:
        copy.unlink()  # the bytes are still in the damaged file
        raise
    finally:
        os.close(target)
    return copy


def link_aside(path: Path, folder: Path | None = None) -> Path | None:
    """Give a file a second name in the quarantine; None if the file system can't."""
    if folder is not None:
        make_folder(folder)
    names = quarantine_names(path, folder)
    while True:
        name = next(names)
        try:
            os.link(path, name, follow_symlinks=False)
        except FileExistsError:
            continue
        except OSError:  # another file system, or one without links
            return None
        try:
            sync_folder(name.parent)
        except BaseException:
            name.unlink()  # as above
            raise
        return name


def next_name(path: Path, folder: Path | None = None) -> Path:
    """Return the path of the next quarantine file of ``path``, without creating it."""
    return next(name for name in quarantine_names(path, folder) if not os.path.lexists(name))


def move_aside(path: Path, folder: Path | None = None) -> Path:
    """Move a file of any kind into a new folder in the quarantine; return its new path."""
    if folder is not None:
        make_folder(folder)
    try:
        target = _moved(path, folder)
    except OSError:  # the quarantine may be on another file system
        target = _moved(path, None)
    sync_folder(target.parent.parent)
    sync_folder(path.parent)
    return target


def _moved(path: Path, folder: Path | None) -> Path:
    # A rename overwrites an existing file. It can't in a folder that was made for it.
    target = _create_folder(path, folder) / path.name
    try:
        path.rename(target)
    except BaseException:
        target.parent.rmdir()
        raise
    return target


def _create(path: Path, folder: Path | None) -> tuple[Path, int]:
    names = quarantine_names(path, folder)
    while True:
        name = next(names)
        with suppress(FileExistsError):
            return name, create_file(name, os.O_WRONLY)


def _create_folder(path: Path, folder: Path | None) -> Path:
    names = quarantine_names(path, folder)
    while True:
        name = next(names)
        with suppress(FileExistsError):
            create_folder(name)
            return name
