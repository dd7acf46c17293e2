"""The keys of the registry: ``n.NODE``, ``s.SERVICE.NODE.ID`` and ``a.NAME``, escaped with ``=XX``."""

from __future__ import annotations

import re

__all__ = ["escape", "name_key", "node_key", "service_key", "unescape"]

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")
_ESCAPED = re.compile(r"(?:=[0-9A-F]{2})+")


def escape(text: str) -> str:
    """Write ``text`` as one token of a key."""
    return _UNSAFE.sub(lambda match: "".join(f"={byte:02X}" for byte in match[0].encode("utf-8")), text)


def unescape(token: str) -> str:
    """Undo `escape`; bytes that are not UTF-8 become replacement characters."""
    return _ESCAPED.sub(
        lambda match: bytes.fromhex(match[0].replace("=", "")).decode("utf-8", "replace"), token
    )


def node_key(node: str) -> str:
    """Return the key of a node's lease."""
    return f"n.{node}"


def service_key(name: str, node: str, actor_id: int) -> str:
    """Return the key of one actor under a service."""
    return f"s.{escape(name)}.{node}.{actor_id}"


def name_key(name: str) -> str:
    """Return the key of a unique name."""
    return f"a.{escape(name)}"
