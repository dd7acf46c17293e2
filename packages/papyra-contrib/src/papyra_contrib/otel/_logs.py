"""Log records that say which actor wrote them."""

from __future__ import annotations

import logging

from papyra import current_actor

__all__ = ["PapyraLogFilter"]


class PapyraLogFilter(logging.Filter):
    """Add ``papyra_actor`` (address), ``papyra_type`` and ``papyra_system`` to log records.

    They are empty outside of actors. Add the filter to a handler: ``handler.addFilter(PapyraLogFilter())``.
    It lets every record pass.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields."""
        actor = current_actor()
        if actor is None:
            record.papyra_actor = record.papyra_type = record.papyra_system = ""
        else:
            kind = actor._cell.actor_type
            record.papyra_actor = str(actor.address)
            record.papyra_type = kind.__name__ if kind is not None else ""
            record.papyra_system = actor.address.system
        return True
