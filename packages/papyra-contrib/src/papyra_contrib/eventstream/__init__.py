"""Events for all actors that want them: publish and subscribe by class, inside one system."""

from papyra_contrib.eventstream._fact_hooks import FactHooks
from papyra_contrib.eventstream._stream import EventStream
from papyra_contrib.eventstream._subscriber import Missed, Overflow

__all__ = ["EventStream", "FactHooks", "Missed", "Overflow"]
