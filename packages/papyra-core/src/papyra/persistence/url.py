"""Backend URLs: ``scheme:path?option=value&...``."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

from papyra.exceptions import BackendURLError
from papyra.persistence.retention import RetentionPolicy
from papyra.units import count, duration, one_of, size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["RETENTION_OPTIONS", "BackendURL", "check_path", "count", "duration", "file_url", "one_of", "size"]

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")

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
        try:
            check_path(path)
        except ValueError as error:
            raise BackendURLError(f"the path of {text!r} can't be used: {error}") from None
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


def check_path(path: str) -> None:
    """Raise `ValueError` for a path that nobody means: with a NUL, with white space around it, or with a leading ``~``.

    Only a shell expands ``~``; taken as it is, it would become a folder of that name.
    """
    if "\0" in path:
        raise ValueError("it has a NUL character in it")
    if path != path.strip():
        raise ValueError(f"there is white space around it. Write {path.strip()!r}")
    if path.startswith("~"):
        home = os.path.expanduser(path)  # noqa: PTH111 - a text for the error; Path would change its spelling
        raise ValueError(f"only a shell expands '~'. Write {home if home != path else './' + path!r}")


def file_url(scheme: str, path: str, **options: object) -> str:
    """Return the backend URL of a file, as in ``json:./my%20facts?max_records=5``.

    A path that is not UTF-8 is a `BackendURLError`, because percent-decoding would give another name.
    """
    try:
        location = quote("/" + path.lstrip("/") if path.startswith("//") else path)
    except UnicodeEncodeError as error:
        raise BackendURLError(
            f"no backend URL can hold the path {path!r}: it is not UTF-8. Rename it."
        ) from error
    return f"{scheme}:{location}" + (f"?{urlencode(options)}" if options else "")
