"""For programs with signal handlers of their own: interrupt an actor that computes."""

from papyra._runtime.process.interrupts import interrupt_actor

__all__ = ["interrupt_actor"]
