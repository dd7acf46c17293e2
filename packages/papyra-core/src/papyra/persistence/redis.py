"""The thin door to `papyra_contrib.redis`, as `papyra.persistence.json` is one to `papyra_json`.

``from papyra.persistence.redis import RedisStreamsPersistence`` hands on what ``papyra-contrib[redis]``
brings, under the names of papyra 0.3.
"""

from __future__ import annotations

try:
    from papyra_contrib.redis import RedisStreamsConfig, RedisStreamsPersistence
except ModuleNotFoundError as error:
    if error.name not in ("papyra_contrib", "redis"):
        raise  # both are there; something that they need is not, and its own message says what
    raise ImportError(
        "the record in Redis is the distribution papyra-contrib with the library redis, which is not installed: "
        "pip install 'papyra-contrib[redis]'"
    ) from error

__all__ = ["RedisStreamsConfig", "RedisStreamsPersistence"]
