"""Traces, metrics and log fields of actor systems for OpenTelemetry.

`PapyraTracing` continues traces through actors; `PapyraMeters` reads a system's numbers; the plugin ``otel``
is both. Both need the extra ``otel`` (the API alone). `PapyraLogFilter` needs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from papyra_contrib.otel._logs import PapyraLogFilter

if TYPE_CHECKING:
    from papyra_contrib.otel._meters import PapyraMeters
    from papyra_contrib.otel._tracing import PapyraTracing

__all__ = ["PapyraLogFilter", "PapyraMeters", "PapyraTracing"]


def __getattr__(name: str) -> object:
    # Not above: the log filter works where OpenTelemetry is not installed.
    if name == "PapyraMeters":
        from papyra_contrib.otel._meters import PapyraMeters

        return PapyraMeters
    if name == "PapyraTracing":
        from papyra_contrib.otel._tracing import PapyraTracing

        return PapyraTracing
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
