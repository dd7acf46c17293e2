"""The store in a rotating set of files."""

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

    from papyra.persistence.models import CompactionReport
    from papyra.persistence.progress import Progress
    from papyra.persistence.retention import RetentionPolicy
    from papyra_json._file_persistence import Durability
    from papyra_json._segment.codec import Compression

__all__ = ["RotatingFilePersistence"]


def _count_or_auto(text: str) -> int | None:
    return None if text == "auto" else count(text)


class RotatingFilePersistence(FilePersistence):
    """Keep facts in a set of NDJSON files.

    ``path``, and the full ones ``path.1`` (the youngest), ``path.2`` and so on.

    A file that would grow beyond ``max_bytes`` is renamed, and a new one begun; a record longer than that has
    a file of its own. The set, ``path`` included, never has more than ``max_files`` files: the oldest is
    removed. A batch that spans files may fail in its second half only, with a `PartialWriteError`.

    The largest ``max_files`` that the set was ever written with is noted beside it and counts for every
    program, until a `compact` with ``max_files`` changes it. None, in a URL ``max_files=auto``, takes the
    size of the existing set; without one the file grows beyond ``max_bytes``, and nothing is removed.

    With ``compress="gzip"`` or ``"zstd"`` a thread compresses full files, to about a sixth, as ``path.1.gz``
    or ``path.1.zst``. They are read, repaired and compacted like the others, without ``compress`` too. Limits
    in bytes count the records before compression. ``"zstd"`` is a `ValueError` on Pythons without it, before
    3.14.

    Everything else is as in `JsonFilePersistence`.
    """

    name: ClassVar[str] = "rotating"
    in_files: ClassVar[bool] = True
    url_options: ClassVar[Mapping[str, Callable[[str], Any]]] = {
        **DURABILITY_OPTIONS,
        "max_bytes": size,
        "max_files": _count_or_auto,
        "compress": one_of("gzip", "zstd"),
    }

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_bytes: int = 50_000_000,
        max_files: int | None = 5,
        retention_policy: RetentionPolicy | None = None,
        durability: Durability = "os",
        fsync_interval: float = 1.0,
        compress: Compression | None = None,
    ) -> None:
        _check_positive("max_bytes", max_bytes)
        if max_files is not None:
            _check_positive("max_files", max_files)
        codec = None if compress is None else codec_for(compress)
        super().__init__(path, max_files, max_bytes, retention_policy, durability, fsync_interval)
        if codec is not None:
            self._appender.compress_with(codec)

    async def compact(
        self, *, dry_run: bool = False, progress: Progress | None = None, max_files: int | None = None
    ) -> CompactionReport:
        """Drop the records that the retention policy does not keep; invalid lines go to the quarantine.

        With ``max_files`` all but the newest files are dropped too, and from now on the set has that size.
        """
        if max_files is not None:
            _check_positive("max_files", max_files)
        return await self._compact(dry_run=dry_run, progress=progress, max_files=max_files)

    @classmethod
    def recognizes(cls, path: str) -> str | None:
        """Return the URL of the rotated set that begins at ``path``.

        Its size is learned under the lock, at each look.
        """
        return file_url(cls.name, path, max_files="auto") if find_rotations(path).form_a_set else None


def _check_positive(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")
