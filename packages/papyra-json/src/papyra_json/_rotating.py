"""The store that is a set of files."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from papyra.exceptions import BackendURLError
from papyra.persistence.url import BackendURL, count, duration, one_of, size
from papyra_json._backend import FilePersistence

if TYPE_CHECKING:
    import os
    from typing import Self

    from papyra.persistence.retention import RetentionPolicy
    from papyra_json._backend import Durability

__all__ = ["RotatingFilePersistence"]


class RotatingFilePersistence(FilePersistence):
    """Keep facts in a set of NDJSON files: ``path``, and the full ones ``path.1`` (the youngest), ``path.2`` and so on.

    A file that would grow beyond ``max_bytes`` is renamed, and a fresh one begun; a single record longer than that has a
    file of its own. The set, ``path`` included, never has more than ``max_files`` files: the oldest goes. A
    batch that spans files may fail in its second half only, with a `PartialWriteError`.

    All else is as in `JsonFilePersistence`.
    """

    name: ClassVar[str] = "rotating"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_bytes: int = 50_000_000,
        max_files: int = 5,
        retention_policy: RetentionPolicy | None = None,
        durability: Durability = "os",
        fsync_interval: float = 1.0,
    ) -> None:
        _check_positive("max_bytes", max_bytes)
        _check_positive("max_files", max_files)
        super().__init__(path, max_files, max_bytes, retention_policy, durability, fsync_interval)

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Open ``rotating:PATH`` with the options of ``json:`` and ``max_bytes`` and ``max_files``."""
        parsed = BackendURL.parse(url)
        retention, options = parsed.convert_with_retention(
            {
                "max_bytes": size,
                "max_files": count,
                "durability": one_of("os", "interval", "always"),
                "fsync_interval": duration,
            }
        )
        try:
            return cls(parsed.path, retention_policy=retention, **options)
        except ValueError as error:
            raise BackendURLError(f"can't open {url!r}: {error}") from error


def _check_positive(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")
