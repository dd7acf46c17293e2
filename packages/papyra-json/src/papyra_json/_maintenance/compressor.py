"""Compress the full files of a set in a thread.

A full file does not change, so it is read and compressed without the lock of the set. Under the lock the
compressed file takes the name of the plain one, and then gets its own name: two renames, so that exactly one
of the two exists at every instant. If several processes share a set, the holder of the file's own lock
compresses it.
"""

from __future__ import annotations

import logging
import os
import threading
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING

from papyra.exceptions import PersistenceError
from papyra.persistence.files import identity, open_regular, sync_file, sync_folder, try_locked
from papyra_json._fileset.lock import SetLock
from papyra_json._fs.files import drafting
from papyra_json._segment.segment import Segment
from papyra_json._segment.writer import Packer

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from papyra_json._fileset.names import FileSet
    from papyra_json._segment.codec import Codec

__all__ = ["Compressor"]

STEP_BYTES = 2**18

_logger = logging.getLogger("papyra")


class _Dropped(Exception):
    """A file needs no compression: it is gone, another process compresses it, or the store is closing."""


class Compressor:
    """Compresses in a thread that lives while there is something to do."""

    def __init__(self, files: FileSet, codec: Codec) -> None:
        self.files = files
        self._codec = codec
        self._mutex = threading.Lock()
        self._thread: threading.Thread | None = None
        self._asked = False
        self._stopped = False

    def look(self) -> None:
        """Start to compress the full files that are not compressed yet; return at once."""
        with self._mutex:
            self._asked = True
            if self._thread is None and not self._stopped and self.files.uncompressed():
                # A daemon thread: the next process does what it leaves undone.
                self._thread = threading.Thread(target=self._run, name=f"pack {self.files.base}", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Drop unfinished work, and return once the thread has ended, which takes one step."""
        with self._mutex:
            self._stopped = True
            thread = self._thread
        if thread is not None:
            thread.join()

    # -- in the thread

    def _run(self) -> None:
        while self._is_asked():
            for path in self.files.uncompressed():
                try:
                    with suppress(_Dropped, FileNotFoundError):
                        self._pack(path)
                except (OSError, PersistenceError) as error:
                    _logger.warning("store of facts: %s stays uncompressed (%s)", path, error)

    def _is_asked(self) -> bool:
        with self._mutex:
            asked = self._asked and not self._stopped
            self._asked = False
            if not asked:
                self._thread = None
            return asked

    def _check(self) -> None:
        if self._stopped:
            raise _Dropped

    def _pack(self, path: Path) -> None:
        with _locked_segment(path) as file:
            if not file.stored:
                raise _Dropped
            if file.packed is not None:  # a crash came between the two renames
                self._rename(file, None, file.packed.codec.suffix)
                return
            with drafting(path, file.fd) as (temporary, fd), try_locked(fd) as mine:
                if not mine:
                    raise _Dropped
                packer = Packer(fd, self._codec)
                for offset in range(0, file.stored, STEP_BYTES):
                    self._check()
                    packer.write(file.read_at(STEP_BYTES, offset))
                packer.finish()
                sync_file(fd)
                self._rename(file, temporary, self._codec.suffix)

    def _rename(self, file: Segment, packed: Path | None, suffix: str) -> None:
        """Let ``packed`` replace a file, wherever it was rotated to, and give it its new name."""
        with closing(SetLock(self.files.base, self._check)) as lock, lock.exclusive():
            places = [path for path in self.files.uncompressed() if identity(path.lstat()) == file.identity]
            if not places or os.fstat(file.fd).st_size != file.stored:
                raise _Dropped
            if packed is not None:
                packed.replace(places[0])
            places[0].replace(places[0].with_name(places[0].name + suffix))
        sync_folder(self.files.base.parent)


@contextmanager
def _locked_segment(path: Path) -> Generator[Segment]:
    """Open a file with its own lock held; open for writing because NFS asks for that."""
    fd = open_regular(path, os.O_RDWR)
    try:
        with try_locked(fd) as mine:
            if not mine:
                raise _Dropped
            yield Segment(path, fd, tolerant=False)
    finally:
        os.close(fd)
