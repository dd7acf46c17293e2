"""A Unix socket through which tools of the same user look at a running system.

``papyra top``, ``papyra tree`` and the dashboard use it.
"""

from papyra_contrib.admin._server import AdminSocket

__all__ = ["AdminSocket"]
