"""Publish and subscribe inside one system, by the class of an event."""

from papyra_contrib.eventstream._fact_hooks import FactHooks
from papyra_contrib.eventstream._stream import EventStream
from papyra_contrib.eventstream._subscriber import Missed, Overflow

__all__ = ["EventStream", "FactHooks", "Missed", "Overflow"]
