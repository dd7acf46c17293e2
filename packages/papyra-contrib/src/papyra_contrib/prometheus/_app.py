"""A scrape target as an ASGI application."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio.lowlevel
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from papyra.exceptions import SystemNotRunning
from papyra_contrib.prometheus._collector import look_at, unique_names
from papyra_contrib.prometheus._families import families
from papyra_contrib.prometheus._siblings import look_at_siblings, without_doubles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, MutableMapping

    from papyra import ActorSystem

__all__ = ["metrics_app"]

_EOF = b"# EOF\n"


PART_SAMPLES = 200
"""Samples that are written before a yield to the event loop: about half a millisecond."""


class _Part(Collector):
    """Some samples of a family, as a collector, because encoders take only collectors."""

    def __init__(self, family: Metric, *, first: bool) -> None:
        self._family = family
        self.first = first

    def collect(self) -> Iterable[Metric]:
        return (self._family,)


def _parts(family: Metric) -> Iterator[_Part]:
    samples = family.samples
    for start in range(0, max(len(samples), 1), PART_SAMPLES):
        part = Metric(family.name, family.documentation, family.type, family.unit)
        part.samples = samples[start : start + PART_SAMPLES]
        yield _Part(part, first=start == 0)


def _without_comments(text: bytes) -> bytes:
    """Remove the help and the type, which come once before a family."""
    return b"".join(line for line in text.splitlines(keepends=True) if not line.startswith(b"# "))


def metrics_app(
    system: ActorSystem | Callable[[], ActorSystem], *, names: Iterable[str] = (), siblings: bool = False
) -> Callable[..., Any]:
    """Return an ASGI application that answers with the metrics of ``system``.

    ``system`` may be a function that returns it, because a web application makes its system at each start.
    While that raises `LookupError`, and before the system's start, the answer is 503.

    The format is that of the ``Accept`` header: OpenMetrics, or Prometheus' text. It reads the actors in
    slices and writes one family at a time, so a scrape holds the event loop for at most a millisecond or two
    at a time.

    With ``siblings=True`` it also asks the other systems of this user that have an admin socket, side by
    side, a second each, and every series has the label ``pid``: one target for all workers of a web server. A
    system that does not answer is left out, and named in the log once.
    """
    named = unique_names(names)

    async def app(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise ValueError(f"metrics are served over HTTP only, not {scope['type']!r}")
        if scope["method"] not in ("GET", "HEAD"):
            await _respond(scope, send, 405, b"method not allowed\n", "text/plain; charset=utf-8")
            return
        accept = b",".join(value for name, value in scope["headers"] if name.lower() == b"accept").decode(
            "latin-1"
        )
        encode, content_type = choose_encoder(accept)
        try:
            found = system() if callable(system) else system
            looks = [look_at(found, await found.sample(), named)]
        except (LookupError, SystemNotRunning):
            await _respond(scope, send, 503, b"the system does not run yet\n", "text/plain; charset=utf-8")
            return
        if siblings:
            own = replace(looks[0], pid=str(os.getpid()))
            looks = without_doubles([own, *await look_at_siblings(found, named)])
        body: list[bytes] = []
        for family in families(looks):
            for part in _parts(family):
                text = encode(part).removesuffix(_EOF)
                body.append(text if part.first else _without_comments(text))
                await anyio.lowlevel.checkpoint()
        if "openmetrics" in content_type:
            body.append(_EOF)
        await _respond(scope, send, 200, b"".join(body), content_type)

    return app


async def _respond(
    scope: MutableMapping[str, Any], send: Any, status: int, body: bytes, content_type: str
) -> None:
    headers = {"content-type": content_type, "content-length": str(len(body)), "cache-control": "no-store"}
    if status == 405:
        headers["allow"] = "GET, HEAD"
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
