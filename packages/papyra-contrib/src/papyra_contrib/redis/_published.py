"""The Redis store under the names of papyra 0.3."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from papyra_contrib.redis._backend import RedisPersistence

if TYPE_CHECKING:
    from papyra.persistence import RetentionPolicy

__all__ = ["RedisStreamsConfig", "RedisStreamsPersistence"]

_USED = ("url", "prefix", "system_id")


@dataclass(frozen=True)
class RedisStreamsConfig:
    """Where the record is: the stream ``PREFIX:SYSTEM_ID:facts`` of the server at ``url``.

    The other fields are taken, so that a program written for papyra 0.3 runs, and have no effect: reads are
    not cut, trimming is exact, and the quarantine is the stream's name and ``:quarantine``.
    """

    url: str = "redis://localhost:6379/0"
    prefix: str = "papyra"
    system_id: str = "local"
    scan_sample_size: int = 1000
    max_read: int = 50_000
    approx_trim: bool = True
    quarantine_prefix: str | None = None


class RedisStreamsPersistence(RedisPersistence):
    """`RedisPersistence`, made from a `RedisStreamsConfig`.

    It keeps all facts in one stream, and does not read the streams of papyra 0.3, which had one for each
    kind.
    """

    def __init__(
        self, config: RedisStreamsConfig | None = None, *, retention_policy: RetentionPolicy | None = None
    ) -> None:
        config = config or RedisStreamsConfig()
        unused = [
            each.name
            for each in fields(config)
            if each.name not in _USED and getattr(config, each.name) != each.default
        ]
        if unused:
            warnings.warn(
                f"RedisStreamsConfig: {', '.join(unused)} has no effect any more; leave it out",
                DeprecationWarning,
                stacklevel=2,
            )
        super().__init__(config.url, retention_policy, stream=f"{config.prefix}:{config.system_id}:facts")
