"""The thin door to `papyra_json`: the one documented path that core keeps for another distribution.

``from papyra.persistence.json import JsonFilePersistence`` hands on what ``papyra-json`` brings.
"""

from __future__ import annotations

try:
    from papyra_json import JsonFilePersistence, RotatingFilePersistence
except ModuleNotFoundError as error:
    if error.name != "papyra_json":
        raise  # papyra-json is there; something that it needs is not, and its own message says what
    raise ImportError(
        "JSON files are the distribution papyra-json, which is not installed: pip install papyra-json"
    ) from error

__all__ = ["JsonFilePersistence", "RotatingFilePersistence"]
