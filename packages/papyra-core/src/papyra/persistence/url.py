"""Backend URLs: ``scheme:path?option=value&...``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

from papyra.exceptions import BackendURLError
from papyra.persistence.retention import RetentionPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["RETENTION_OPTIONS", "BackendURL", "duration", "one_of", "size"]

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_BYTES = {
    "": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip


def duration(text: str) -> float:
    """Read seconds (``"90"``, ``"1.5"``) or a number with a unit (``"250ms"``, ``"15m"``, ``"7d"``)."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)?", text.strip(), re.ASCII)
    if match is None:
        raise ValueError("expected seconds or a number with one of the units ms, s, m, h, d, w")
    return float(match[1]) * _SECONDS[match[2] or "s"]


def size(text: str) -> int:
    """Read bytes (``"4096"``) or a number with a unit (``"100MB"``, ``"1GiB"``)."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip().lower(), re.ASCII)
    if match is None or match[2] not in _BYTES:
        raise ValueError("expected bytes or a number with a unit such as KB, MB, GB, MiB, GiB")
    whole, _, fraction = match[1].partition(".")
    scale: int = 10 ** len(fraction)
    return int(whole + fraction) * _BYTES[match[2]] // scale  # exact, where a float would not be


def count(text: str) -> int:
    """Read a whole number of at least 0."""
    if not re.fullmatch(r"\d+", text.strip(), re.ASCII):
        raise ValueError("expected a whole number of at least 0")
    return int(text)


def one_of(*choices: str) -> Callable[[str], str]:
    """Make a reader that takes just these words."""

    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}")
        return text

    return read


RETENTION_OPTIONS: Mapping[str, Callable[[str], Any]] = {
    "max_records": count,
    "max_age_seconds": duration,
    "max_total_bytes": size,
}
"""The options of a `RetentionPolicy`, as every backend takes them in its URL."""


@dataclass(frozen=True, slots=True)
class BackendURL:
    """A backend URL, split: ``json:./papyra.ndjson?max_records=100000``.

    ``path`` is all between the scheme and the ``?``, percent-decoded; an empty authority (``json:///var/x``)
    is left out of it. ``options`` are strings yet: `convert` reads them.
    """

    text: str
    scheme: str
    path: str
    options: Mapping[str, str]

    @classmethod
    def parse(cls, text: str) -> BackendURL:
        """Split ``text``; a `BackendURLError` says what is malformed."""
        scheme, colon, rest = text.partition(":")
        if not colon or not _SCHEME.fullmatch(scheme):
            raise BackendURLError(
                f"not a backend URL: {text!r} has no scheme; write 'scheme:path', as in 'json:./papyra.ndjson' or 'memory:'"
            )
        path, _, query = rest.partition("?")
        try:
            path = unquote(path.removeprefix("//") if path.startswith("///") else path, errors="strict")
        except UnicodeDecodeError:
            raise BackendURLError(f"the percent-encoded path of {text!r} is not UTF-8") from None
        if "\0" in path:
            raise BackendURLError(f"the path of {text!r} has a NUL character in it")
        options: dict[str, str] = {}
        try:
            pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
        except ValueError as error:
            raise BackendURLError(
                f"the options of {text!r} are malformed ({error}); write 'name=value&name=value'"
            ) from None
        for name, value in pairs:
            if name in options:
                raise BackendURLError(f"{text!r} gives the option {name!r} twice")
            options[name] = value
        return cls(text, scheme, path, options)

    def convert(self, readers: Mapping[str, Callable[[str], Any]]) -> dict[str, Any]:
        """Read every option with the reader of its name.

        A reader takes a string and raises `ValueError` with what it expected. An option without a reader, or
        a value that its reader refuses, is a `BackendURLError` that lists the valid options.
        """
        valid = ", ".join(sorted(readers)) or "none"
        values: dict[str, Any] = {}
        for name, raw in self.options.items():
            if name not in readers:
                raise BackendURLError(
                    f"the backend {self.scheme!r} has no option {name!r}; its options are: {valid}"
                )
            try:
                values[name] = readers[name](raw)
            except ValueError as error:
                raise BackendURLError(
                    f"bad value {raw!r} for the option {name!r} of the backend {self.scheme!r}: {error}; its options are: {valid}"
                ) from None
        return values

    def convert_with_retention(
        self, readers: Mapping[str, Callable[[str], Any]]
    ) -> tuple[RetentionPolicy | None, dict[str, Any]]:
        """Like `convert`, but takes the `RETENTION_OPTIONS` too and returns them as a policy, if any was given."""
        values = self.convert({**RETENTION_OPTIONS, **readers})
        limits = {name: values.pop(name) for name in RETENTION_OPTIONS if name in values}
        return (RetentionPolicy(**limits) if limits else None), values
