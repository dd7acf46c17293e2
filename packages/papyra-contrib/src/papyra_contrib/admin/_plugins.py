"""The installed plugins as rows of plain data."""

from __future__ import annotations

from typing import Any

from papyra.plugins import all_plugins

__all__ = ["plugin_rows"]


def plugin_rows() -> list[dict[str, Any]]:
    """Return the installed plugins. This reads the metadata of every distribution, which takes a while."""
    return [
        {
            "group": plugin.group,
            "name": plugin.name,
            "distribution": plugin.distribution,
            "version": plugin.version,
            "status": f"shadowed by {plugin.shadowed_by}"
            if plugin.shadowed_by
            else "disabled"
            if plugin.disabled
            else "",
        }
        for plugin in all_plugins()
    ]
