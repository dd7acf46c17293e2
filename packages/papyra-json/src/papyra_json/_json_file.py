"""The store in a single file."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, ClassVar

from papyra.persistence.url import file_url
from papyra_json._file_persistence import DURABILITY_OPTIONS, FilePersistence
from papyra_json._fileset.names import FileSet
from papyra_json._fileset.recognize import MAX_SET_FILES, find_rotations, is_another_format

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from papyra.persistence.retention import RetentionPolicy
    from papyra_json._file_persistence import Durability

__all__ = ["JsonFilePersistence"]

_logger = logging.getLogger("papyra")


class JsonFilePersistence(FilePersistence):
    """Keep facts in one NDJSON file, which any number of processes may write, read and compact.

    With ``durability="os"`` an acknowledged record survives the death of the process, with ``"interval"``
    also a power loss more than ``fsync_interval`` seconds and one sync later, with ``"always"`` any power
    loss. Reads apply ``retention_policy``, and `compact` makes it physical; nothing is removed automatically.

    A bad value is a `ValueError`, and a ``path`` that is not a regular file is a `PersistenceError`. The
    first record creates the file.
    """

    name: ClassVar[str] = "json"
    in_files: ClassVar[bool] = True
    url_options: ClassVar[Mapping[str, Callable[[str], Any]]] = DURABILITY_OPTIONS

    def __init__(
        self,
        path: str | os.PathLike[str],
        retention_policy: RetentionPolicy | None = None,
        *,
        durability: Durability = "os",
        fsync_interval: float = 1.0,
    ) -> None:
        super().__init__(path, 1, None, retention_policy, durability, fsync_interval)

    @classmethod
    def recognizes(cls, path: str) -> str | None:
        """Return the URL of a lone file; its lines may be damaged, but another binary format is not ours."""
        rotations = find_rotations(path)
        if rotations.form_a_set or not os.path.lexists(path) or is_another_format(path):
            return None
        if rotations.misfit:
            names = ", ".join(map(str, rotations.files))
            _logger.warning(
                "%s: not read, because they are not rotations of %s (%s). If they are, give --backend %s",
                names, path, rotations.misfit, file_url("rotating", path),
            )  # fmt: skip
        return file_url(cls.name, path)

    def _files_to_follow(self) -> FileSet:
        """Return a set in place of a lone file: another process may rotate it at any time."""
        lone = not find_rotations(str(self.path)).files
        return FileSet(self.path, MAX_SET_FILES) if lone else self.files
