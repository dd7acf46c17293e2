"""The checks of a request before anything is done for it: who may look, and from where."""

from __future__ import annotations

import hashlib
import hmac
import inspect
import secrets
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from starlette.requests import Request

__all__ = ["HEADERS", "LOCAL_HOSTS", "Gate", "Open", "Refused"]

LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
"""Headers of every response."""


class Open:
    """The type of `Dashboard.OPEN`."""

    def __repr__(self) -> str:
        return "Dashboard.OPEN"


class Refused(Exception):
    """A request that is refused, with its status and a text for the person.

    With status 405, ``allow`` has the methods that are possible.
    """

    def __init__(self, status: int, text: str, *, allow: str = "GET, HEAD") -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.allow = allow


class Gate:
    """Admits requests: to a known host, not from another site, with the token or a permission."""

    def __init__(
        self,
        token: str | None,
        authorize: Callable[[Request], bool | Awaitable[bool]] | Open | None,
        allowed_hosts: Iterable[str],
    ) -> None:
        self._token = token
        self._authorize = authorize
        self._hosts = frozenset(host.casefold() for host in allowed_hosts)
        secret = token.encode() if token is not None else secrets.token_bytes(32)
        self.cookie_name = f"papyra-{_derived(secret, 'cookie name')[:12]}"
        """A cookie is sent to every port of a host, so two dashboards need two names."""
        self.cookie = _derived(secret, "cookie")
        self.action_token = _derived(secret, "actions")
        """A page sends it with an action. A page of another site can't read it."""

    def check_place(self, request: Request) -> None:
        """Refuse a request to an unknown host name, or one that another site sent."""
        host = request.headers.get("host", "")
        if "*" not in self._hosts and _without_port(host).casefold() not in self._hosts:
            raise Refused(
                400,
                "This host name is not known. An application that mounts the dashboard passes its own: "
                "Dashboard(..., allowed_hosts=['shop.example.com']).",
            )
        origin = request.headers.get("origin")
        if origin is not None and (not host or _host_of(origin).casefold() != host.casefold()):
            raise Refused(403, "Another site has sent this request.")
        site = request.headers.get("sec-fetch-site", "none")
        followed_link = (
            request.method in ("GET", "HEAD") and request.headers.get("sec-fetch-mode") == "navigate"
        )
        if site not in ("none", "same-origin") and not followed_link:
            raise Refused(403, "Another site has sent this request.")

    async def check_person(self, request: Request) -> None:
        """Refuse a request without the token, or one that the application does not authorize."""
        if self._token is not None and not self._has_token(request):
            raise Refused(
                401,
                "Open the first page of the dashboard with ?token=... in its address: the token that "
                "`papyra dashboard` printed, or that the application gave to Dashboard(token=...).",
            )
        authorize = self._authorize
        if authorize is None or isinstance(authorize, Open):
            return
        allowed = authorize(request)
        if inspect.isawaitable(allowed):
            allowed = await allowed
        if allowed is not True:
            raise Refused(403, "You are not allowed to look at this system.")

    def _has_token(self, request: Request) -> bool:
        cookie = request.cookies.get(self.cookie_name)
        if cookie is not None and _equal(cookie, self.cookie):
            return True
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.casefold() == "bearer" and self.is_token(given.strip()):
            return True
        return self.is_token(request.headers.get("x-papyra-token", ""))

    def is_token(self, given: str) -> bool:
        """Return whether a text is the token."""
        return self._token is not None and _equal(given, self._token)

    def check_action(self, request: Request) -> None:
        """Refuse an action that a page of this dashboard did not send."""
        if request.headers.get("sec-fetch-site") != "same-origin":
            raise Refused(403, "An action needs the header Sec-Fetch-Site: same-origin, as browsers send it.")
        given = request.headers.get("x-papyra-token", "")
        if not (_equal(given, self.action_token) or self.is_token(given)):
            raise Refused(403, "An action needs the header X-Papyra-Token.")


def _derived(secret: bytes, purpose: str) -> str:
    return hmac.new(secret, f"papyra dashboard {purpose}".encode(), hashlib.sha256).hexdigest()


def _equal(text: str, secret: str) -> bool:
    return hmac.compare_digest(
        text.encode("utf-8", "surrogateescape"), secret.encode("utf-8", "surrogateescape")
    )


def _host_of(origin: str) -> str:
    """Return the host and port of an origin; an empty text for one that is not a URL."""
    try:
        return urlsplit(origin).netloc
    except ValueError:  # as of http://[
        return ""


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def check_arguments(token: Any, authorize: Any) -> None:
    """Raise for a dashboard that is open to everybody, unless that was explicitly asked for."""
    if token is None and authorize is None:
        raise ValueError(
            "a dashboard needs token= or authorize=: it shows the names and errors of a system. Pass "
            "authorize=Dashboard.OPEN if everybody who reaches the application may see them"
        )
    if token is not None and (not isinstance(token, str) or len(token) < MIN_TOKEN_CHARS):
        raise ValueError(
            f"token must be a string of at least {MIN_TOKEN_CHARS} characters, for example from "
            "secrets.token_urlsafe()"
        )
    if authorize is not None and not isinstance(authorize, Open) and not callable(authorize):
        raise TypeError(f"authorize must be a function of the request or Dashboard.OPEN, not {authorize!r}")


MIN_TOKEN_CHARS = 16
