"""Backend URLs: ``scheme:path?option=value&...``."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode

from papyra.exceptions import BackendURLError
from papyra.persistence.retention import RetentionPolicy
from papyra.units import count, duration, one_of, size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "RETENTION_OPTIONS",
    "BackendURL",
    "check_path",
    "count",
    "duration",
    "file_url",
    "is_scheme",
    "masked",
    "one_of",
    "size",
]

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")

RETENTION_OPTIONS: Mapping[str, Callable[[str], Any]] = {
    "max_records": count,
    "max_age_seconds": duration,
    "max_total_bytes": size,
}
"""The options of a `RetentionPolicy`, as every backend takes them in its URL."""


def is_scheme(word: str) -> bool:
    """Return whether a word can be the scheme of a URL."""
    return _SCHEME.fullmatch(word) is not None


_USER_AND_PASSWORD = re.compile(r"(//[^/@:?#]*:).*@", re.DOTALL)
_PASSWORD_WITHOUT_SLASHES = re.compile(r"([^:/]*:)(?!//)(?![./~])([^/@:]*:)?.*@", re.DOTALL)
_SECRET_OPTION = re.compile(r"([?&][^=&]*(?:passw|pwd|secret|token)[^=&]*=)[^&]*", re.IGNORECASE)


def masked(url: str) -> str:
    """Return a URL with ``***`` in place of its password and secret options, however malformed it is.

    A password may hold any character that should have been percent-encoded, so all up to the last ``@`` is
    masked.
    """
    if "//" in url:
        url = _USER_AND_PASSWORD.sub(r"\1***@", url, count=1)
    elif match := _PASSWORD_WITHOUT_SLASHES.match(url):
        url = f"{match[1]}{match[2] or ''}***@{url[match.end() :]}"
    return _SECRET_OPTION.sub(r"\1***", url)


@dataclass(frozen=True, slots=True, repr=False)
class BackendURL:
    """The parts of a backend URL.

    Examples are ``json:./papyra.ndjson?max_records=9`` and ``redis://user:password@host/0``.

    ``path`` is everything between the scheme and the ``?``, percent-decoded, without a user and password; an
    empty authority (``json:///var/x``) is left out of it. After ``//`` come ``user``, ``password``, ``host``,
    ``port`` and ``database``, each percent-decoded by itself and None if the URL does not have it.
    ``options`` are strings yet: `convert` reads them. Its ``str`` and ``repr`` mask the password.
    """

    text: str
    scheme: str
    path: str
    options: Mapping[str, str]
    user: str | None = None
    password: str | None = None
    host: str | None = None
    port: int | None = None
    database: str | None = None

    def __str__(self) -> str:
        return masked(self.text)

    def __repr__(self) -> str:
        return f"BackendURL({masked(self.text)!r})"

    @classmethod
    def parse(cls, text: str) -> BackendURL:
        """Split ``text``; a `BackendURLError` says what is malformed."""
        scheme, colon, rest = text.partition(":")
        if not colon or not _SCHEME.fullmatch(scheme):
            raise BackendURLError(
                f"not a backend URL: {masked(text)!r} has no scheme; write 'scheme:path', as in 'json:./papyra.ndjson' or 'memory:'"
            )
        location, _, query = rest.partition("?")
        userinfo, at, shown = "", "", location
        if location.startswith("//") and not location.startswith("///"):
            authority, slash, database = location[2:].partition("/")
            userinfo, at, address = authority.rpartition("@")
            shown = f"//{address}{slash}{database}"
            server = _server(text, address, database if slash else None)
        else:
            server = _Server(None, None, location[3:] if location.startswith("///") else None)
        options = _options(text, query)
        user, colon, password = userinfo.partition(":")
        path = _decoded(text, shown.removeprefix("//") if shown.startswith("///") else shown, "path")
        try:
            check_path(path)
        except ValueError as error:
            # A path with '@' and ':' may hold a password.
            problem = f": {error}" if not {"@", ":"} <= set(path) else ""
            raise BackendURLError(f"the path of {masked(text)!r} can't be used{problem}") from None
        return cls(
            text,
            scheme,
            path,
            options,
            _decoded(text, user, "user") if at and user else None,
            _decoded(text, password, "password") if colon else None,
            _decoded(text, server.host, "host") if server.host else None,
            server.port,
            _decoded(text, server.database, "database") if server.database else None,
        )

    def convert(self, readers: Mapping[str, Callable[[str], Any]]) -> dict[str, Any]:
        """Read every option with the reader of its name.

        A reader takes a string and raises `ValueError` with what it expected. An option without a reader, or
        a value that its reader refuses, is a `BackendURLError` that lists the valid options.
        """
        valid = ", ".join(sorted(readers)) or "none"
        values: dict[str, Any] = {}
        for name, raw in self.options.items():
            if name not in readers and "@" in raw and self.host is not None and self.user is None:
                raise BackendURLError(f"{masked(self.text)!r} is malformed: {_ENCODE}")
            if name not in readers:
                raise BackendURLError(
                    f"the backend {self.scheme!r} has no option {name!r}; its options are: {valid}"
                )
            try:
                values[name] = readers[name](raw)
            except ValueError as error:
                raise BackendURLError(
                    f"bad value {_shown(name, raw)} for the option {name!r} of the backend {self.scheme!r}: {error}; its options are: {valid}"
                ) from None
        return values

    def convert_with_retention(
        self, readers: Mapping[str, Callable[[str], Any]]
    ) -> tuple[RetentionPolicy | None, dict[str, Any]]:
        """Like `convert`, but returns the `RETENTION_OPTIONS` too, as a policy if any was given."""
        values = self.convert({**RETENTION_OPTIONS, **readers})
        limits = {name: values.pop(name) for name in RETENTION_OPTIONS if name in values}
        return (RetentionPolicy(**limits) if limits else None), values


def check_path(path: str) -> None:
    """Raise `ValueError` for a path that can only be a mistake.

    A path has no NUL, no white space around it, and no leading ``~``. Only a shell expands ``~``; taken as it
    is, it would become a folder of that name.
    """
    if "\0" in path:
        raise ValueError("it has a NUL character in it")
    if path != path.strip():
        raise ValueError(f"there is white space around it. Write {path.strip()!r}")
    if path.startswith("~"):
        home = os.path.expanduser(path)  # noqa: PTH111 - a text for the error; Path would change its spelling
        raise ValueError(f"only a shell expands '~'. Write {home if home != path else './' + path!r}")


_ENCODE = "percent-encode '@', '/', '?' and ':' in a user or password, as in %40"


class _Server(NamedTuple):
    host: str | None
    port: int | None
    database: str | None


def _server(text: str, address: str, database: str | None) -> _Server:
    """Split ``host:port``; an IPv6 address is in brackets, and a port is a number."""
    bracketed = re.fullmatch(r"\[([^\[\]]*)\](?::(.*))?", address, re.DOTALL)
    host, port = (bracketed[1], bracketed[2] or "") if bracketed else address.partition(":")[::2]
    if port and not (port.isascii() and port.isdigit() and len(port) < 6 and int(port) < 65536):
        raise BackendURLError(
            f"{masked(text)!r} has a malformed port: a number below 65536 comes after the host's ':'; {_ENCODE}"
        )
    return _Server(host, int(port) if port else None, database)


def _options(text: str, query: str) -> dict[str, str]:
    options: dict[str, str] = {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:  # without its text, which may be a piece of a password
        raise BackendURLError(
            f"the options of {masked(text)!r} are malformed; write 'name=value&name=value'"
        ) from None
    for name, value in pairs:
        if name in options:
            raise BackendURLError(f"{masked(text)!r} gives the option {name!r} twice")
        options[name] = value
    return options


def _decoded(text: str, part: str, what: str) -> str:
    try:
        decoded = unquote(part, errors="strict")
    except UnicodeDecodeError:
        raise BackendURLError(f"the percent-encoded {what} of {masked(text)!r} is not UTF-8") from None
    if "\0" in decoded:
        raise BackendURLError(f"the {what} of {masked(text)!r} has a NUL character in it")
    return decoded


def _shown(name: str, raw: str) -> str:
    return "***" if _SECRET_OPTION.match(f"?{name}=") else repr(raw)


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
