"""Traces that continue through actors."""

from __future__ import annotations

import sys
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    Link,
    NonRecordingSpan,
    SpanKind,
    Status,
    StatusCode,
    get_current_span,
    set_span_in_context,
)

from papyra._version import __version__
from papyra.instruments import Instrument
from papyra_contrib.otel import _names as names

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.trace import Span, SpanContext, TracerProvider

    from papyra import ActorSystem
    from papyra.instruments import Target

__all__ = ["PapyraTracing"]

_SAMPLED = trace.TraceFlags.SAMPLED


class _Mark:
    """What travels with a traced message."""

    __slots__ = ("asking", "asks", "message_type", "origin", "processing", "sent", "token")

    def __init__(self, origin: SpanContext, message: object, asks: bool, asking: Span | None) -> None:
        self.origin = origin
        self.asks = asks
        self.asking = asking  # the span of the ask, until its reply
        self.message_type = type(message).__name__
        self.sent = time.perf_counter()
        self.processing: Span | None = None
        self.token: Any = None


class PapyraTracing(Instrument):
    """Continue sampled traces through actors.

    A trace begins at the edge of the application, with a request or a job; messages outside of a sampled
    trace get no span, except that ``roots=n`` begins a trace for every n-th of them. ``spans="all"`` makes
    spans ``ask T`` and ``tell T`` for sending beside ``process T``, where T is the actor's type;
    ``"process"`` only the last. ``relation="link"`` lets a tell begin a trace of its own that links back, for
    chains that never end. ``tells=False`` traces asks alone and leaves ``tell`` at full speed.
    ``tracer_provider`` is the global one unless given. No span holds anything of a message but the name of
    its type.
    """

    def __init__(
        self,
        *,
        spans: Literal["all", "process"] = "all",
        relation: Literal["child", "link"] = "child",
        tells: bool = True,
        roots: int = 0,
        tracer_provider: TracerProvider | None = None,
    ) -> None:
        if spans not in ("all", "process"):
            raise ValueError(f"spans must be 'all' or 'process', not {spans!r}")
        if relation not in ("child", "link"):
            raise ValueError(f"relation must be 'child' or 'link', not {relation!r}")
        if not roots >= 0:
            raise ValueError(f"roots must be a number of sends, or 0 for no trace, not {roots!r}")
        self._sends = spans == "all"
        self._links = relation == "link"
        self._tells = tells
        self._roots = roots
        self._until_root = roots
        # What `get_current` calls in the end, without the calls: it is due for each send.
        runtime_context = getattr(otel_context, "_RUNTIME_CONTEXT", otel_context)
        variable: Any = getattr(runtime_context, "_current_context", None)
        read_variable: Any = getattr(variable, "get", None)
        self._current: Callable[[], Context] = (
            read_variable if type(variable) is ContextVar else runtime_context.get_current
        )
        self._continues = tells and not roots
        self._tracer = trace.get_tracer(
            names.SCOPE, __version__, tracer_provider, schema_url=names.SCHEMA_URL
        )

    def started(self, system: ActorSystem) -> None:
        """Clear the context that every actor begins with.

        A span in which the system was started ends long before it.
        """
        attach(Context())

    def send(self, target: Target, message: object, asks: bool) -> tuple[object, int]:
        """Begin the span of a send, if it is in a sampled trace."""
        context = self._current()
        if not context and self._continues:  # the common case
            return None, 1
        if not (asks or self._tells):
            return None, sys.maxsize
        if not context and not self._roots:
            return None, 1
        origin = get_current_span(context).get_span_context()
        if not origin.trace_flags & _SAMPLED:
            if origin.is_valid or not self._is_root():
                return None, 1
            origin = INVALID_SPAN_CONTEXT
        if not self._sends:
            return _Mark(origin, message, asks, None), 1
        kind, verb = (SpanKind.CLIENT, "ask") if asks else (SpanKind.PRODUCER, "tell")
        span = self._tracer.start_span(
            f"{verb} {_type_of(target)}",
            kind=kind,
            attributes=self._about(target, verb, names.TYPE_SEND, message),
        )
        mark = _Mark(span.get_span_context(), message, asks, span if asks else None)
        if not asks:
            span.end()
        return mark, 1

    def _is_root(self) -> bool:
        if not self._roots:
            return False
        self._until_root -= 1
        if self._until_root > 0:
            return False
        self._until_root = self._roots
        return True

    def begin(self, target: Target, mark: Any) -> None:
        """Begin the span of handling a message, and make it the current one."""
        attributes = self._about(target, "process", names.TYPE_PROCESS, None)
        attributes[names.MESSAGE_TYPE] = mark.message_type
        attributes[names.MAILBOX_WAIT] = time.perf_counter() - mark.sent
        context = Context()
        if mark.origin.is_valid and (mark.asks or not self._links):
            context = set_span_in_context(NonRecordingSpan(mark.origin), context)
        mark.processing = self._tracer.start_span(
            f"process {_type_of(target)}",
            context,
            kind=SpanKind.CONSUMER,
            attributes=attributes,
            links=[Link(mark.origin)] if mark.origin.is_valid else None,
        )
        mark.token = attach(set_span_in_context(mark.processing, Context()))

    def end(self, target: Target, mark: Any, error: BaseException | None) -> None:
        """End it, and clear the context of the actor's task."""
        detach(mark.token)
        _finish(mark.processing, error)

    def replied(self, target: Target, mark: Any, error: BaseException | None) -> None:
        """End the span of an ask."""
        if mark.asking is not None:
            _finish(mark.asking, error)

    def _about(self, target: Target, verb: str, kind: str, message: object) -> dict[str, str | float]:
        attributes: dict[str, str | float] = {
            names.SYSTEM: names.PAPYRA,
            names.OPERATION_NAME: verb,
            names.OPERATION_TYPE: kind,
            names.DESTINATION: _type_of(target),
            names.ACTOR_ADDRESS: str(target.address),
            names.MESSAGE_TYPE: type(message).__name__,
        }
        if target.name is not None:
            attributes[names.ACTOR_NAME] = target.name
        return attributes


def _finish(span: Span, error: BaseException | None) -> None:
    if error is not None:
        span.set_status(Status(StatusCode.ERROR))
        span.set_attribute(names.ERROR_TYPE, _error_type(error))
    span.end()


def _error_type(error: BaseException) -> str:
    kind = type(error)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _type_of(target: Target) -> str:
    kind = target.actor_type
    return kind.__name__ if kind is not None else "Actor"
