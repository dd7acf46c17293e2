"""The phases of an actor's life, and the transitions between them.

`enter` is the only place that assigns a cell's phase. `TRANSITIONS` says which phases may follow each phase;
`enter_checked` enforces it and replaces `enter` in the tests of the runtime. The table is also on the page
"The runtime" of the design documentation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from papyra._runtime.cell import Cell

__all__ = [
    "BACKING_OFF",
    "DRAINING",
    "NAMES",
    "RESTARTING_CHILDREN",
    "RESTARTING_STOP",
    "RUNNING",
    "STARTING",
    "STATES",
    "STOPPED",
    "STOPPING",
    "STOPPING_CHILDREN",
    "SUSPENDED",
    "TRANSITIONS",
    "enter",
    "enter_checked",
]

# In the order of a life. Plain ints, because they are compared in every turn.
STARTING: Final = 0  # on_start of a new instance is due or running
RUNNING: Final = 1
SUSPENDED: Final = 2  # failed; the parent's on_child_failure decides
RESTARTING_STOP: Final = 3  # restart: on_stop of the old instance is due or running
RESTARTING_CHILDREN: Final = 4  # restart: waits for its children to stop
BACKING_OFF: Final = 5  # restart: waits for the backoff to end
DRAINING: Final = 6  # stop: refuses new messages, handles the queued ones
STOPPING_CHILDREN: Final = 7  # stop: waits for its children to stop
STOPPING: Final = 8  # stop: on_stop is due or running
STOPPED: Final = 9

NAMES: Final = (
    "STARTING",
    "RUNNING",
    "SUSPENDED",
    "RESTARTING_STOP",
    "RESTARTING_CHILDREN",
    "BACKING_OFF",
    "DRAINING",
    "STOPPING_CHILDREN",
    "STOPPING",
    "STOPPED",
)

STATES: Final = (
    "starting",
    "active",
    "failed",
    "restarting",
    "restarting",
    "restarting",
    "stopping",
    "stopping",
    "stopping",
    "stopped",
)
"""What `ActorInfo.state` calls each phase."""

TRANSITIONS: Final[dict[int, tuple[int, ...]]] = {
    STARTING: (RUNNING, SUSPENDED, RESTARTING_STOP, DRAINING, STOPPING_CHILDREN, STOPPED),
    RUNNING: (SUSPENDED, RESTARTING_STOP, DRAINING, STOPPING_CHILDREN, STOPPING, STOPPED),
    SUSPENDED: (RUNNING, RESTARTING_STOP, DRAINING, STOPPING_CHILDREN, STOPPED),
    RESTARTING_STOP: (RESTARTING_CHILDREN, STOPPING_CHILDREN, STOPPED),
    RESTARTING_CHILDREN: (BACKING_OFF, STOPPING_CHILDREN, STOPPED),
    BACKING_OFF: (STARTING, SUSPENDED, RESTARTING_STOP, STOPPING_CHILDREN, STOPPED),
    DRAINING: (SUSPENDED, RESTARTING_STOP, STOPPING_CHILDREN, STOPPED),
    STOPPING_CHILDREN: (STOPPING, STOPPED),
    STOPPING: (STOPPED,),
    STOPPED: (),
}
"""The phases that may follow each phase. Any of them may end in STOPPED: an actor that ignores cancellation
counts as stopped, and so does every actor whose event loop has ended."""


def enter(cell: Cell, phase: int) -> None:
    """Move ``cell`` to ``phase``. Callers use ``phases.enter``, so that tests can replace it."""
    cell.phase = phase


def enter_checked(cell: Cell, phase: int) -> None:
    """Move ``cell`` to ``phase``, or raise `AssertionError` if the table has no such transition."""
    if phase not in TRANSITIONS[cell.phase]:
        raise AssertionError(f"actor {cell} can't go from {NAMES[cell.phase]} to {NAMES[phase]}")
    cell.phase = phase
