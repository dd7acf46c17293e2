"""``nats://[user[:password]@]host:port[,host:port]/CLUSTER?creds=&tls_ca=&tls_cert=&tls_key=&replicas=1&lease=3``."""

from __future__ import annotations

import ipaddress
import re
import ssl
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from papyra.exceptions import BackendURLError
from papyra.persistence.url import BackendURL

__all__ = ["NatsURL"]

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FORM = re.compile(r"nats:(?://)(?:(?P<login>[^@/]*)@)?(?P<hosts>[^@/?]*)/(?P<rest>[^/?]*(?:\?.*)?)")
_DEFAULT_PORT = 4222
_HINT = "write 'nats://HOST:PORT/CLUSTER', as in 'nats://127.0.0.1:4222/shop'"


def _seconds(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 2 <= int(text) <= 120):
        raise ValueError("whole seconds from 2 to 120")
    return int(text)


def _replicas(text: str) -> int:
    if text not in ("1", "3", "5"):
        raise ValueError("1, 3 or 5")
    return int(text)


@dataclass(frozen=True, slots=True)
class NatsURL:
    """A parsed URL. No ``repr`` and no error shows its secrets."""

    hosts: tuple[str, ...]
    cluster: str
    user: str = field(repr=False)
    password: str | None = field(repr=False)
    creds: str | None
    tls_ca: str | None
    tls_cert: str | None
    tls_key: str | None = field(repr=False)
    replicas: int
    lease: int | None

    @classmethod
    def parse(cls, url: str) -> NatsURL:
        """Read ``url``; a `BackendURLError` says what is malformed."""
        match = _FORM.fullmatch(url)
        if match is None:
            raise BackendURLError(f"not the URL of a NATS cluster; {_HINT}")
        safe = BackendURL.parse(f"nats:{match['rest']}")
        if not _NAME.fullmatch(safe.path):
            raise BackendURLError(
                f"the name of a cluster must have 1 to 64 letters, digits, '_' or '-', not {safe.path!r}; {_HINT}"
            )
        values: dict[str, Any] = safe.convert(
            {
                "creds": str,
                "tls_ca": str,
                "tls_cert": str,
                "tls_key": str,
                "replicas": _replicas,
                "lease": _seconds,
            }
        )
        user, colon, password = (match["login"] or "").partition(":")
        return cls(
            tuple(_host(host) for host in match["hosts"].split(",")),
            safe.path,
            unquote(user),
            unquote(password) if colon else None,
            values.get("creds"),
            values.get("tls_ca"),
            values.get("tls_cert"),
            values.get("tls_key"),
            values.get("replicas", 1),
            values.get("lease"),
        )

    @property
    def has_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.tls_ca is not None or self.tls_cert is not None

    @property
    def is_exposed(self) -> bool:
        """Whether messages cross a network unencrypted."""
        return not self.has_tls and not all(map(_is_loopback, self.hosts))

    def options(self) -> dict[str, Any]:
        """Return the options of a connection that depend on the URL."""
        scheme = "tls" if self.has_tls else "nats"
        options: dict[str, Any] = {"servers": [f"{scheme}://{host}" for host in self.hosts]}
        if self.user and self.password is None:
            options["token"] = self.user
        elif self.user:
            options |= {"user": self.user, "password": self.password}
        if self.creds is not None:
            options["user_credentials"] = self.creds
        if self.has_tls:
            context = ssl.create_default_context(cafile=self.tls_ca)
            if self.tls_cert is not None:
                context.load_cert_chain(self.tls_cert, self.tls_key)
            options["tls"] = context
        return options


def _is_loopback(host: str) -> bool:
    name = host.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:  # a name
        return name == "localhost"


def _host(text: str) -> str:
    host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if not colon:
        host, port = text, str(_DEFAULT_PORT)
    if not host or not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise BackendURLError(f"{text!r} is not a host and port; {_HINT}")
    return f"{host}:{port}"
