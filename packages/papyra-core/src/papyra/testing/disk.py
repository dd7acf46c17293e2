"""A disk without room: how the tests of a store in files get one."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["full_disk"]


@contextmanager
def full_disk(path: Path | str, *, room: int = 50_000) -> Generator[None]:
    """Make a context in which no file of this process grows beyond the size of ``path`` and ``room`` bytes.

    A write beyond it takes the bytes for which there is room, and then fails with ``EFBIG``. If a store uses
    `papyra.persistence.files.failed_write`, it raises `papyra.exceptions.StoreFull`. SQLite reports an I/O
    error in place of a full disk. Needs Unix: the soft limit ``RLIMIT_FSIZE`` is lowered meanwhile.
    """
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (Path(path).stat().st_size + room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
