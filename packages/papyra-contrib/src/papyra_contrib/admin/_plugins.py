"""The installed plugins as rows of plain data."""

from __future__ import annotations

from typing import Any

from papyra.plugins import all_plugins

__all__ = ["plugin_rows"]


def plugin_rows() -> list[dict[str, Any]]:
    """Return the installed plugins; it reads the metadata of every distribution, which takes a while."""
    return [
        {
            "group": one.group,
            "name": one.name,
            "distribution": one.distribution,
            "version": one.version,
            "status": f"shadowed by {one.shadowed_by}"
            if one.shadowed_by
            else "disabled"
            if one.disabled
            else "",
        }
        for one in all_plugins()
    ]
