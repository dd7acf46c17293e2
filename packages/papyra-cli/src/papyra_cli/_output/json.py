"""Write models and reports as JSON that is valid and harmless on a terminal, whatever they hold."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from typing import cast

__all__ = ["as_json", "dump", "dump_readable"]


_MAX_DEPTH = 100  # our records have at most 32 levels; Python's recursion allows far more


def as_json(value: object, depth: int = 0) -> object:
    """Return ``value`` as dicts, lists and plain values.

    A dataclass gives its fields and properties by name.
    """
    if depth > _MAX_DEPTH:
        return "(nested too deeply to show)"
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {name: as_json(getattr(value, name), depth + 1) for name in _names(value)}
    if isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value).items()
        return {str(key): as_json(item, depth + 1) for key, item in items}
    if isinstance(value, Sequence | AbstractSet) and not isinstance(value, bytes | bytearray):
        return [as_json(item, depth + 1) for item in cast("Sequence[object] | AbstractSet[object]", value)]
    return str(value)


def _names(value: object) -> list[str]:
    names = [item.name for item in fields(value)]  # type: ignore[arg-type]  # the caller checked that it is a dataclass
    return names + [name for name, item in vars(type(value)).items() if isinstance(item, property)]


def dump(value: object, *, indent: int | None = None) -> str:
    """Write JSON in ASCII.

    Escapes are the only form of a control or bidi character that is safe everywhere.
    """
    separators = (",", ":") if indent is None else None
    text = json.dumps(as_json(value), indent=indent, separators=separators, allow_nan=False)
    return text.replace("\x7f", "\\u007f")  # DEL: the one control character that is ASCII and not escaped


def dump_readable(value: object) -> str:
    """Write JSON in one line for people.

    Other scripts stay as they are, so the caller has to escape what is left.
    """
    return json.dumps(as_json(value), ensure_ascii=False, allow_nan=False)
