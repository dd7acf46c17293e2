"""The store that is one file."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from papyra.exceptions import BackendURLError
from papyra.persistence.url import BackendURL, duration, one_of
from papyra_json._file_persistence import FilePersistence

if TYPE_CHECKING:
    import os
    from typing import Self

    from papyra.persistence.retention import RetentionPolicy
    from papyra_json._file_persistence import Durability

__all__ = ["JsonFilePersistence"]


class JsonFilePersistence(FilePersistence):
    """Keep facts in one NDJSON file, which any number of processes may write, read and compact.

    ``durability`` says what an acknowledged record survives: ``"os"`` the death of the process, ``"interval"``
    also a power loss more than ``fsync_interval`` seconds (and one sync) later, ``"always"`` any power loss. Nothing is
    removed by itself: reads apply ``retention_policy``, `compact` makes it physical.

    A bad value is a `ValueError`; what stands at ``path`` and is no regular file is a `PersistenceError`. The file is
    made by the first record.
    """

    name: ClassVar[str] = "json"

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
    def from_url(cls, url: str) -> Self:
        """Open ``json:PATH`` with the options ``durability``, ``fsync_interval`` and those of a retention policy."""
        parsed = BackendURL.parse(url)
        retention, options = parsed.convert_with_retention(
            {"durability": one_of("os", "interval", "always"), "fsync_interval": duration}
        )
        try:
            return cls(parsed.path, retention, **options)
        except ValueError as error:
            raise BackendURLError(f"can't open {url!r}: {error}") from error
