"""The endpoints ``livez``, ``readyz``, ``healthz`` and ``metrics``, as ASGI applications."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from papyra_contrib._printable import printable
from papyra_contrib.asgi._config import warn_of_scan
from papyra_contrib.asgi._health import health_of
from papyra_contrib.asgi._responses import allows, query_of, send_json, send_text, wants_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from papyra import ActorSystem
    from papyra.persistence.startup import PersistenceStartupConfig
    from papyra_contrib.asgi._health import CheckResult, Health
    from papyra_contrib.asgi._scope import Receive, Scope, Send

__all__ = ["answer_not_running", "answer_readyz", "healthz", "livez", "metrics", "readyz"]

_SIGNS = {"ok": "+", "warn": "!", "fail": "-"}
_WORDS = {"ok": "ok", "warn": "warning", "fail": "failed"}


async def livez(scope: Scope, receive: Receive, send: Send, *, system: ActorSystem) -> None:
    """Answer 200 while the system runs, else 503: only a restart of the process helps then."""
    if not await allows(scope, send):
        return
    state = system.state
    status, text = (200, "ok") if state == "running" else (503, state)
    if wants_json(scope, query_of(scope)):
        answer = {"status": "ok" if status == 200 else "fail", "system_id": system.system_id, "state": state}
        await send_json(scope, send, status, answer)
    else:
        await send_text(scope, send, status, text)


async def readyz(scope: Scope, receive: Receive, send: Send, *, system: ActorSystem) -> None:
    """Answer 200 while the system can take requests, else 503.

    ``?verbose`` lists the checks, ``?exclude=NAME`` leaves one out, ``?format=json`` or an ``Accept`` header
    gives JSON.
    """
    await answer_readyz(scope, send, system, health_of(system))


async def healthz(
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    system: ActorSystem,
    mode: str = "checks",
    startup_config: PersistenceStartupConfig | None = None,
) -> None:
    """Answer as `readyz` does.

    ``mode`` and ``startup_config`` are parameters of Papyra 0.3, and have no effect.
    """
    warn_of_scan(mode)
    await answer_readyz(scope, send, system, health_of(system))


async def metrics(
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    system: ActorSystem,
    format: str = "auto",  # noqa: A002 - its name in Papyra 0.3
) -> None:
    """Answer with the system's metrics: for Prometheus if prometheus-client is installed, else as JSON."""
    if format == "prometheus" or (format == "auto" and find_spec("prometheus_client") is not None):
        from papyra_contrib.prometheus import metrics_app  # imported here: it needs another extra

        await metrics_app(system)(scope, receive, send)
    elif await allows(scope, send):
        await send_json(scope, send, 200, (await system.sample()).to_dict())


async def answer_not_running(scope: Scope, send: Send) -> None:
    """Answer 503, because the lifespan that makes the system does not run."""
    if not await allows(scope, send):
        return
    text = "not running: the lifespan of the application did not run, or it has ended"
    if wants_json(scope, query_of(scope)):
        await send_json(scope, send, 503, {"status": "fail", "state": text})
    else:
        await send_text(scope, send, 503, text)


async def answer_readyz(scope: Scope, send: Send, system: ActorSystem, health: Health) -> None:
    """Answer with the results of ``health``."""
    if not await allows(scope, send):
        return
    query = query_of(scope)
    results = [result for result in await health.results() if result.name not in query.get("exclude", ())]
    worst = max((result.status for result in results), key=("ok", "warn", "fail").index, default="ok")
    status = 503 if worst == "fail" else 200
    if wants_json(scope, query):
        await send_json(scope, send, status, _as_json(system, worst, results))
    elif "verbose" in query or status == 503:
        lines = [_line(result) for result in results]
        await send_text(scope, send, status, "\n".join([*lines, "ok" if status == 200 else "not ready"]))
    else:
        await send_text(scope, send, status, "ok")


def _as_json(system: ActorSystem, worst: str, results: Sequence[CheckResult]) -> dict[str, object]:
    checks = [
        {
            "name": result.name,
            "status": result.status,
            "detail": result.detail,
            "seconds": round(result.seconds, 6),
        }
        for result in results
    ]
    return {"status": worst, "system_id": system.system_id, "checks": checks}


def _line(result: CheckResult) -> str:
    text = f"[{_SIGNS[result.status]}]{result.name} {_WORDS[result.status]}"
    return f"{text}: {printable(' '.join(result.detail.split()))}" if result.detail else text
