"""A dashboard of a running system or of its record: an ASGI application, and the command for it."""

from papyra_contrib.dashboard._app import Dashboard
from papyra_contrib.dashboard._record_source import RecordSource
from papyra_contrib.dashboard._source import Source, SourceGone, SourceRefused
from papyra_contrib.dashboard._system_sources import LiveSource, SocketSource

__all__ = [
    "Dashboard",
    "LiveSource",
    "RecordSource",
    "SocketSource",
    "Source",
    "SourceGone",
    "SourceRefused",
]
