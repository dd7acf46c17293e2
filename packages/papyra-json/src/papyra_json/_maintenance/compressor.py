"""Compress the full files of a set in a thread, beside those that write and read them.

A full file does not change, so it is read and packed without the lock of the set. Under the lock the packed file takes the
name of the plain one, and then gets the name of its own: two renames, so that at every instant one of the two is there,
and never both. Of several processes one packs a file, who holds the file's own lock.
"""

from __future__ import annotations

import logging
import os
import threading
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from papyra.exceptions import PersistenceError
from papyra_json._fileset.lock import SetLock
from papyra_json._fs.files import drafting, identity
from papyra_json._fs.posix import locked_file, sync_file, sync_folder
from papyra_json._segment.segment import Segment
from papyra_json._segment.writer import Packer

if TYPE_CHECKING:
    from pathlib import Path

    from papyra_json._fileset.names import FileSet
    from papyra_json._segment.codec import Codec

__all__ = ["Compressor"]

_STEP = 2**18

_logger = logging.getLogger("papyra")


class _Dropped(Exception):
    """A file needs not be packed: it is gone, somebody else is at it, or there is no more time."""


class Compressor:
    """Packs, in a thread that lives while there is something to do."""

    def __init__(self, files: FileSet, codec: Codec) -> None:
        self.files = files
        self._codec = codec
        self._mutex = threading.Lock()
        self._thread: threading.Thread | None = None
        self._asked = False
        self._stopped = False

    def look(self) -> None:
        """Have all full files packed that are not yet; return at once."""
        with self._mutex:
            self._asked = True
            if self._thread is None and not self._stopped and self.files.uncompressed():
                # A daemon: what it leaves undone, the next one does.
                self._thread = threading.Thread(target=self._run, name=f"pack {self.files.base}", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Drop what is not done, and return once the thread has ended: it is a matter of one step."""
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
        with closing(Segment.open(path)) as file, locked_file(file.fd) as mine:
            if not mine or not file.stored:
                raise _Dropped
            if file.packed is not None:  # a crash came between the two renames
                self._rename(file, None, file.packed.codec.suffix)
                return
            with drafting(path, file.fd) as (temporary, fd), locked_file(fd) as mine:
                if not mine:
                    raise _Dropped
                packer = Packer(fd, self._codec)
                for offset in range(0, file.stored, _STEP):
                    self._check()
                    packer.write(file.read_at(_STEP, offset))
                packer.finish()
                sync_file(fd)
                self._rename(file, temporary, self._codec.suffix)

    def _rename(self, file: Segment, packed: Path | None, suffix: str) -> None:
        """Let ``packed`` take the place of a file, wherever it stands by now, and give the place its new name."""
        with closing(SetLock(self.files.base, self._check)) as lock, lock.exclusive():
            places = [path for path in self.files.uncompressed() if identity(path.lstat()) == file.identity]
            if not places or os.fstat(file.fd).st_size != file.stored:
                raise _Dropped
            if packed is not None:
                packed.replace(places[0])
            places[0].replace(places[0].with_name(places[0].name + suffix))
        sync_folder(str(self.files.base.parent))
