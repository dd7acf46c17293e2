"""Makes a store of files in a folder, and renames it once it is complete, so no backup is incomplete."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from papyra.persistence.files import make_folder, sync_file, sync_folder, try_locked
from papyra.persistence.url import BackendURL, file_url
from papyra_cli._errors import Failure
from papyra_cli._exit_codes import ExitCode

if TYPE_CHECKING:
    from collections.abc import Generator

    from papyra_cli._store.choose import Store

__all__ = ["Draft", "draft_of", "remove_draft"]

_BUSY = ".busy"  # is locked while a command uses the folder


@dataclass(frozen=True, slots=True)
class Draft:
    """A store in a folder beside its final place."""

    store: Store
    file: Path
    place: Path

    def publish(self) -> None:
        """Move all files of the closed store to their place, the one that the store is named after last.

        The oldest of the others go first: if the command is killed between two of them, the next one
        can resume.
        """
        others = [path for path in self.file.parent.iterdir() if path.name not in (self.file.name, _BUSY)]
        others.sort(key=lambda path: path.stat().st_mtime_ns)
        if not self.file.exists():  # the source has no record, so nothing was made
            return
        for path in (*others, self.file):
            _sync(path)
        for path in others:
            _move_or_fill(path, self.place.with_name(path.name))
        try:
            os.link(self.file, self.place)  # unlike a rename, it replaces nothing
        except FileExistsError as error:
            raise Failure(
                f"{self.place} was made by another program meanwhile. Nothing was written to it", ExitCode.NO
            ) from error
        except OSError:  # a file system without hard links
            self.file.rename(self.place)
        sync_folder(self.place.parent)


@contextmanager
def draft_of(store: Store) -> Generator[Draft]:
    """Make a new store in the folder ``.NAME.draft`` beside it, which is removed at the end.

    If the command is killed, the folder stays, and the next command that makes the same store removes it.
    """
    place = Path(BackendURL.parse(store.url).path)
    make_folder(place.parent)
    folder = _folder(place)
    make_folder(folder)
    fd = os.open(folder / _BUSY, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with try_locked(fd) as mine:
            if not mine:
                raise Failure(f"another command is making {place}; wait for it, or choose another name")
            for path in folder.iterdir():
                if path.name != _BUSY:
                    path.unlink()
            try:
                yield Draft(_moved(store, folder / place.name), folder / place.name, place)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(fd)


def remove_draft(store: Store) -> None:
    """Remove the draft of a command that was killed after the store had got its name."""
    if store.is_in_files and _folder(Path(BackendURL.parse(store.url).path)).exists():
        with draft_of(store):
            pass


def _folder(place: Path) -> Path:
    return place.with_name(f".{place.name}.draft")


def _moved(store: Store, file: Path) -> Store:
    """Return the same store at another path."""
    url, _, options = store.url.partition("?")
    return replace(
        store, url=file_url(BackendURL.parse(url).scheme, str(file)) + (f"?{options}" if options else "")
    )


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        sync_file(fd)
    finally:
        os.close(fd)


def _move_or_fill(path: Path, place: Path) -> None:
    """Move a file. An existing one, such as the lock of a store that was moved away, keeps its inode."""
    if place.is_file() and not place.is_symlink():
        place.write_bytes(path.read_bytes())
        path.unlink()
    else:
        path.rename(place)
