"""The store that is a set of files."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from papyra.persistence.url import count, file_url, one_of, size
from papyra_json._file_persistence import DURABILITY_OPTIONS, FilePersistence
from papyra_json._fileset.recognize import find_rotations
from papyra_json._segment.codec import codec_for

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping
    from typing import Any

    from papyra.persistence.retention import RetentionPolicy
    from papyra_json._file_persistence import Durability
    from papyra_json._segment.codec import Compression

__all__ = ["RotatingFilePersistence"]

_DEFAULT_MAX_FILES = 5


class RotatingFilePersistence(FilePersistence):
    """Keep facts in a set of NDJSON files: ``path``, and the full ones ``path.1`` (the youngest), ``path.2`` and so on.

    A file that would grow beyond ``max_bytes`` is renamed, and a fresh one begun; a single record longer than that has a
    file of its own. The set, ``path`` included, never has more than ``max_files`` files: the oldest goes. A
    batch that spans files may fail in its second half only, with a `PartialWriteError`.

    With ``compress``, ``"gzip"`` or ``"zstd"``, full files are compressed, to a sixth or so, by a thread beside the
    writing, and named ``path.1.gz`` or ``path.1.zst``. They are read, repaired and compacted as before, whatever
    ``compress`` says. Limits in bytes count what was recorded, before it was compressed. ``"zstd"`` is a `ValueError` on
    Pythons that lack it, which is those before 3.14.

    All else is as in `JsonFilePersistence`.
    """

    name: ClassVar[str] = "rotating"
    in_files: ClassVar[bool] = True
    url_options: ClassVar[Mapping[str, Callable[[str], Any]]] = {
        **DURABILITY_OPTIONS,
        "max_bytes": size,
        "max_files": count,
        "compress": one_of("gzip", "zstd"),
    }

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_bytes: int = 50_000_000,
        max_files: int = _DEFAULT_MAX_FILES,
        retention_policy: RetentionPolicy | None = None,
        durability: Durability = "os",
        fsync_interval: float = 1.0,
        compress: Compression | None = None,
    ) -> None:
        _check_positive("max_bytes", max_bytes)
        _check_positive("max_files", max_files)
        codec = None if compress is None else codec_for(compress)
        super().__init__(path, max_files, max_bytes, retention_policy, durability, fsync_interval)
        if codec is not None:
            self._appender.compress_with(codec)

    @classmethod
    def recognizes(cls, path: str) -> str | None:
        """Return the URL of the rotated set that begins at ``path``, as large as it is."""
        rotations = find_rotations(path)
        if not rotations.form_a_set:
            return None
        files = rotations.highest_number + 1
        # Files beyond a smaller max_files would be removed.
        return file_url(cls.name, path, **({"max_files": files} if files > _DEFAULT_MAX_FILES else {}))


def _check_positive(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")
