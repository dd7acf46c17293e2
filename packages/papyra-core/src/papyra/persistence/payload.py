"""Make JSON of any value. No code of the value runs except its ``repr``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from papyra.persistence.models import JSONValue

__all__ = ["PAYLOAD_LIMIT", "clean_text", "json_payload", "kept_identity"]

PAYLOAD_LIMIT = 4096
"""How many characters of a ``repr`` are kept."""

_NAME_LIMIT = 4096  # characters
_MAX_DEPTH = 32
_MAX_ITEMS = 10_000  # a payload with more parts is stored as its repr
# orjson, jq and JavaScript readers disagree beyond 64 bits.
_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1


class _NotJSON(Exception):
    pass


def json_payload(value: object, limit: int = PAYLOAD_LIMIT) -> JSONValue:
    """Return a copy of ``value`` if it is JSON, else its ``repr``, cut at ``limit`` characters.

    JSON is here: None, bool, finite float, int of 64 bits, str, list or tuple, dict with str keys, at most
    32 deep. Lone surrogates become backslash escapes. Never raises, whatever the ``repr`` does.
    """
    try:
        return _copy(value, 0, [_MAX_ITEMS])
    except (
        _NotJSON,
        RuntimeError,
    ):  # RuntimeError: another thread changed it meanwhile, or the stack is nearly full
        return clean_text(_safe_repr(value), limit)


def clean_text(text: str, limit: int | None = None) -> str:
    """Return ``text`` without lone surrogates, cut at ``limit`` characters with a note of what is missing."""
    if limit is not None and len(text) > limit:
        text = f"{text[:limit]}... ({len(text) - limit} more characters)"
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def kept_identity(payload: object) -> dict[str, JSONValue]:
    """Return the class and the name of the actor in an event's payload that is too long to store."""
    if not isinstance(payload, dict):
        return {}
    fields = cast("dict[object, object]", payload)
    return {
        name: clean_text(value, _NAME_LIMIT)
        for name in ("type", "name")
        if isinstance(value := fields.get(name), str)
    }


def _safe_repr(value: object) -> str:
    try:
        return "".join([repr(value)])  # of a subclass of str, join makes a plain one
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a message's repr is user code: it may raise anything, SystemExit too
        return f"<{type(value).__name__} whose repr raised {type(error).__name__}>"


def _copy(value: object, depth: int, left: list[int]) -> JSONValue:
    # Exact types, and no isinstance(): a subclass may carry more than JSON shows, or methods that lie, and
    # isinstance() asks the value for its __class__, which may be a property that raises.
    left[0] -= 1
    if left[0] < 0:
        raise _NotJSON
    kind = type(value)
    if value is None or kind is bool:
        return cast("bool | None", value)
    if kind is str:
        return clean_text(cast("str", value))
    if kind is int and _INT_MIN <= cast("int", value) <= _INT_MAX:
        return cast("int", value)
    if kind is float and math.isfinite(cast("float", value)):
        return cast("float", value)
    if depth >= _MAX_DEPTH:
        raise _NotJSON
    if kind is list or kind is tuple:
        return [_copy(item, depth + 1, left) for item in cast("list[object] | tuple[object, ...]", value)]
    if kind is dict:
        return {
            _key(key): _copy(item, depth + 1, left)
            for key, item in cast("dict[object, object]", value).items()
        }
    raise _NotJSON


def _key(key: object) -> str:
    if type(key) is str:
        return clean_text(key)
    raise _NotJSON
