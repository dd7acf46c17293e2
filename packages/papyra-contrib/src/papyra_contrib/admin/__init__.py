"""A socket of this user, on which a running system answers.

For ``papyra top``, ``papyra tree`` and the dashboard.
"""

from papyra_contrib.admin._server import AdminSocket

__all__ = ["AdminSocket"]
